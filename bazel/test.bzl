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

def sluice_py_test(name, src, data = [], size = "small", tags = [], **kwargs):
    """A Python unittest file, run by the system's interpreter, counted by cases.

    It runs in the root of its runfiles: `data` is found, and modules of it are
    imported, by their path from the workspace root.

    Args:
      name: the test.
      src: its file.
      data: modules and programs it uses.
      size: as for sluice_test.
      tags: as for sluice_test; not run under sanitizers.
      **kwargs: passed to sh_test.
    """
    native.sh_test(
        name = name,
        srcs = ["//tests/support:run_python_test.py"],
        args = ["$(location %s)" % src],
        data = [src] + data,
        size = size,
        tags = tags + ["no_sanitizer"],
        **kwargs
    )
