"""Finds the CUDA toolkit, or records that there is none.

The repository @local_cuda always exists: its defs.bzl says CUDA_FOUND (with
CUDA_HOME and what nvcc says of its version, CUDA_VERSION), and its target //:cudart is empty where there is no toolkit. BUILD files choose with
select({"//bazel:cuda_found": ..., "//conditions:default": ...}).
"""

_FOUND_BUILD = """
package(default_visibility = ["//visibility:public"])

# A target that links the static runtime needs linkstatic = 1.
cc_library(
    name = "cudart",
    hdrs = glob([
        "cuda/include/**/*.h",
        "cuda/include/**/*.hpp",
        "cuda/include/cccl/nv/**",
    ]),
    srcs = ["cuda/lib64/libcudart_static.a"],
    includes = ["cuda/include", "cuda/include/cccl"],
    linkopts = ["-ldl", "-lpthread", "-lrt"],
    linkstatic = 1,
)
"""

_MISSING_BUILD = """
package(default_visibility = ["//visibility:public"])

cc_library(name = "cudart")
"""

def _cuda_configure_impl(repository_ctx):
    home = repository_ctx.os.environ.get("CUDA_HOME", "") or "/usr/local/cuda"
    nvcc = repository_ctx.path(home + "/bin/nvcc")
    runtime = repository_ctx.path(home + "/lib64/libcudart_static.a")
    found = nvcc.exists and runtime.exists
    version = ""
    if found:
        repository_ctx.symlink(home, "cuda")
        version = repository_ctx.execute([nvcc, "--version"]).stdout.strip()
    repository_ctx.file("BUILD.bazel", _FOUND_BUILD if found else _MISSING_BUILD)
    repository_ctx.file(
        "defs.bzl",
        "CUDA_FOUND = %s\nCUDA_HOME = %r\nCUDA_VERSION = %r\n" %
        (found, home if found else "", version.split("\n")[-1]),
    )

cuda_configure = repository_rule(
    implementation = _cuda_configure_impl,
    configure = True,
    local = True,
    environ = ["CUDA_HOME"],
)

def _bool_flag_impl(ctx):
    _ = ctx  # The value is read by config_setting alone.

# A command-line switch, set with --//bazel:NAME=true.
bool_flag = rule(
    implementation = _bool_flag_impl,
    build_setting = config.bool(flag = True),
)

def _cuda_guard_impl(ctx):
    if ctx.attr.required and not ctx.attr.found:
        fail("--config=cuda: no CUDA toolkit in $CUDA_HOME or /usr/local/cuda")

# Fails the build when CUDA was insisted on and is not there.
cuda_guard = rule(
    implementation = _cuda_guard_impl,
    attrs = {
        "found": attr.bool(),
        "required": attr.bool(),
    },
)
