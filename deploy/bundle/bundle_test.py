#!/usr/bin/python3
"""The release bundle runs from any folder, with nothing of its surroundings."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

PACK = "deploy/bundle/pack"
BINARY = "deploy/bundle/sluice"
TESTS_RUN = "tests/gpu/run"


class BundleTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # Short: sockets lie below it.
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="sb", dir="/tmp"))
        made = cls.folder / "made"
        subprocess.run([PACK, BINARY, TESTS_RUN, made], check=True)
        cls.bundle = cls.folder / "moved elsewhere"
        made.rename(cls.bundle)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def run_alone(self, *words, status=0):
        """Runs a program of the bundle in an empty environment."""
        result = subprocess.run(
            [self.bundle / words[0], *words[1:]],
            env={},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        self.assertEqual(
            result.returncode, status, f"{words}: {result.stderr}"
        )
        return result.stdout + result.stderr

    def test_programs_are_chosen_by_word_and_by_name(self):
        for name in ("agent", "coordinator"):
            by_word = self.run_alone("bin/sluice", name, "--help")
            by_name = self.run_alone(f"bin/sluice-{name}", "--help")
            self.assertIn("--listen", by_word)
            self.assertEqual(by_word, by_name)
        for name in ("sluicectl", "quickstart", "gpu_tests", "gpu_bench"):
            by_word = self.run_alone("bin/sluice", name, "--help")
            by_name = self.run_alone(f"bin/{name}", "--help")
            # Above it some say the path they were called by.
            self.assertIn("Options:", by_word)
            self.assertEqual(
                by_word.partition("Options:")[2],
                by_name.partition("Options:")[2],
            )

    def test_unknown_programs_are_refused(self):
        said = self.run_alone("bin/sluice", "nothing", status=2)
        self.assertIn('no program "nothing"', said)
        self.assertIn("sluicectl", self.run_alone("bin/sluice", status=2))

    def test_libraries_are_the_bundles_own(self):
        said = subprocess.run(
            ["/usr/bin/ldd", self.bundle / "bin/sluice"],
            env={},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        self.assertNotIn("not found", said)
        system = ("libc.", "libm.", "libdl.", "librt.", "libpthread.",
                  "libresolv.", "libanl.", "libutil.")
        for line in said.splitlines():
            words = line.split()
            if "=>" not in words or words[0].startswith(system):
                continue
            self.assertIn(str(self.bundle), line)

    def test_it_says_which_c_library_it_needs(self):
        needed = (self.bundle / "lib/glibc_needed").read_text().strip()
        self.assertRegex(needed, r"^2\.[0-9]+$")
        self.assertIn(f"glibc {needed} ", (self.bundle / "README").read_text())
        newest = max(
            int(minor)
            for path in (self.bundle / "bin/sluice",
                         *(self.bundle / "lib").glob("*.so*"))
            for minor in re.findall(rb"GLIBC_2\.([0-9]+)\b", path.read_bytes())
        )
        self.assertEqual(needed, f"2.{newest}")

    def test_without_a_gpu_the_gpu_programs_say_so_in_one_line(self):
        for path in pathlib.Path("/dev").glob("nvidia[0-9]*"):
            self.skipTest(f"there is a GPU: {path}")
        for name in ("bin/gpu_tests", "bin/gpu_bench"):
            said = self.run_alone(name, status=2)
            self.assertEqual(len(said.splitlines()), 1, said)
            self.assertIn("no GPU", said)
        said = self.run_alone("tests/gpu/run", "--json=/tmp/none", status=2)
        self.assertEqual(len(said.splitlines()), 1, said)

    def test_a_cluster_of_two_agents_comes_up(self):
        state = self.folder / "state"
        control = ("bin/sluicectl", "--state-dir", str(state))
        try:
            self.run_alone(
                *control, "up", "--nodes", "1", "--agents-per-node", "2"
            )
            said = self.run_alone(*control, "--json", "status")
            self.assertEqual(len(json.loads(said)["agents"]), 2, said)
        finally:
            if state.exists():
                self.run_alone(*control, "down")


if __name__ == "__main__":
    os.umask(0o077)
    unittest.main()
