"""A second C++ toolchain, clang 14, beside the default gcc one.

Bazel's own autoconfiguration picks one compiler from the environment. Here it
is asked a second time with clang named, so that --config=clang needs neither
environment variables nor a new configuration of the default toolchain.
"""

load("@bazel_tools//tools/cpp:lib_cc_configure.bzl", "get_cpu_value")
load("@bazel_tools//tools/cpp:unix_cc_configure.bzl", "configure_unix_toolchain")

def _clang_configure_impl(repository_ctx):
    clang = repository_ctx.which("clang-14")
    if clang == None:
        fail("--config=clang needs clang-14: run tools/ensure_packages")
    configure_unix_toolchain(
        repository_ctx,
        get_cpu_value(repository_ctx),
        overriden_tools = {"gcc": str(clang)},
    )

clang_configure = repository_rule(
    implementation = _clang_configure_impl,
    configure = True,
    local = True,
    environ = ["PATH"],
)
