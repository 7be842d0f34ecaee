#!/usr/bin/python3
"""The program gpu_bench, on a GPU that processes share and without one."""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest

FAKE = "bench/fake_gpu_bench"
REAL = "bench/gpu_bench"


def run(program, *arguments):
    return subprocess.run(
        [program, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


class GpuBenchTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.json = pathlib.Path(folder.name) / "bench.json"

    def measure(self, *arguments):
        return run(
            FAKE, "--bytes=4MiB", "--repeats=1", f"--json={self.json}",
            *arguments,
        )

    def rows(self):
        return json.loads(self.json.read_text())["measurements"]

    def test_rows_that_fail_end_no_other(self):
        # This GPU measures no time: every case is made, run and fails then.
        result = self.measure("--blocks-per-sm=2")
        self.assertEqual(result.returncode, 1, result.stdout)
        rows = self.rows()
        self.assertEqual(len(rows), 17)
        for row in rows:
            self.assertFalse(row["measured"], row)
            self.assertFalse(row["reached"], row)
            self.assertIn("ElapsedSeconds", row["message"])
            self.assertIn(row["blocks"], (0, 2))
            # As it ended, and in the table.
            self.assertEqual(
                result.stdout.count(f"\n{row['name']} "), 2, result.stdout
            )
        # Its memory was lent by another process before.
        self.assertIn(
            "copy from another process", [row["name"] for row in rows]
        )

    def test_kernels_are_run_as_agents_do_too(self):
        self.measure()
        blocks = [row["blocks"] for row in self.rows()]
        self.assertEqual(
            [blocks.count(number) for number in (0, 1, 8)], [2, 15, 15]
        )

    def test_a_summary_that_cannot_be_written_is_a_failure(self):
        self.json = self.json.parent / "none" / "bench.json"
        result = self.measure("--blocks-per-sm=2")
        self.assertEqual(result.returncode, 1, result.stdout)
        self.assertIn("cannot write", result.stdout)
        self.assertIn("digest", result.stdout)

    def test_without_a_gpu_it_says_so_in_one_line(self):
        for path in pathlib.Path("/dev").glob("nvidia[0-9]*"):
            self.skipTest(f"there is a GPU: {path}")
        result = run(REAL)
        self.assertEqual(result.returncode, 2)
        self.assertEqual(len(result.stdout.splitlines()), 1, result.stdout)
        self.assertIn("no GPU", result.stdout)


if __name__ == "__main__":
    os.umask(0o077)
    unittest.main()
