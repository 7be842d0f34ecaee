"""Runs sluicectl as a user of a shell does, without settings of the machine's."""

import os
import subprocess

SLUICECTL = "tools/sluicectl/sluicectl"


def ctl(*arguments, timeout=60):
    """Returns the completed process, with its output as text."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SLUICE_")
    }
    return subprocess.run(
        [SLUICECTL, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        env=environment,
    )
