"""sluicectl against a cluster it started itself: a whole job by hand."""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest

from tests.tools.sluicectl.ctl import SLUICECTL, ctl

GENERATE = "tools/checkpoint_generator/generate_checkpoint"


class Cluster(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls._folder = tempfile.TemporaryDirectory(prefix="sc.", dir="/tmp")
        cls.folder = cls._folder.name
        cls.state = os.path.join(cls.folder, "state")
        cls.checkpoint = os.path.join(cls.folder, "checkpoint")
        subprocess.run(
            [GENERATE, "--out", cls.checkpoint, "--layers", "2", "--hidden",
             "32", "--heads", "4", "--kv-heads", "2", "--head-dim", "8",
             "--intermediate", "48", "--vocab", "64"],
            check=True, capture_output=True, timeout=60)
        cls.up()

    @classmethod
    def tearDownClass(cls):
        cls.run_ctl("down")
        cls._folder.cleanup()

    @classmethod
    def run_ctl(cls, *arguments):
        return ctl("--state-dir", cls.state, *arguments, timeout=120)

    @classmethod
    def up(cls):
        result = cls.run_ctl("--json", "up", "--nodes", "2",
                             "--agents-per-node", "2", "--agent-memory",
                             str(64 << 20), "--coordinator-binary",
                             "coordinator/coordinator", "--agent-binary",
                             "agent/agent")
        if result.returncode != 0:
            raise AssertionError(result.stderr)
        return json.loads(result.stdout)

    def ctl(self, *arguments, expect=0):
        result = self.run_ctl("--json", *arguments)
        self.assertEqual(result.returncode, expect,
                         result.stdout + result.stderr)
        return json.loads(result.stdout) if expect == 0 else result.stderr

    def place(self, model, placement, layout, mesh, *more, expect=0):
        return self.ctl("place", "--model", model, "--checkpoint",
                        self.checkpoint, "--placement", placement, "--layout",
                        layout, "--mesh", mesh, *more, expect=expect)

    def test_a_second_cluster_in_one_directory_is_refused(self):
        result = self.run_ctl("up", "--coordinator-binary",
                              "coordinator/coordinator", "--agent-binary",
                              "agent/agent")
        self.assertEqual(result.returncode, 5, result.stderr)
        self.assertIn(self.state, result.stderr)

    def test_place_load_plan_sync_verify_remove(self):
        placed = self.place("job", "source", "megatron",
                            "pipe=1,data=2,tensor=2")
        self.assertEqual(placed["replicas"], "2")
        # Axes that the layout names and the mesh lacks are of size 1.
        self.place("job", "target", "vllm", "tensor=4")
        loaded = self.ctl("load", "job", "source", self.checkpoint)
        self.assertEqual(loaded["version"], "1")
        plan = self.ctl("plan", "sync", "job", "source", "target")
        synced = self.ctl("sync", "job", "source", "target")
        self.assertEqual(synced["version"], "1")
        self.assertEqual(synced["bytes"], plan["certificate"]["bytes"])
        self.assertTrue(self.ctl("sync", "job", "source",
                                 "target")["plan_reused"])
        self.ctl("verify", "job", "target", "--against", "source")
        # Ranks paired by position; the plan is one of its own.
        paired = self.ctl("sync", "job", "source", "target", "--pattern",
                          "two_stage")
        self.assertFalse(paired.get("plan_reused", False))
        self.ctl("verify", "job", "target", "--against", "source")
        self.assertIn("two_stage", self.ctl("sync", "job", "source", "target",
                                            "--pattern", "broadcast",
                                            expect=2))
        text = self.run_ctl("models").stdout
        self.assertIn("data=1,tensor=4", text)
        self.ctl("remove", "job", "target")
        self.ctl("remove", "job", "target", expect=4)
        self.ctl("sync", "job", "source", "target", expect=4)

    def test_the_transport_is_chosen(self):
        # All on one node; the other node's rank gets it from there.
        self.place("wire", "source", "vllm", "tensor=1", "--agents", "agent-0")
        self.place("wire", "target", "vllm", "tensor=1", "--agents", "agent-2")
        self.ctl("load", "wire", "source", self.checkpoint)
        sync = ("sync", "wire", "source", "target", "--transport")
        self.assertNotEqual(self.ctl(*sync, "ucx")["bytes"]["between_nodes"],
                            "0")
        # These agents serve memory of the host.
        refused = self.ctl(*sync, "nccl", expect=5)
        self.assertIn("NCCL", refused)
        self.assertIn("agent-0", refused)
        self.ctl("verify", "wire", "target", "--against", "source")

    def test_a_planned_sync_says_what_it_casts(self):
        layout = os.path.join(self.folder, "whole.json")
        pathlib.Path(layout).write_text(json.dumps(
            {"name": "whole", "replica_axes": ["data"],
             "rules": [{"pattern": "**", "dtype": "F32"}]}))
        self.place("cast", "source", "megatron", "pipe=1,data=2,tensor=2")
        self.place("cast", "target", layout, "data=2")
        self.ctl("load", "cast", "source", self.checkpoint)
        plan = self.ctl("plan", "sync", "cast", "source", "target")
        self.assertEqual(len(plan["casts"]), 1, plan)
        self.assertEqual(plan["casts"][0]["to"], "DTYPE_F32")
        shown = self.run_ctl("plan", "sync", "cast", "source", "target").stdout
        self.assertIn("casts ", shown)
        self.assertIn(f"{plan['casts'][0]['tensors']} tensors ", shown)
        self.assertIn("-> F32 at the destination", shown)

    def test_bad_requests_are_refused_by_name(self):
        self.assertIn("expert", self.place("bad", "p", "vllm",
                                           "data=1,expert=2", expect=2))
        self.assertIn("nosuch", self.place("bad", "p", "nosuch",
                                           "data=1,tensor=2", expect=4))
        self.place("bad", "p", "vllm", "data=8,tensor=8", expect=5)
        self.place("bad", "q", "vllm", "data=1,tensor=2", "--agents",
                   "agent-0,agent-9", expect=4)
        self.place("bad", "taken", "vllm", "data=1,tensor=2")
        self.place("bad", "taken", "vllm", "data=1,tensor=4", expect=5)
        self.assertIn("/nowhere", self.ctl("load", "bad", "taken", "/nowhere",
                                           expect=4))
        self.ctl("sync", "bad", "taken", "taken", expect=2)

    def test_events_can_be_followed(self):
        self.place("seen", "p", "vllm", "data=1,tensor=2")
        process = subprocess.Popen(
            [SLUICECTL, "--state-dir", self.state, "--json", "watch",
             "--after", "1", "--count", "1"],
            stdout=subprocess.PIPE, text=True)
        out, _ = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0)
        self.assertGreater(int(json.loads(out)["revision"]), 1)

    def test_what_down_leaves_can_be_started_again(self):
        with tempfile.TemporaryDirectory(prefix="sd.", dir="/tmp") as folder:
            state = os.path.join(folder, "state")

            def run(*arguments):
                return ctl("--state-dir", state, *arguments, timeout=120)

            up = ["up", "--nodes", "1", "--agents-per-node", "1",
                  "--coordinator-binary", "coordinator/coordinator",
                  "--agent-binary", "agent/agent"]
            for _ in range(2):
                result = run(*up)
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertIn("alive", run("status").stdout)
                self.assertEqual(run("down").returncode, 0)
                self.assertEqual(run("down").returncode, 4)
            left = {p.name for p in pathlib.Path(state).iterdir()}
            self.assertNotIn("sockets", left)
            self.assertNotIn("cluster.json", left)


if __name__ == "__main__":
    unittest.main()
