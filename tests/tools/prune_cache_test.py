"""tools/prune_cache.py: what goes from the cache and what stays."""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = "tools/prune_cache.py"
FILE_BYTES = 1024
LIMIT_GIB = 10 * FILE_BYTES / 2**30  # ten files, of which eight are left


class PruneCache(unittest.TestCase):
    def setUp(self):
        self._folder = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self._folder.name)

    def tearDown(self):
        self._folder.cleanup()

    def add(self, count):
        """Files "0", "1", ... in two folders, last used at seconds 0, 1, ..."""
        for i in range(count):
            path = self.folder / str(i % 2) / str(i)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"x" * FILE_BYTES)
            os.utime(path, (i, i))

    def prune(self, since):
        subprocess.run(
            [sys.executable, SCRIPT, str(self.folder), str(LIMIT_GIB), str(since)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return sorted(int(p.name) for p in self.folder.glob("*/*"))

    def test_within_the_limit_all_stays(self):
        self.add(10)
        self.assertEqual(self.prune(since=1000), list(range(10)))

    def test_above_it_the_least_recently_used_go(self):
        self.add(12)
        self.assertEqual(self.prune(since=1000), list(range(4, 12)))

    def test_what_was_used_since_stays(self):
        self.add(12)
        self.assertEqual(self.prune(since=2), list(range(2, 12)))
        self.assertEqual(self.prune(since=0), list(range(2, 12)))


if __name__ == "__main__":
    unittest.main()
