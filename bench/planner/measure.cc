#include "bench/planner/measure.h"

#include <malloc.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

namespace sluice::bench {
namespace {

constexpr int kRepetitions = 5;

// A line of /proc/self/status in KiB, such as "VmHWM:", as MiB.
double StatusMiB(const std::string& line) {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    if (word != line) continue;
    double kib = 0;
    status >> kib;
    return kib / 1024;
  }
  return 0;
}

double Least(const std::vector<double>& values) {
  return *std::min_element(values.begin(), values.end());
}

}  // namespace

benchmark::internal::Benchmark* BestOfFive(
    benchmark::internal::Benchmark* bench, benchmark::TimeUnit unit) {
  return bench->Unit(unit)
      ->Repetitions(kRepetitions)
      ->ReportAggregatesOnly()
      ->ComputeStatistics("min", Least);
}

PeakMemory::PeakMemory() {
  malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << "5";  // forgets the peak
  start_mib_ = StatusMiB("VmRSS:");
}

void PeakMemory::Report(benchmark::State& state) const {
  const double peak = StatusMiB("VmHWM:");
  state.counters["peak_MiB"] = peak;
  state.counters["used_MiB"] = std::max(peak - start_mib_, 0.0);
}

}  // namespace sluice::bench
