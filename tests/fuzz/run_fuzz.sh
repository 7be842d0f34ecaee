#!/bin/bash
# Runs one fuzz target: run_fuzz.sh PROGRAM CORPUS SECONDS. A program without
# libFuzzer runs the corpus and ignores the options. What crashed it is among
# the test's outputs: add that file to the corpus with its repair.
set -euo pipefail
program="$1" corpus="$2" seconds="$3"
outputs="${TEST_UNDECLARED_OUTPUTS_DIR:-/tmp}"
found="$(mktemp -d "${TEST_TMPDIR:-/tmp}/found.XXXXXX")"
# The first folder takes what is found; the corpus is only read.
exec "${program}" -max_total_time="${seconds}" -runs=20000000 -max_len=65536 \
  -timeout=20 -rss_limit_mb=3072 -print_final_stats=1 -verbosity=1 \
  -artifact_prefix="${outputs}/" "${found}" "${corpus}"
