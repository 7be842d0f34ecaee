"""Fuzz targets."""

def fuzz_test(name, deps, mutators = [], seconds = 12):
    """A fuzz target, NAME_fuzz.cc, and its test over corpus/NAME.

    With --config=fuzz libFuzzer runs the corpus and then looks for more for so
    many seconds; in every other configuration each file of the corpus is run
    once. One test either way.

    Args:
      name: the target.
      deps: libraries.
      mutators: libraries that change inputs as libFuzzer's format-blind
        mutations do not; they exist with --config=fuzz only.
      seconds: how long libFuzzer looks.
    """
    native.cc_binary(
        name = name + "_fuzz",
        testonly = 1,
        srcs = [name + "_fuzz.cc", "fuzz_target.h"],
        linkopts = select({
            "//bazel:fuzz_enabled": ["-fsanitize=fuzzer"],
            "//conditions:default": [],
        }),
        deps = deps + select({
            "//bazel:fuzz_enabled": mutators,
            "//conditions:default": [":corpus_main"],
        }),
    )
    native.sh_test(
        name = name + "_fuzz_test",
        srcs = ["run_fuzz.sh"],
        args = [
            "$(location :%s_fuzz)" % name,
            "%s/corpus/%s" % (native.package_name(), name),
            str(seconds),
        ],
        data = [":%s_fuzz" % name] + native.glob(["corpus/%s/**" % name]),
        size = "medium",
    )
