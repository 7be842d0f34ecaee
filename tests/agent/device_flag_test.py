"""Whose memory an agent serves: --device, and SLUICE_DEVICE without it."""

import os
import subprocess
import unittest

AGENT = "agent/agent"


def agent(*arguments, device=None):
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SLUICE_")
    }
    if device is not None:
        environment["SLUICE_DEVICE"] = device
    return subprocess.run(
        [AGENT, "--name=a", "--coordinator=127.0.0.1:1", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment,
    )


class DeviceFlag(unittest.TestCase):

    def test_the_environment_names_the_device(self):
        result = agent(device="tpu")
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertIn('"tpu"', result.stderr)

    def test_the_flag_wins(self):
        result = agent("--device=npu", device="tpu")
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertIn('"npu"', result.stderr)
        self.assertNotIn("tpu", result.stderr)

    def test_the_default_is_shown(self):
        for device, shown in ((None, "host"), ("", "host"), ("cuda:3",) * 2):
            with self.subTest(device=device):
                result = agent("--help", device=device)
                self.assertEqual(result.returncode, 0, result.stderr)
                (line,) = [
                    line for line in result.stdout.splitlines()
                    if "--device " in line
                ]
                self.assertIn(f"--device TEXT={shown} ", line)


if __name__ == "__main__":
    unittest.main()
