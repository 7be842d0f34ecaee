"""C++ libraries of .cu files, compiled by nvcc for the architectures below.

Built only where the toolkit was found: choose such a target by
select({"//bazel:cuda_found": ..., "//conditions:default": ...}) and tag it
"manual" (the rule does so), so that //... builds it only through others.
"""

load("@local_cuda//:defs.bzl", "CUDA_HOME", "CUDA_VERSION")

# Machine code for both; PTX of the last one for what comes after it.
ARCHITECTURES = ["80", "90"]

def _gencode_flags():
    flags = [
        "-gencode arch=compute_%s,code=sm_%s" % (a, a)
        for a in ARCHITECTURES
    ]
    last = ARCHITECTURES[-1]
    return flags + ["-gencode arch=compute_%s,code=compute_%s" % (last, last)]

def _cuda_archive_impl(ctx):
    if not CUDA_HOME:
        fail("no CUDA toolkit in $CUDA_HOME or /usr/local/cuda")
    archive = ctx.actions.declare_file("lib%s.a" % ctx.label.name)
    headers = depset(transitive = [
        dep[CcInfo].compilation_context.headers
        for dep in ctx.attr.deps
    ])
    ctx.actions.run_shell(
        inputs = depset([ctx.file.src] + ctx.files.hdrs, transitive = [headers]),
        outputs = [archive],
        # The toolkit is no input: its version stands for it.
        env = {"SLUICE_CUDA_VERSION": CUDA_VERSION},
        use_default_shell_env = True,
        command = " ".join([
            "object=$(mktemp --suffix=.o) &&",
            CUDA_HOME + "/bin/nvcc -std=c++20 -O3 --expt-relaxed-constexpr",
            "-Xcompiler=-fPIC,-O2 -I.",
        ] + _gencode_flags() + [
            "-c %s -o $object &&" % ctx.file.src.path,
            "ar rcsD %s $object; status=$?; rm -f $object; exit $status" %
            archive.path,
        ]),
        mnemonic = "CudaCompile",
        progress_message = "Compiling " + ctx.file.src.short_path,
    )
    return [DefaultInfo(files = depset([archive]))]

_cuda_archive = rule(
    implementation = _cuda_archive_impl,
    attrs = {
        "src": attr.label(allow_single_file = [".cu"]),
        "hdrs": attr.label_list(allow_files = [".h"]),
        "deps": attr.label_list(providers = [CcInfo]),
    },
)

def sluice_cuda_library(name, src, hdrs = [], deps = [], **kwargs):
    """A library of one .cu file.

    Args:
      name: the library.
      src: the .cu file.
      hdrs: its headers; plain C++.
      deps: libraries whose headers it includes.
      **kwargs: visibility, testonly.
    """
    _cuda_archive(
        name = name + "_device",
        src = src,
        hdrs = hdrs,
        deps = deps,
        tags = ["manual"],
        visibility = ["//visibility:private"],
    )
    native.cc_library(
        name = name,
        srcs = [":" + name + "_device"],
        hdrs = hdrs,
        deps = deps + ["@local_cuda//:cudart"],
        linkstatic = 1,
        tags = ["manual"],
        **kwargs
    )
