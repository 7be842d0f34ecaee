#!/bin/bash
# Before a change is handed in: style, clang-tidy on the changed files, tests.
#
#   tools/presubmit.sh            changes against the main branch, quick tests
#   tools/presubmit.sh --all      every file, and all jobs of tests/run
set -uo pipefail

cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." || exit 1

tools/ensure_packages || exit 1

test_arguments=(--quick)
if [[ "${1:-}" == --all ]]; then
  mapfile -t files < <(git ls-files)
  test_arguments=()
else
  base="$(git merge-base HEAD origin/main 2>/dev/null || git rev-parse HEAD)"
  mapfile -t files < <({
    git diff --name-only --diff-filter=d "${base}"
    git ls-files --others --exclude-standard
  } | sort -u)
fi

status=0
tools/check_style "${files[@]}" || status=1

# clang-tidy reads generated headers, so build first.
bazel build --keep_going //... || status=1
units=()
for file in "${files[@]}"; do
  [[ "${file}" == *.cc ]] && units+=("${file}")
done
if [[ ${#units[@]} -gt 0 ]]; then
  printf '%s\0' "${units[@]}" |
    xargs -0 -n 1 -P "$(nproc)" tools/tidy || status=1
fi

tests/run --no-install "${test_arguments[@]}" || status=1
[[ ${status} -eq 0 ]] || echo "presubmit: failed" >&2
exit "${status}"
