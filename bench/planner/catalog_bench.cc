// The coordinator's catalogue, filled as a graph's nodes fill it: batches of
// 1,024 samples, key after key, from one agent after the other.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/planner/measure.h"
#include "common/check.h"
#include "common/dtype.h"
#include "common/ids.h"
#include "common/plan.h"
#include "coordinator/core/catalog.h"

namespace sluice::bench {
namespace {

constexpr int64_t kBatch = 1024;
constexpr int32_t kRanks = 1024;

void FillCatalog(benchmark::State& state) {
  const int64_t samples = state.range(0);
  const int64_t keys = state.range(1);
  const PeakMemory peak;
  for (auto _ : state) {
    coordinator::Catalog catalog;
    std::vector<SampleEntry> batch;
    for (int64_t first = 0; first < samples; first += kBatch) {
      const Rank rank(static_cast<int32_t>(first / kBatch % kRanks));
      for (int64_t k = 0; k < keys; ++k) {
        state.PauseTiming();
        batch.clear();
        for (int64_t s = first; s < std::min(first + kBatch, samples); ++s) {
          SampleEntry& entry = batch.emplace_back();
          entry.sample_id = absl::StrCat("0123456789abcdef-", 10000000 + s);
          entry.key = absl::StrCat("key", k);
          entry.dtype = DType::kF32;
          entry.sequence_lengths = {256 + s % 1024};
        }
        state.ResumeTiming();
        SLUICE_CHECK_OK(catalog.Put(rank, batch));
      }
    }
    state.PauseTiming();
    peak.Report(state);
    SLUICE_CHECK(catalog.num_tensors() == samples * keys);
    state.ResumeTiming();
  }
  state.counters["additions/s"] = benchmark::Counter(
      static_cast<double>(samples * keys * state.iterations()),
      benchmark::Counter::kIsRate);
}
BENCHMARK(FillCatalog)
    ->ArgNames({"samples", "keys"})
    ->Args({1 << 17, 8})
    ->Args({1 << 18, 8})
    ->Args({1 << 19, 8})
    ->Args({1'000'000, 8})
    ->Unit(benchmark::kMillisecond)
    ->Iterations(1);

}  // namespace
}  // namespace sluice::bench
