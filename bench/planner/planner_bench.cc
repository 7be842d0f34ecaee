// What planning costs, on one core. Google Benchmark: JSON with
// --benchmark_format=json, a subset with --benchmark_filter=REGEX.
//
//   bazel run -c opt //bench:planner_bench

#include <benchmark/benchmark.h>

BENCHMARK_MAIN();
