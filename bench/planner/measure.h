#ifndef SLUICE_BENCH_PLANNER_MEASURE_H_
#define SLUICE_BENCH_PLANNER_MEASURE_H_

// How these benchmarks are run: five times each, the best beside the average,
// with the process's peak memory.

#include <benchmark/benchmark.h>

namespace sluice::bench {

// Sets the unit and repetitions; the reported "min" is the best of five.
benchmark::internal::Benchmark* BestOfFive(
    benchmark::internal::Benchmark* bench,
    benchmark::TimeUnit unit = benchmark::kMillisecond);

// Watches the process's resident memory from construction on. Memory that
// earlier benchmarks have freed is given back first.
class PeakMemory {
 public:
  PeakMemory();
  // Sets counter "peak_MiB" to the most that was resident at a time, inputs
  // included, and "used_MiB" to how much that is above the start.
  void Report(benchmark::State& state) const;

 private:
  double start_mib_ = 0;
};

}  // namespace sluice::bench

#endif  // SLUICE_BENCH_PLANNER_MEASURE_H_
