#!/usr/bin/python3
"""Runs a unittest file and ends with the line "N passed, N failed".

Usage: run_python_test.py FILE [unittest arguments]

Modules are imported by their path from the workspace root. The first line names
the system's interpreter: python3 on the PATH may be another one, without the
packages of tools/packages.txt.
"""

import importlib.util
import os
import sys
import unittest


def main():
    path = sys.argv[1]
    sys.path.insert(0, os.getcwd())
    spec = importlib.util.spec_from_file_location("test_module", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["test_module"] = module
    spec.loader.exec_module(module)
    program = unittest.main(
        module=module, argv=[path] + sys.argv[2:], exit=False, verbosity=2
    )
    result = program.result
    # A test with failed subtests is listed once per subtest: count it once.
    failed = {
        getattr(test, "test_case", test)
        for test, _ in result.failures + result.errors
    }
    failed.update(result.unexpectedSuccesses)
    sys.stderr.flush()
    passed = max(result.testsRun - len(failed) - len(result.skipped), 0)
    print(f"{passed} passed, {len(failed)} failed", flush=True)
    return 0 if result.wasSuccessful() and result.testsRun else 1


if __name__ == "__main__":
    sys.exit(main())
