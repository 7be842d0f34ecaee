"""tools/count_results.py: what counts as passed and as failed."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = "tools/count_results.py"


class CountResults(unittest.TestCase):
    def setUp(self):
        self._folder = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self._folder.name)
        self.events = []

    def tearDown(self):
        self._folder.cleanup()

    def add_test(self, label, status, log=None, attempt=1, shard=1):
        """One testResult event; `log` is the text of its test.log."""
        outputs = []
        if log is not None:
            path = self.folder / f"log {len(self.events)}%.txt"
            path.write_text(log)
            outputs = [{"name": "test.log", "uri": path.as_uri()}]
        self.events.append(
            {
                "id": {
                    "testResult": {
                        "label": label,
                        "run": 1,
                        "shard": shard,
                        "attempt": attempt,
                    }
                },
                "testResult": {"status": status, "testActionOutput": outputs},
            }
        )

    def add_broken(self, label):
        self.events.append(
            {"id": {"targetCompleted": {"label": label}}, "aborted": {}}
        )

    def run_script(self, status):
        """(last line, exit status) for a job "default" that ended so."""
        with (self.folder / "default.json").open("w") as out:
            for event in self.events:
                out.write(json.dumps(event) + "\n")
            out.write('{"torn')
        (self.folder / "default.status").write_text(str(status))
        done = subprocess.run(
            [sys.executable, SCRIPT, str(self.folder)],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        return done.stdout.splitlines()[-1], done.returncode

    def test_cases_are_summed(self):
        self.add_test("//a", "PASSED", "x\n3 passed, 0 failed\n")
        self.add_test("//b", "PASSED", "4 passed, 0 failed\nAll passed\n")
        self.assertEqual(self.run_script(0), ("7 passed, 0 failed", 0))

    def test_only_the_last_count_line_counts(self):
        self.add_test("//a", "PASSED", "9 passed, 9 failed\n3 passed, 0 failed\n")
        self.assertEqual(self.run_script(0), ("3 passed, 0 failed", 0))

    def test_failed_cases_fail(self):
        self.add_test("//a", "FAILED", "3 passed, 2 failed\n")
        self.assertEqual(self.run_script(3), ("3 passed, 2 failed", 1))

    def test_failure_after_the_count_is_one(self):
        self.add_test("//a", "FAILED", "3 passed, 0 failed\nleak\n")
        self.assertEqual(self.run_script(3), ("3 passed, 1 failed", 1))

    def test_death_without_a_count_is_one(self):
        self.add_test("//a", "FAILED", "boom\n")
        self.add_test("//b", "TIMEOUT")
        self.assertEqual(self.run_script(3), ("0 passed, 2 failed", 1))

    def test_program_without_cases_fails(self):
        self.add_test("//a", "PASSED", "0 passed, 0 failed\n")
        self.assertEqual(self.run_script(0), ("0 passed, 1 failed", 1))

    def test_script_without_count_is_one_test(self):
        self.add_test("//a", "PASSED", "fine\n")
        self.assertEqual(self.run_script(0), ("1 passed, 0 failed", 0))

    def test_last_attempt_counts_and_shards_add(self):
        self.add_test("//a", "FAILED", "0 passed, 1 failed\n", attempt=1)
        self.add_test("//a", "PASSED", "1 passed, 0 failed\n", attempt=2)
        self.add_test("//b", "PASSED", "2 passed, 0 failed\n", shard=1)
        self.add_test("//b", "PASSED", "3 passed, 0 failed\n", shard=2)
        self.assertEqual(self.run_script(0), ("6 passed, 0 failed", 0))

    def test_target_that_does_not_build_is_one(self):
        self.add_test("//a", "PASSED", "1 passed, 0 failed\n")
        self.add_broken("//b")
        self.assertEqual(self.run_script(1), ("1 passed, 1 failed", 1))

    def test_target_reported_both_ways_is_one(self):
        self.add_test("//a", "FAILED", "boom\n")
        self.add_broken("//a")
        self.assertEqual(self.run_script(3), ("0 passed, 1 failed", 1))

    def test_failure_without_a_target_is_one(self):
        self.add_test("//a", "PASSED", "1 passed, 0 failed\n")
        self.assertEqual(self.run_script(1), ("1 passed, 1 failed", 1))

    def test_nothing_run_fails(self):
        self.assertEqual(self.run_script(4), ("0 passed, 0 failed", 1))

    def test_job_without_tests_is_one_check(self):
        (self.folder / "style.status").write_text("0")
        self.add_test("//a", "PASSED", "1 passed, 0 failed\n")
        self.assertEqual(self.run_script(0), ("2 passed, 0 failed", 0))


if __name__ == "__main__":
    unittest.main()
