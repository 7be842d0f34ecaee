"""Plans without a cluster: what people read, what programs read, bad input."""

import json
import pathlib
import tempfile
import unittest
import xml.dom.minidom

from tests.tools.sluicectl.ctl import ctl

# Two nodes of two ranks with a card each.
LINKS = {
    "name": "small",
    "ranks_per_node": 2,
    "cards_per_node": 2,
    "device_copy_gbytes": 1000,
    "rank_gbytes": 90,
    "card_gbytes": 10,
}

RESHARD = (
    "plan", "reshard", "--model", "qwen2.5-1.5b", "--set",
    "num_hidden_layers=2", "--from", "megatron", "--from-mesh", "tensor=2",
    "--to", "vllm", "--to-mesh", "tensor=2", "--to-rank", "2",
)

# Rank 0 has all, rank 1 the second; ranks 2 and 3 want both.
BATCH = {
    "tracker": {
        "storages": [
            [["a", ["x"]], ["b", ["x"]]],
            [["b", ["x"]]],
            [],
            [],
        ],
        "owners": [["a", "x", 0], ["b", "x", 0]],
    },
    "dests": [[2, ["a", "b"]], [3, ["a", "b"]]],
    "keys": ["x"],
    "bytes": {"x": 1000000},
}


class Offline(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.links = self.write("links.json", LINKS)

    def write(self, name, value):
        path = self.folder / name
        path.write_text(json.dumps(value))
        return str(path)

    def answer(self, *arguments):
        result = ctl(*arguments, "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    def refused(self, *arguments, code=2):
        result = ctl(*arguments)
        self.assertEqual(result.returncode, code, result.stderr)
        return result.stderr

    def test_reshard_for_people(self):
        result = ctl(*RESHARD, "--links", self.links, "--compare")
        self.assertEqual(result.returncode, 0, result.stderr)
        lines = result.stdout.splitlines()
        self.assertEqual(lines[0],
                         "qwen2.5-1.5b: megatron tensor=2 to vllm tensor=2")
        self.assertEqual(lines[1], "4 ranks on 2 nodes, links small")
        for word in ("DIRECT", "GATHER_SCATTER", "BROADCAST", "TWO_STAGE",
                     "most loaded link", "simulated", "peak staging"):
            self.assertIn(word, result.stdout)

    def test_reshard_for_programs(self):
        plan = self.answer(*RESHARD, "--links", self.links, "--compare")
        self.assertEqual(plan["ranks"], 4)
        self.assertEqual(plan["nodes"], 2)
        self.assertEqual(
            [p["pattern"] for p in plan["patterns"]],
            ["DIRECT", "GATHER_SCATTER", "BROADCAST", "TWO_STAGE"])
        direct = plan["patterns"][0]
        self.assertEqual(set(direct["bytes"]),
                         {"same_device", "same_node", "between_nodes"})
        self.assertGreaterEqual(direct["max_link_bytes"],
                                plan["lower_bound_bytes"])
        self.assertAlmostEqual(direct["byte_ratio"],
                               direct["max_link_bytes"] /
                               plan["lower_bound_bytes"])
        self.assertAlmostEqual(direct["time_ratio"],
                               direct["seconds"] / plan["bound_seconds"])
        # No link carries more than it can.
        busiest = direct["busiest_links"][0]
        self.assertGreaterEqual(direct["seconds"], busiest["seconds"] * 0.999)
        self.assertAlmostEqual(busiest["seconds"], busiest["bytes"] / 10e9)
        gathered = plan["patterns"][1]
        self.assertGreater(gathered["seconds"], direct["seconds"])

    def test_a_checkpoint_as_it_is_stored_is_a_source(self):
        plan = self.answer(
            "plan", "reshard", "--model", "qwen2.5-1.5b", "--from",
            "huggingface", "--from-mesh", "data=1", "--to", "vllm",
            "--to-mesh", "tensor=2", "--to-rank", "1")
        # All leaves the one rank that has it.
        self.assertEqual(plan["ranks"], 3)
        self.assertEqual(plan["patterns"][0]["byte_ratio"], 1)

    def test_a_reshard_says_what_it_casts(self):
        plain = self.answer(*RESHARD, "--links", self.links)
        self.assertEqual(plain["casts"], [])
        cast = self.answer(*RESHARD, "--links", self.links, "--to-matrices",
                           "float32", "--from-matrices", "F8_E4M3")
        # 7 matrices in each of 2 layers, and the tied embedding.
        self.assertEqual(cast["casts"], [{
            "placement": "to", "from": "F8_E4M3", "to": "F32",
            "wire": "F8_E4M3", "tensors": 15}])
        moved = [p["patterns"][0]["bytes"]["between_nodes"]
                 for p in (plain, cast)]
        # Nearly all bytes are matrices', and half of what bf16 has.
        self.assertLess(abs(moved[1] / moved[0] - 0.5), 0.001)
        shown = ctl(*RESHARD, "--links", self.links, "--to-matrices",
                    "F8_E4M3")
        self.assertIn("15 tensors BF16 -> F8_E4M3 at the source", shown.stdout)
        self.assertIn("no conversion", self.refused(
            *RESHARD, "--to-matrices", "I32"))
        self.assertIn("F33", self.refused(*RESHARD, "--to-matrices", "F33"))
        self.assertIn("vectors", self.refused(
            *(word if word != "vllm" else "huggingface" for word in RESHARD),
            "--to-matrices", "F32"))

    def test_cut_quantisation_blocks_are_warned_of(self):
        # Over 32 ranks a dense layer of 18,432 rows has 576 each: 4.5 blocks.
        command = ("plan", "reshard", "--model", "deepseek-v3", "--from",
                   "megatron_moe", "--from-mesh", "tensor=1", "--to",
                   "vllm_moe", "--to-mesh", "tensor=32", "--to-rank", "8",
                   "--set")
        stored = "num_hidden_layers=4,n_routed_experts=32,fp8=1"
        warnings = self.answer(*command, stored)["warnings"]
        self.assertTrue(any("mlp.gate_proj.weight" in w and "128x128" in w and
                            "\"to\"" in w for w in warnings), warnings)
        self.assertFalse([w for w in warnings if "experts.0." in w])
        result = ctl(*command, stored)
        self.assertEqual(result.returncode, 0, result.stderr)
        lines = [line for line in result.stdout.splitlines()
                 if line.startswith("warning: ")]
        self.assertEqual([f"warning: {w}" for w in warnings], lines)
        # As trainers hold it there are no blocks.
        self.assertEqual(
            self.answer(*command, stored.replace("fp8=1", "fp8=0"))["warnings"],
            [])

    def test_a_batch_of_a_file(self):
        plan = self.answer("plan", "redistribute", "--batch",
                           self.write("batch.json", BATCH), "--links",
                           self.links, "--compare")
        direct, gathered, _ = plan["patterns"]
        # Both samples enter node 1 once and pass on inside it.
        self.assertEqual(direct["bytes"]["between_nodes"], 2000000)
        self.assertEqual(direct["bytes"]["same_node"], 2000000)
        # 2 MB over the node's two cards.
        self.assertAlmostEqual(plan["bound_seconds"], 1e-4)
        self.assertEqual(gathered["bytes"]["between_nodes"], 4000000)

    def test_a_made_batch(self):
        plan = self.answer("plan", "redistribute", "--samples", "8", "--bytes",
                           "1000", "--from-mesh", "data=2", "--to-mesh",
                           "data=1,tensor=2", "--to-rank", "2", "--links",
                           self.links)
        moved = plan["patterns"][0]["bytes"]
        self.assertEqual(moved["between_nodes"], 8000)
        self.assertEqual(moved["same_node"], 8000)

    def test_ranks_stand_where_the_user_says(self):
        plan = self.answer(*RESHARD, "--links", self.links, "--nodes",
                           "7,7,7,7")
        self.assertEqual(plan["nodes"], 1)
        self.assertEqual(plan["patterns"][0]["bytes"]["between_nodes"], 0)

    def test_pictures(self):
        names = {kind: str(self.folder / kind) for kind in
                 ("dot", "svg", "trace")}
        plan = self.answer(*RESHARD, "--links", self.links, "--dot",
                           names["dot"], "--svg", names["svg"], "--trace",
                           names["trace"])
        dot = pathlib.Path(names["dot"]).read_text()
        self.assertTrue(dot.startswith("digraph"))
        self.assertIn("n0 -> n2", dot)
        xml.dom.minidom.parse(names["svg"])
        trace = json.loads(pathlib.Path(names["trace"]).read_text())
        spans = [e for e in trace["traceEvents"] if e["ph"] == "X"]
        direct = plan["patterns"][0]
        self.assertEqual(len(spans), direct["transfers"])
        self.assertAlmostEqual(
            max(s["ts"] + s["dur"] for s in spans) / 1e6, direct["seconds"])
        self.assertEqual(sum(s["args"]["bytes"] for s in spans),
                         sum(direct["bytes"].values()))
        # Spans of one track do not overlap.
        ends = {}
        for span in sorted(spans, key=lambda s: s["ts"]):
            track = (span["pid"], span["tid"])
            self.assertGreaterEqual(span["ts"] + 1e-6, ends.get(track, 0))
            ends[track] = span["ts"] + span["dur"]

    def test_bad_input_says_what_where_and_what_else_there_is(self):
        unknown = list(RESHARD)
        unknown[3] = "qwen9"
        self.assertIn("qwen3-30b-a3b", self.refused(*unknown, code=4))
        self.assertIn("ethernet_100g",
                      self.refused(*RESHARD, "--links", "pigeon", code=4))
        self.assertIn("3", self.refused(*RESHARD, "--nodes", "0,0,0"))
        self.assertIn("TWO_STAGE",
                      self.refused(*RESHARD, "--pattern", "teleport"))
        axis = list(RESHARD)
        axis[axis.index("--from-mesh") + 1] = "tensr=2"
        self.assertIn("--from: mesh tensr=2", self.refused(*axis))
        links = dict(LINKS, card_gbytes=0)
        self.assertIn("card_gbytes",
                      self.refused(*RESHARD, "--links",
                                   self.write("bad.json", links)))
        self.assertIn("cannot write",
                      self.refused(*RESHARD, "--svg", "/no/such/dir/x.svg",
                                   code=5))

    def test_bad_batches(self):
        def batch(**changes):
            return ("plan", "redistribute", "--batch",
                    self.write("batch.json", dict(BATCH, **changes)))
        self.assertIn("held by nobody",
                      self.refused(*batch(dests=[[2, ["zzz"]]])))
        self.assertIn("dests", self.refused(*batch(dests=[[9, ["a"]]])))
        self.assertIn("batch.json", self.refused(*batch(dests="all")))
        self.assertIn("--want", self.refused("plan", "redistribute"))
        self.assertIn("--want",
                      self.refused(*batch(), "--want", "agent-0:*:x"))
        self.assertIn("samples", self.refused(
            "plan", "redistribute", "--samples", "-1", "--from-mesh",
            "data=1", "--to-mesh", "data=1"))


if __name__ == "__main__":
    unittest.main()
