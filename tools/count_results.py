#!/usr/bin/python3
"""Sums the results of tests/run's jobs into "N passed, N failed".

Usage: count_results.py FOLDER

FOLDER holds, for each job, NAME.status (the exit status of its command) and,
for Bazel's jobs, NAME.json (its build event file). Exits 1 when something
failed or nothing ran.
"""

import json
import pathlib
import re
import sys
import urllib.parse

# The line that tests/support/catch_main.cc ends with.
COUNT_LINE = re.compile(r"^(\d+) passed, (\d+) failed$", re.MULTILINE)

# Bazel's exit statuses for "all tests passed" and "no tests in these targets".
SUCCESS = 0
NO_TESTS = 4


def read_events(path):
    """Yields the events of a build event file; a torn last line is skipped."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue


def count_in_log(outputs):
    """(passed, failed) of the last count line in a test's log, or None."""
    for output in outputs:
        if output.get("name") != "test.log" or "uri" not in output:
            continue
        path = urllib.parse.unquote(urllib.parse.urlparse(output["uri"]).path)
        try:
            text = pathlib.Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        counts = COUNT_LINE.findall(text)
        if counts:
            return int(counts[-1][0]), int(counts[-1][1])
    return None


def count_target(status, count):
    """(passed, failed) of one test target."""
    if status == "PASSED":
        if count is None:
            return 1, 0  # A script: one test.
        # A program without a single test case has tested nothing.
        return count if sum(count) > 0 else (0, 1)
    if count is None:
        return 0, 1  # Died, timed out or did not build.
    # It may fail after counting: a leak, a race, a crash while exiting.
    return count[0], max(count[1], 1)


def count_job(events):
    """(passed, failed, labels of failed targets) of one Bazel job."""
    results = {}  # (label, run, shard) -> (attempt, status, count)
    broken = set()
    for event in events:
        identity = event.get("id", {})
        if "testResult" in identity:
            key = identity["testResult"]
            result = event.get("testResult", {})
            slot = (key["label"], key.get("run", 1), key.get("shard", 1))
            attempt = key.get("attempt", 1)
            if slot in results and results[slot][0] > attempt:
                continue
            count = count_in_log(result.get("testActionOutput", []))
            results[slot] = (attempt, result.get("status", "NO_STATUS"), count)
        elif "targetCompleted" in identity:
            if not event.get("completed", {}).get("success", False):
                broken.add(identity["targetCompleted"]["label"])
    passed = failed = 0
    failed_labels = []
    for (label, _, _), (_, status, count) in sorted(
        results.items(), key=lambda item: item[0]
    ):
        target_passed, target_failed = count_target(status, count)
        passed += target_passed
        failed += target_failed
        if target_failed:
            failed_labels.append(f"{label} ({status}, {target_failed} failed)")
    tested = {label for label, _, _ in results}
    for label in sorted(broken - tested):
        failed += 1
        failed_labels.append(f"{label} (did not build)")
    return passed, failed, failed_labels


def main():
    folder = pathlib.Path(sys.argv[1])
    passed = failed = 0
    for status_file in sorted(folder.glob("*.status")):
        job = status_file.stem
        status = int(status_file.read_text())
        job_passed, job_failed, labels = count_job(
            read_events(folder / f"{job}.json")
        )
        # A job without tests of its own is one check. One that fails without a
        # failed target (a BUILD file that does not load, say) failed all the same.
        if status == SUCCESS and job_passed + job_failed == 0:
            job_passed = 1
        if status not in (SUCCESS, NO_TESTS) and job_failed == 0:
            job_failed = 1
            labels.append(f"exit status {status}")
        for label in labels:
            print(f"FAILED {job}: {label}")
        print(f"{job}: {job_passed} of {job_passed + job_failed} passed")
        passed += job_passed
        failed += job_failed
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
