"""What scripts rely on: exit codes and JSON of sluicectl."""

import json
import pathlib
import tempfile
import unittest

from tests.tools.sluicectl.ctl import ctl


class ExitCodes(unittest.TestCase):

    def test_help_is_no_failure(self):
        result = ctl("--help")
        self.assertEqual(result.returncode, 0)
        self.assertIn("Examples", result.stdout)

    def test_usage(self):
        for arguments in (
            [],
            ["fly"],
            ["status", "--nonsense"],
            ["sync", "policy"],
            ["--timeout", "-1", "status"],
            # Nobody said where the coordinator is.
            ["status"],
        ):
            with self.subTest(arguments=arguments):
                result = ctl(*arguments)
                self.assertEqual(result.returncode, 2, result.stderr)
                self.assertNotEqual(result.stderr, "")

    def test_a_mistyped_option_is_named_where_one_is_missing(self):
        result = ctl("place", "--placment", "trainer")
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertIn("Not understood: --placment trainer", result.stderr)
        self.assertIn("--placement is required", result.stderr)

    def test_nobody_answers(self):
        result = ctl("--coordinator", "127.0.0.1:1", "--timeout", "1", "status")
        self.assertEqual(result.returncode, 3, result.stderr)
        for word in ("127.0.0.1:1", "--coordinator", "up"):
            self.assertIn(word, result.stderr)

    def test_the_coordinator_of_a_directory_has_ended(self):
        with tempfile.TemporaryDirectory() as folder:
            process = {"pid": 1, "start_ticks": 1}
            pathlib.Path(folder, "cluster.json").write_text(json.dumps({
                "coordinator_address": "127.0.0.1:1",
                "socket_dir": folder,
                "coordinator": process,
                "coordinator_argv": ["coordinator"],
                "agents": [],
            }))
            result = ctl("--state-dir", folder, "--timeout", "1", "status")
            self.assertEqual(result.returncode, 3, result.stderr)
            for word in ("127.0.0.1:1", folder + "/coordinator.log",
                         f'--state-dir {folder} up'):
                self.assertIn(word, result.stderr)

    def test_no_cluster_in_that_directory(self):
        with tempfile.TemporaryDirectory() as folder:
            for command in ("status", "down"):
                with self.subTest(command=command):
                    result = ctl("--state-dir", folder, command)
                    self.assertEqual(result.returncode, 4, result.stderr)
                    self.assertIn(folder, result.stderr)
                    if command == "status":
                        self.assertIn(f"--state-dir {folder} up",
                                      result.stderr)

    def test_bad_values_are_refused_before_anybody_is_asked(self):
        result = ctl("--coordinator", "127.0.0.1:1", "redistribute",
                     "--pattern", "teleport", "--want", "a:b:c")
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertIn("teleport", result.stderr)
        result = ctl("--coordinator", "127.0.0.1:1", "sync", "m", "a", "b",
                     "--transport", "pigeon")
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertIn("pigeon", result.stderr)
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "samples.json"
            path.write_text(json.dumps({"not": "a list"}))
            result = ctl("put", "--agent-socket", "/nowhere", "--from",
                         str(path))
            self.assertEqual(result.returncode, 2, result.stderr)


if __name__ == "__main__":
    unittest.main()
