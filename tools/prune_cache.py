#!/usr/bin/python3
"""Removes the least recently used files of Bazel's disk cache.

Usage: prune_cache.py FOLDER GIB SINCE

Bazel never cleans --disk_cache itself. It marks a file's time when it uses it,
and treats a missing file as a result to be made again.

What was used since SINCE (seconds of the epoch) stays, however much it is: a
run that does not fit would otherwise throw away what it did first, and the next
one make all of it again.
"""

import os
import sys

# What is left after pruning, of the limit, so that not every run prunes.
TARGET_SHARE = 0.8


def main():
    folder, limit, since = sys.argv[1], float(sys.argv[2]) * 2**30, float(sys.argv[3])
    files = []
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            try:
                info = os.lstat(path)
            except FileNotFoundError:
                continue  # Another run is pruning too.
            files.append((max(info.st_mtime, info.st_atime), info.st_size, path))
    total = sum(size for _, size, _ in files)
    if total <= limit:
        return
    before = total
    for used, size, path in sorted(files):
        if total <= limit * TARGET_SHARE or used >= since:
            break
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        total -= size
    print(f"cache {folder}: {before / 2**30:.1f} GiB pruned to {total / 2**30:.1f}")


if __name__ == "__main__":
    main()
