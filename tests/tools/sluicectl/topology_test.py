"""The reference behaviours by command: every recorded answer, and bad input."""

import json
import pathlib
import tempfile
import unittest

from tests.tools.sluicectl.ctl import ctl

VECTORS = pathlib.Path("tests/golden/vectors")

# What an answer has to have of a case; a rank mapping's is in "expect".
MEMBERS = {
    "topology": ("world_size", "coords"),
    "grid": ("world_size", "p2p_groups", "dp_groups", "created_groups"),
    "factors": ("three_factors_sorted", "prime_factors"),
    "storage": ("checkpoints", "final"),
    "gather_scatter": ("plan", "tracker_after"),
    "bcast": ("plan", "stage_sizes"),
    "datapack": ("groups", "partitions", "indices", "max_diff"),
    "split": ("split_key", "lens", "forward_indices", "backward_indices",
              "sizes", "partitions", "group_ids"),
    "rank_mapping": ("stage1", "stage2", "regroup", "dst_ranks",
                     "src_dp_ranks", "effective_comm_type"),
    "rank_mapping_hep": ("stage1", "stage2", "routed", "regroup", "dst_ranks"),
    "sync_groups": ("groups", "rounds", "batches"),
    "dispatch": ("rpcs",),
    "bucketer": ("events", "callback_order", "final_buckets"),
}


class Topology(unittest.TestCase):

    def same(self, expected, found):
        """Equal, but for what a recorded call asks beside its answers."""
        calls = (isinstance(found, list) and found and
                 isinstance(found[0], dict) and
                 "tracker_after_outputs" in found[0])
        if calls:
            self.assertEqual(len(expected), len(found))
            for recorded, call in zip(expected, found):
                if "right" not in recorded:
                    self.assertEqual({m: recorded[m] for m in call}, call)
        else:
            self.assertEqual(expected, found)

    def test_every_recorded_answer_without_a_bug(self):
        for topic, members in MEMBERS.items():
            path = VECTORS / f"{topic}.json"
            result = ctl("topology", "answer", topic, str(path))
            self.assertEqual(result.returncode, 0, result.stderr)
            answers = [json.loads(line) for line in result.stdout.splitlines()]
            cases = json.loads(path.read_text())["cases"]
            self.assertEqual(len(answers), len(cases))
            compared = 0
            for case, answer in zip(cases, answers):
                self.assertEqual(case.get("id"), answer.get("id"))
                expected = case.get("expect", case)
                if "original_bug" in case or "right" in case:
                    continue
                for member in members:
                    if member not in expected or "error" in expected:
                        continue
                    with self.subTest(topic=topic, id=case.get("id"),
                                      member=member):
                        self.same(expected[member],
                                  answer.get(member, answer))
                        compared += 1
            self.assertGreater(compared, 0, topic)

    def ask(self, topic, question):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "case.json"
            path.write_text(json.dumps(question))
            result = ctl("topology", "answer", topic, str(path))
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    def test_a_broadcast_moves_ownership_to_the_heads(self):
        # Two data indices of two stages each: workers 0 and 1 are the first
        # stage, 2 and 3 the last, whose tensor rank 0 are the heads.
        answer = self.ask("bcast", {
            "tracker": {
                "storages": [[["a", ["x"]], ["b", ["x"]]], [], [], []],
                "owners": [["a", "x", 0], ["b", "x", 0]],
            },
            "n_gpus_per_node": 4,
            "dests": [[0, ["a"]], [1, ["b"]], [2, ["a"]], [3, ["b"]]],
            "keys": ["x"],
            "job": {"axes": ["pipe", "data", "tensor"], "dims": [2, 2, 1],
                    "rank_to_worker": [0, 1, 2, 3]},
            "ids_by_data": [["a"], ["b"]],
        })
        self.assertEqual(sum(answer["stage_sizes"]), len(answer["plan"]))
        self.assertEqual(answer["tracker_after"], {
            "storages": [[["a", ["x"]], ["b", ["x"]]], [["b", ["x"]]],
                         [["a", ["x"]]], [["b", ["x"]]]],
            "owners": [["a", "x", 2], ["b", "x", 3]],
        })

    def test_sluices_own_division(self):
        question = {"fn": "min_abs_diff_partition",
                    "nums": [2, 3, 6, 1, 6, 1], "k": 4, "min_size": 1}
        def difference(answer):
            sums = [sum(question["nums"][a:b])
                    for a, b in answer["partitions"]]
            return max(sums) - min(sums)
        self.assertEqual(difference(self.ask("datapack", question)), 6)
        self.assertEqual(
            difference(self.ask("datapack", question | {"rule": "balanced"})),
            5)

    def test_show(self):
        result = ctl("topology", "show", "pipe=2,data=1,tensor=2", "--groups")
        self.assertEqual(result.returncode, 0, result.stderr)
        lines = result.stdout.splitlines()
        self.assertEqual(lines[0], "rank  pipe data tensor")
        self.assertEqual(lines[3], "2  1 0 0")
        self.assertIn("groups along tensor\n  0 1\n  2 3\n", result.stdout)
        self.assertIn("process groups, in order of creation", result.stdout)
        answer = json.loads(
            ctl("--json", "topology", "show", "a=2,b=3").stdout)
        self.assertEqual(answer["world_size"], 6)
        self.assertEqual(answer["coords"][4], [1, 1])
        self.assertEqual(answer["comm_lists"]["a"], [[0, 3], [1, 4], [2, 5]])

    def test_factors(self):
        answer = json.loads(ctl("--json", "topology", "factors", "12").stdout)
        self.assertEqual(answer["original_base_order_triples"],
                         [[1, 1, 12], [1, 2, 6], [1, 3, 4], [2, 2, 3]])
        self.assertEqual(answer["prime_factors"], [2, 2, 3])

    def test_bad_input(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "case.json"
            path.write_text(json.dumps({"axes": ["a"]}))
            for arguments, code, word in (
                (("show", "a=0"), 2, "a"),
                (("show", "a=2", "--groups"), 2, "pipe"),
                (("factors", "-1"), 2, "-1"),
                (("answer", "topology", str(path)), 2, "dims"),
                (("answer", "astrology", str(path)), 2, "rank_mapping"),
                (("answer", "topology", "/no/such/file"), 4, "/no/such/file"),
            ):
                with self.subTest(arguments=arguments):
                    result = ctl("topology", *arguments)
                    self.assertEqual(result.returncode, code, result.stderr)
                    self.assertIn(word, result.stderr)


if __name__ == "__main__":
    unittest.main()
