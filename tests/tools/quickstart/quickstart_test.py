"""The quickstart with real processes on small checkpoints of odd shapes."""

import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time
import unittest

PROGRAMS = {
    "--coordinator-binary": "coordinator/coordinator",
    "--agent-binary": "agent/agent",
    "--worker-binary": "tools/quickstart/worker/worker",
}
QUICKSTART = "tools/quickstart/quickstart"
SLUICECTL = "tools/sluicectl/sluicectl"
GENERATE = "tools/checkpoint_generator/generate_checkpoint"
# Heads, KV heads, layers, rows and vocabulary divide by nothing asked for here.
TINY = {
    "--layers": 3,
    "--hidden": 56,
    "--heads": 9,
    "--kv-heads": 3,
    "--head-dim": 8,
    "--intermediate": 45,
    "--vocab": 97,
}


def flags(options):
    return [str(part) for item in options.items() for part in item]


def processes_of(folder):
    """Command lines of running processes that name the folder."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if folder in command:
            found.append(command.replace("\0", " "))
    return found


class Quickstart(unittest.TestCase):

    def setUp(self):
        # A short path: Unix sockets lie below it.
        self._folder = tempfile.TemporaryDirectory(prefix="sq.", dir="/tmp")
        self.folder = self._folder.name
        self.state = os.path.join(self.folder, "state")
        self.checkpoint = os.path.join(self.folder, "checkpoint")

    def tearDown(self):
        self._folder.cleanup()

    def generate(self, **changes):
        options = dict(TINY)
        extra = []
        for name, value in changes.items():
            flag = "--" + name.replace("_", "-")
            if value is True:
                extra.append(flag)
            else:
                options[flag] = value
        subprocess.run(
            [GENERATE, "--out", self.checkpoint, *flags(options), *extra],
            check=True,
            capture_output=True,
            timeout=60,
        )

    def command(self, *arguments):
        return [
            QUICKSTART,
            *flags(PROGRAMS),
            "--checkpoint",
            self.checkpoint,
            "--state-dir",
            self.state,
            *arguments,
        ]

    def run_quickstart(self, *arguments, expect=0):
        result = subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        self.assertEqual(result.returncode, expect,
                         result.stdout + result.stderr + self.logs())
        return result

    def logs(self):
        text = ""
        for path in sorted(pathlib.Path(self.state).glob("cluster/*.log")):
            text += f"\n== {path.name}\n" + path.read_text()[-2000:]
        return text

    def ctl(self, *arguments, expect=0, as_json=True):
        result = subprocess.run(
            [
                SLUICECTL, "--state-dir",
                os.path.join(self.state, "cluster"),
                *(["--json"] if as_json else []), *arguments
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        self.assertEqual(result.returncode, expect,
                         result.stdout + result.stderr)
        return json.loads(result.stdout) if as_json and expect == 0 else result

    def assert_nothing_left(self):
        self.assertEqual(processes_of(self.folder), [])
        if os.path.exists(self.state):
            self.assertEqual(
                [p for p in os.listdir(self.state) if p == "cluster"], [])

    def test_meshes_where_nothing_divides(self):
        cases = (
            # nodes, agents per node, trainer, rollout, checkpoint
            (2, 4, "pipe=2,data=2,tensor=2", "data=2,tensor=4", {}),
            (2, 3, "pipe=3,tensor=2", "tensor=5", {"untied": True}),
            (1, 5, "pipe=1,tensor=5", "data=2,tensor=2", {}),
            (3, 2, "data=3,tensor=2", "data=1,tensor=6", {"dtype": "float32"}),
            (1, 1, "tensor=1", "tensor=1", {"no_biases": True}),
        )
        for nodes, agents, trainer, rollout, checkpoint in cases:
            with self.subTest(trainer=trainer, rollout=rollout):
                self.generate(replace=True, **checkpoint)
                out = os.path.join(self.folder, "out.json")
                self.run_quickstart("--nodes", str(nodes), "--agents-per-node",
                                    str(agents), "--trainer", trainer,
                                    "--rollout", rollout, "--samples", "24",
                                    "--json", out)
                report = json.loads(pathlib.Path(out).read_text())
                self.assertIs(report["verified"], True)
                operations = {o["name"]: o for o in report["operations"]}
                self.assertEqual(
                    list(operations),
                    ["load", "sync 1", "sync 2", "redistribute gather_scatter",
                     "redistribute broadcast", "redistribute direct"])
                for operation in operations.values():
                    self.assertIs(operation["verified"], True)
                    self.assertGreater(operation["verified_bytes"], 0)
                self.assertEqual(operations["load"]["version"], 1)
                self.assertEqual(operations["sync 1"]["version"], 1)
                self.assertEqual(operations["sync 2"]["version"], 2)
                moved = operations["sync 2"]["bytes"]
                self.assertGreater(sum(moved.values()), 0)
                if trainer.startswith("pipe=2"):
                    # No node has all stages of the trainer.
                    self.assertGreater(moved["between_nodes"], 0)
                self.assert_nothing_left()

    def test_a_kept_cluster_is_looked_at_and_stopped(self):
        # KV heads that divide: their digests compare across layouts.
        self.generate(heads=8, kv_heads=2)
        try:
            result = self.run_quickstart("--keep", "--nodes", "2",
                                         "--agents-per-node", "2", "--samples",
                                         "8")
            self.assertIn("down", result.stdout)
            status = self.ctl("status")
            self.assertEqual({a["state"] for a in status["agents"]},
                             {"AGENT_STATE_ALIVE"})
            self.assertEqual(len(self.ctl("agents")["agents"]), 4)
            (model,) = self.ctl("models")["models"]
            self.assertEqual(model["model"], "policy")
            versions = {
                replica["version"]
                for placement in model["placements"]
                for replica in placement["replicas"]
            }
            self.assertEqual(versions, {"2"})
            plan = self.ctl("plan", "sync", "policy", "trainer", "rollout")
            self.assertGreaterEqual(plan["certificate"]["bound_ratio"], 1)
            self.ctl("verify", "policy", "rollout", "--against", "trainer")
            self.samples_by_hand()
            self.conflicts()
            # A second quickstart does not touch the first one's cluster.
            self.run_quickstart(expect=1)
        finally:
            self.ctl("down")
        self.assertEqual(processes_of(self.folder), [])

    def samples_by_hand(self):
        self.ctl("put", "--agent", "agent-0", "--sample", "mine", "--key",
                 "rewards", "--lengths", "2,1", "--values", "0.5,-1,2")
        (location,) = self.ctl("locate", "mine")["locations"]
        self.assertEqual(location["owner"], "agent-0")
        self.ctl("redistribute", "--pattern", "direct", "--want",
                 "agent-3:mine:rewards")
        (location,) = self.ctl("locate", "mine")["locations"]
        self.assertEqual(location["holders"], ["agent-0", "agent-3"])
        shown = self.ctl("get", "--agent", "agent-3", "mine", as_json=False)
        self.assertIn("0.5, -1, 2", shown.stdout)
        out = os.path.join(self.folder, "raw")
        self.ctl("get", "--agent", "agent-3", "mine", "--out", out)
        (raw,) = pathlib.Path(out).iterdir()
        self.assertEqual(len(raw.read_bytes()), 12)
        self.assertEqual(self.ctl("clear", "mine")["dropped"], "2")

    def conflicts(self):
        self.ctl("locate", "nobody", expect=4)
        self.ctl("models", "extra", expect=2)
        self.ctl("sync", "policy", "trainer", "nowhere", expect=4)
        self.ctl("put", "--agent", "agent-0", "--sample", "sample-000000",
                 "--key", "rewards", "--lengths", "1", "--values", "1",
                 expect=5)
        text = self.ctl("status", as_json=False).stdout
        for word in ("trainer", "rollout", "agent-3", "alive"):
            self.assertIn(word, text)

    def test_interrupted_it_leaves_nothing(self):
        self.generate()
        process = subprocess.Popen(self.command(), stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True)
        for line in process.stderr:
            if line.startswith("start cluster"):
                break
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        self.assertEqual(processes_of(self.folder), [])

    def test_killed_it_leaves_no_process(self):
        self.generate()
        process = subprocess.Popen(self.command(), stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True)
        for line in process.stderr:
            if line.startswith("start cluster"):
                break
        process.kill()
        process.wait(timeout=60)
        process.stderr.close()
        for _ in range(600):
            if not processes_of(self.folder):
                return
            time.sleep(0.1)
        self.fail(str(processes_of(self.folder)))

    def test_bad_input_is_refused(self):
        self.generate()
        self.run_quickstart("--nodes", "0", expect=2)
        self.run_quickstart("--rollout", "data=4,tensor=4", expect=2)
        self.run_quickstart("--device", "tpu", expect=2)
        if not list(pathlib.Path("/dev").glob("nvidia[0-9]*")):
            result = self.run_quickstart("--device", "cuda", expect=1)
            self.assertIn("--device cuda", result.stderr)
        pathlib.Path(self.checkpoint, "config.json").write_text("{")
        self.run_quickstart(expect=2)
        self.checkpoint = os.path.join(self.folder, "nowhere")
        self.run_quickstart(expect=1)
        self.assertEqual(processes_of(self.folder), [])


if __name__ == "__main__":
    unittest.main()
