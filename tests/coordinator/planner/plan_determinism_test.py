"""The same request gives the same plan bytes, whatever a process hashes with."""

import subprocess
import unittest

PROGRAM = "tests/coordinator/planner/plan_digests"
PROCESSES = 6


class PlanDeterminismTest(unittest.TestCase):
    def test_processes_of_other_seeds_make_the_same_plans(self):
        seeds = set()
        plans = set()
        for _ in range(PROCESSES):
            done = subprocess.run([PROGRAM], stdout=subprocess.PIPE, text=True)
            self.assertEqual(done.returncode, 0, done.stdout)
            seed, _, rest = done.stdout.partition("\n")
            self.assertTrue(seed.startswith("seed "), seed)
            seeds.add(seed)
            plans.add(rest)
        # Address space layout randomisation seeds Abseil's hashes.
        self.assertGreater(len(seeds), 1)
        self.assertEqual(len(plans), 1, "\n\n".join(plans))
        self.assertGreaterEqual(len(plans.pop().splitlines()), 10)


if __name__ == "__main__":
    unittest.main()
