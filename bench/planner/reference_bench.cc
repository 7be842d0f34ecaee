// The reference behaviours: patterns, topology, storage, split, rank mapping.
// Inputs are made once per size, from fixed seeds, outside the clock.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/types/span.h"
#include "bench/planner/measure.h"
#include "common/check.h"
#include "common/ids.h"
#include "coordinator/planner/reference/process_topology.h"
#include "coordinator/planner/reference/rank_mapping.h"
#include "coordinator/planner/reference/redistribution.h"
#include "coordinator/planner/reference/sample_split.h"
#include "coordinator/planner/reference/storage_tracker.h"
#include "coordinator/planner/reference/sync_groups.h"

namespace sluice::bench {
namespace {

namespace reference = coordinator::reference;
using reference::RedistributionRequest;
using reference::StorageTracker;

constexpr int32_t kRanksPerNode = 8;

std::vector<std::string> Names(const char* prefix, int64_t count) {
  std::vector<std::string> names;
  for (int64_t i = 0; i < count; ++i) {
    names.push_back(absl::StrCat(prefix, i));
  }
  return names;
}

// As long as a UUID, in no order.
std::vector<std::string> SampleIds(int64_t count) {
  std::mt19937_64 random(1);
  std::vector<std::string> ids;
  for (int64_t i = 0; i < count; ++i) {
    ids.push_back(absl::StrFormat("%016x-%016x", random(), random()));
  }
  return ids;
}

enum class Spread {
  kAnywhere,    // every (sample, key) on a rank of its own
  kPerReplica,  // a sample on all ranks of a node, owned by its first
};
enum class Wanted {
  kByNode,  // every node a share, all its ranks the same
  kByRank,  // every rank a share of its own, given as a list of its own
  kByAll,   // everything on every rank
};

struct Case {
  StorageTracker storage;
  RedistributionRequest request;
};

StorageTracker MakeStorage(int32_t ranks, const std::vector<std::string>& ids,
                           const std::vector<std::string>& keys,
                           Spread spread) {
  StorageTracker storage = *StorageTracker::Create(ranks);
  std::mt19937_64 random(2);
  const auto rank_below = [&](int32_t n) {
    return static_cast<int32_t>(random() % static_cast<uint64_t>(n));
  };
  for (const std::string& id : ids) {
    if (spread == Spread::kAnywhere) {
      for (const std::string& key : keys) {
        SLUICE_CHECK_OK(
            storage.Add(Rank(rank_below(ranks)), {id}, {key}, true));
      }
      continue;
    }
    const int32_t first = rank_below(ranks / kRanksPerNode) * kRanksPerNode;
    for (int32_t r = 0; r < kRanksPerNode; ++r) {
      SLUICE_CHECK_OK(storage.Add(Rank(first + r), {id}, keys, r == 0));
    }
  }
  return storage;
}

Case MakeCase(int32_t ranks, int64_t samples, int64_t num_keys, Spread spread,
              Wanted wanted) {
  const std::vector<std::string> ids = SampleIds(samples);
  Case made{MakeStorage(ranks, ids, Names("key", num_keys), spread), {}};
  made.request.keys = Names("key", num_keys);
  made.request.ranks_per_node = kRanksPerNode;
  const int32_t in_group = wanted == Wanted::kByRank   ? 1
                           : wanted == Wanted::kByNode ? kRanksPerNode
                                                       : ranks;
  const int64_t groups = ranks / in_group;
  for (int64_t g = 0; g < groups; ++g) {
    reference::DestinationGroup& group =
        made.request.destinations.emplace_back();
    for (int32_t r = 0; r < in_group; ++r) {
      group.ranks.push_back(Rank(static_cast<int32_t>(g) * in_group + r));
    }
    for (int64_t i = g * samples / groups; i < (g + 1) * samples / groups;
         ++i) {
      group.ids.push_back(ids[static_cast<size_t>(i)]);
    }
  }
  return made;
}

void Sizes(benchmark::internal::Benchmark* bench) {
  BestOfFive(bench->ArgNames({"ranks", "samples", "keys"})
                 ->Args({64, 4096, 8})
                 ->Args({256, 16384, 8})
                 ->Args({512, 32768, 8})
                 ->Args({1024, 65536, 8}));
}

template <typename Planner>
void RunPattern(benchmark::State& state, Planner planner, Spread spread,
                Wanted wanted) {
  Case made = MakeCase(static_cast<int32_t>(state.range(0)), state.range(1),
                       state.range(2), spread, wanted);
  const reference::StorageSnapshot storage = made.storage.Snapshot();
  const PeakMemory peak;
  size_t num_steps = 0;
  for (auto _ : state) {
    const auto plan = planner(storage, made.request);
    SLUICE_CHECK_OK(plan.status());
    num_steps = plan->steps.size();
    benchmark::DoNotOptimize(num_steps);
  }
  peak.Report(state);
  state.counters["steps"] = static_cast<double>(num_steps);
}

#define PATTERN_BENCHMARK(name, planner, spread, wanted)                   \
  void name(benchmark::State& state) {                                     \
    RunPattern(state, reference::planner, Spread::spread, Wanted::wanted); \
  }                                                                        \
  BENCHMARK(name)->Apply(Sizes)

PATTERN_BENCHMARK(GatherScatter, PlanGatherScatter, kAnywhere, kByNode);
PATTERN_BENCHMARK(GatherScatterByRank, PlanGatherScatter, kAnywhere, kByRank);
PATTERN_BENCHMARK(GatherScatterReplicas, PlanGatherScatter, kPerReplica,
                  kByNode);
PATTERN_BENCHMARK(Broadcast, PlanBroadcast, kAnywhere, kByNode);
PATTERN_BENCHMARK(BroadcastByRank, PlanBroadcast, kAnywhere, kByRank);
PATTERN_BENCHMARK(BroadcastReplicas, PlanBroadcast, kPerReplica, kByNode);

void Coordinates(benchmark::State& state) {
  const auto topology = reference::ProcessTopology::Create(
      {"pipe", "data", "tensor"},
      {static_cast<int32_t>(state.range(0)), 64, 8});
  SLUICE_CHECK_OK(topology.status());
  for (auto _ : state) {
    benchmark::DoNotOptimize(topology->AllCoordinates());
  }
  state.counters["ranks"] = topology->world_size();
}
BENCHMARK(Coordinates)
    ->ArgName("pipe")
    ->Arg(8)
    ->Arg(16)
    ->Arg(32)
    ->Arg(64)
    ->Apply([](auto* bench) { BestOfFive(bench, benchmark::kMicrosecond); });

// Sizes of a mapping between as many ranks: tensor 4 to 8, or 8 to 8.
reference::RankMappingInput MappingInput(int32_t ranks, bool two_stage) {
  reference::RankMappingInput input;
  const int32_t tensor = two_stage ? 4 : 8;
  input.source = {tensor, 8, 1, ranks / tensor / 8};
  input.destination = {8, 1, 1, ranks / 8, false};
  input.colocated = true;
  for (int32_t rank = 0; rank < ranks; ++rank) {
    input.source_gpus.push_back(rank);
    input.destination_gpus.push_back(ranks - 1 - rank);
  }
  return input;
}

// The mapping, the order of its senders, their groups and the rounds.
void MapRanks(benchmark::State& state, bool two_stage) {
  const reference::RankMappingInput input =
      MappingInput(static_cast<int32_t>(state.range(0)), two_stage);
  const std::vector<reference::SourceActor> actors =
      reference::MegatronActors(input.source);
  for (auto _ : state) {
    const auto mapping = reference::MapRanks(input);
    SLUICE_CHECK_OK(mapping.status());
    std::vector<int32_t> data_ranks;
    for (const reference::Fanout& fanout : mapping->stage1) {
      data_ranks.push_back(
          actors[static_cast<size_t>(fanout.sender)].data_rank);
    }
    const std::vector<int32_t> senders =
        reference::SendersInTurns(mapping->stage1, data_ranks);
    benchmark::DoNotOptimize(
        reference::SplitSyncGroups(mapping->stage1, senders));
    benchmark::DoNotOptimize(reference::DisjointRounds(mapping->stage2));
  }
}
void RankMappingTwoStage(benchmark::State& state) { MapRanks(state, true); }
void RankMappingDirect(benchmark::State& state) { MapRanks(state, false); }

void MappingSizes(benchmark::internal::Benchmark* bench) {
  BestOfFive(
      bench->ArgName("ranks")->Arg(512)->Arg(1024)->Arg(2048)->Arg(4096));
}
BENCHMARK(RankMappingTwoStage)->Apply(MappingSizes);
BENCHMARK(RankMappingDirect)->Apply(MappingSizes);

// Fills a storage in batches of 1,024 samples, keys one after the other as a
// graph's nodes make them, with a snapshot after every batch.
void FillStorage(benchmark::State& state) {
  const int64_t samples = state.range(0);
  const std::vector<std::string> ids = SampleIds(samples);
  const std::vector<std::string> keys = Names("key", state.range(1));
  const PeakMemory peak;
  for (auto _ : state) {
    StorageTracker storage = *StorageTracker::Create(1024);
    for (int64_t first = 0; first < samples; first += 1024) {
      const auto batch =
          absl::MakeConstSpan(ids).subspan(static_cast<size_t>(first), 1024);
      const Rank rank(static_cast<int32_t>(first / 1024 % 1024));
      for (const std::string& key : keys) {
        SLUICE_CHECK_OK(storage.Add(rank, batch, {key}, true));
      }
      benchmark::DoNotOptimize(storage.Snapshot());
    }
  }
  state.counters["additions/s"] = benchmark::Counter(
      static_cast<double>(samples * state.range(1) * state.iterations()),
      benchmark::Counter::kIsRate);
  peak.Report(state);
}
BENCHMARK(FillStorage)
    ->ArgNames({"samples", "keys"})
    ->Args({1 << 17, 8})
    ->Args({1 << 18, 8})
    ->Args({1 << 19, 8})
    ->Args({1'000'000, 8})
    ->Unit(benchmark::kMillisecond)
    ->Iterations(1);

void SplitBatch(benchmark::State& state) {
  std::mt19937_64 random(3);
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < state.range(0); ++i) {
    lengths.push_back(static_cast<int64_t>(random() % 32768 + 1));
  }
  const auto parts = static_cast<int32_t>(state.range(1));
  for (auto _ : state) {
    benchmark::DoNotOptimize(reference::SplitSamples(lengths, {parts}));
  }
}
BENCHMARK(SplitBatch)
    ->ArgNames({"samples", "parts"})
    ->Args({8192, 128})
    ->Args({16384, 256})
    ->Args({32768, 512})
    ->Args({65536, 1024})
    ->Apply([](auto* bench) { BestOfFive(bench); });

}  // namespace
}  // namespace sluice::bench
