"""Catch2 tests."""

def sluice_test(name, srcs, deps = [], size = "small", tags = [], **kwargs):
    """A Catch2 test program that ends with the line "N passed, N failed".

    Tags with a meaning: "tsan" - also run by --config=tsan (no gRPC below it);
    "no_sanitizer" - not run by --config=asan; "external" - never cached (real
    processes, faults); "gpu" - run by --config=gpu only. Pass Catch2 arguments
    with --test_arg, for instance --test_arg=--rng-seed=7.

    Args:
      name: the test.
      srcs: its sources; TEST_CASEs and no main().
      deps: libraries; the main program is added.
      size: "small" takes less than a second; a larger one says why in BUILD.
      tags: see above.
      **kwargs: passed to cc_test.
    """
    native.cc_test(
        name = name,
        srcs = srcs,
        size = size,
        tags = tags,
        deps = deps + [
            "//tests/support:catch_main",
            "@system//:catch2",
        ],
        **kwargs
    )
