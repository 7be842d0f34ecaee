"""Protobuf and gRPC code by the system's protoc (cc_proto_library would fetch
protobuf's sources)."""

_PROTOC = "/usr/bin/protoc"
_GRPC_PLUGIN = "/usr/bin/grpc_cpp_plugin"

def sluice_proto_library(name, src, deps = [], grpc = False, **kwargs):
    """A C++ library of one .proto file, and its descriptor set.

    The file is imported, and its header included, by its path from the workspace
    root: proto/sluice/v1/tensor.proto gives "proto/sluice/v1/tensor.pb.h".
    Targets: NAME (C++ library), NAME_proto (the .proto and all it imports),
    NAME_descriptor (NAME.desc: a FileDescriptorSet with imports and comments).

    Args:
      name: the C++ library.
      src: the .proto file of this package.
      deps: sluice_proto_library targets of the imported files.
      grpc: whether the file defines a service; adds FILE.grpc.pb.h.
      **kwargs: visibility, testonly, tags.
    """
    if not src.endswith(".proto"):
        fail("src: expected a .proto file, found " + src)
    stem = src[:-len(".proto")]
    path = native.package_name() + "/" + src
    protos = name + "_proto"
    common = {k: v for k, v in kwargs.items() if k in ["visibility", "testonly", "tags"]}

    native.filegroup(
        name = protos,
        srcs = [src] + [_proto_of(dep) for dep in deps],
        **common
    )

    headers = [stem + ".pb.h"] + ([stem + ".grpc.pb.h"] if grpc else [])
    sources = [stem + ".pb.cc"] + ([stem + ".grpc.pb.cc"] if grpc else [])
    plugin = "--plugin=protoc-gen-grpc=%s --grpc_out=$(GENDIR) " % _GRPC_PLUGIN if grpc else ""
    native.genrule(
        name = name + "_generate",
        srcs = [protos],
        outs = headers + sources,
        cmd = "%s -I. --cpp_out=$(GENDIR) %s%s" % (_PROTOC, plugin, path),
        visibility = ["//visibility:private"],
        testonly = common.get("testonly", False),
    )
    native.genrule(
        name = name + "_descriptor",
        srcs = [protos],
        outs = [name + ".desc"],
        cmd = "%s -I. --include_imports --include_source_info --descriptor_set_out=$@ %s" %
              (_PROTOC, path),
        **common
    )
    native.cc_library(
        name = name,
        srcs = sources,
        hdrs = headers,
        # Generated code is not held to our warnings.
        copts = ["-Wno-unused-parameter", "-Wno-deprecated-declarations"],
        deps = deps + ["@system//:protobuf"] + (["@system//:grpc++"] if grpc else []),
        **kwargs
    )

def _proto_of(label):
    """The NAME_proto label of a sluice_proto_library label."""
    if ":" in label:
        return label + "_proto"
    if label.startswith("//"):
        return label + ":" + label.split("/")[-1] + "_proto"
    return label + "_proto"
