#!/usr/bin/python3
"""tests/gpu/run gives a row to every check, whatever the check does."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

RUN = "tests/gpu/run"
FAKE = pathlib.Path("tests/gpu/fake_gpu_tests").resolve()
REAL = pathlib.Path("tests/gpu/gpu_tests").resolve()


class RunTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sr", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.folder)
        for name in ("bin", "lib", "tests/gpu", "path"):
            (self.folder / name).mkdir(parents=True)
        shutil.copy(RUN, self.folder / "tests/gpu/run")
        self.json = self.folder / "out.json"

    def program(self, path, text):
        """A shell script in the folder."""
        path = self.folder / path
        path.write_text("#!/bin/bash\n" + text)
        path.chmod(0o755)

    def run_all(self, *arguments, status, **environment):
        result = subprocess.run(
            [self.folder / "tests/gpu/run", f"--json={self.json}", *arguments],
            env={
                "PATH": f"{self.folder}/path:/usr/bin:/bin",
                "SLUICE_NCCL_LIBRARY": "/nowhere/libnccl.so.2",
                **environment,
            },
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.assertEqual(result.returncode, status, result.stdout)
        return result.stdout

    def rows(self):
        summary = json.loads(self.json.read_text())
        found = {check["name"]: check for check in summary["checks"]}
        for word in ("passed", "failed", "skipped"):
            count = sum(row["result"] == word for row in found.values())
            self.assertEqual(summary[word], count)
        return found

    def test_a_check_that_hangs_or_dies_is_one_failed_row(self):
        self.program(
            "bin/gpu_tests",
            'for word in "$@"; do\n'
            '  case "${word}" in\n'
            '    "--only=copies of boxes") sleep 60 ;;\n'
            '    "--only=casts") kill -SEGV $$ ;;\n'
            "  esac\n"
            "done\n"
            f'exec "{FAKE}" "$@"\n',
        )
        said = self.run_all(
            "--elements=20000", status=1, SLUICE_GPU_TESTS_LIMIT="4"
        )
        rows = self.rows()
        self.assertIn("within 4 s", rows["copies of boxes"]["message"])
        self.assertIn("SEGV", rows["casts"]["message"])
        for name in ("copies of boxes", "casts"):
            self.assertEqual(rows[name]["result"], "failed")
        for name in (
            "device and arenas",
            "digests of boxes",
            "memory and events between processes",
            "a lender that is killed",
        ):
            self.assertEqual(rows[name]["result"], "passed", rows[name])
        # No library: named, and no failure.
        for name in ("agents: NCCL, one rank", "agents: a collective is aborted"):
            self.assertEqual(rows[name]["result"], "skipped")
            self.assertIn("/nowhere/libnccl.so.2", rows[name]["message"])
        self.assertIn(" skipped\nsummary: ", said)
        # Each as it ended, and in the table.
        for name in rows:
            self.assertEqual(said.count(name), 2, said)

    def test_the_sanitizer_gives_rows(self):
        (self.folder / "bin/gpu_tests").symlink_to(FAKE)
        self.program(
            "path/compute-sanitizer",
            'case "$2" in\n'
            "  memcheck) exit 0 ;;\n"
            "  racecheck) exit 99 ;;\n"
            "esac\n"
            "sleep 60\n",
        )
        self.run_all(
            "--kernels-only",
            "--elements=20000",
            status=1,
            SLUICE_GPU_TESTS_LIMIT="4",
        )
        rows = self.rows()
        self.assertEqual(
            [rows[f"compute-sanitizer {tool}"]["result"]
             for tool in ("memcheck", "racecheck", "initcheck")],
            ["passed", "failed", "failed"],
        )
        self.assertIn("99", rows["compute-sanitizer racecheck"]["message"])
        self.assertIn("within", rows["compute-sanitizer initcheck"]["message"])

    def test_nothing_failed(self):
        (self.folder / "bin/gpu_tests").symlink_to(FAKE)
        # Another package that python3 has.
        library = self.folder / "packages/nvidia/nccl/lib/libnccl.so.2"
        library.parent.mkdir(parents=True)
        library.touch()
        self.program("path/python3", f'echo "{self.folder}/packages"\n')
        self.program("path/compute-sanitizer", "exit 0\n")
        said = self.run_all("--only=blends", status=0, SLUICE_NCCL_LIBRARY="")
        self.assertIn(f"NCCL: that of {self.folder}/packages", said)
        self.assertEqual(len(self.rows()), 4)
        self.assertIn("4 passed, 0 failed, 0 skipped", said)

    def test_without_a_gpu_it_ends_with_one_line(self):
        for path in pathlib.Path("/dev").glob("nvidia[0-9]*"):
            self.skipTest(f"there is a GPU: {path}")
        (self.folder / "bin/gpu_tests").symlink_to(REAL)
        said = self.run_all(status=2)
        self.assertEqual(len(said.splitlines()), 1, said)
        self.assertIn("no GPU", said)

    def test_bad_usage_is_refused(self):
        (self.folder / "bin/gpu_tests").symlink_to(FAKE)
        self.assertIn("names no check", self.run_all("--only=xyz", status=2))

    def test_a_program_that_does_not_start_is_one_line(self):
        error = "libc.so.6: version `GLIBC_2.99' not found"
        self.program("bin/gpu_tests", f'echo "{error}" >&2\nexit 1\n'.replace(
            "`", "\\`"))
        (self.folder / "lib/glibc_needed").write_text("2.99\n")
        said = self.run_all(status=1)
        self.assertEqual(len(said.splitlines()), 1, said)
        self.assertIn("glibc 2.99 or newer", said)
        self.assertIn(error, said)


if __name__ == "__main__":
    os.umask(0o077)
    unittest.main()
