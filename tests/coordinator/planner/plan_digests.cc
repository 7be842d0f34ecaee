// Prints a digest of the bytes of many plans, each made several times in one
// process, and a number that the process's hash seed decides. Exits 1 if two
// plans of one request differ. Other processes have other seeds and other
// addresses: see plan_determinism_test.py.

#include <algorithm>
#include <cstdint>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "bench/planner/published_cases.h"
#include "common/check.h"
#include "common/convert_plan.h"
#include "common/plan.h"
#include "coordinator/planner/planners.h"
#include "coordinator/planner/reference/redistribution.h"
#include "coordinator/planner/reference/storage_tracker.h"

namespace sluice::coordinator {
namespace {

constexpr int kTimes = 3;

// FNV-1a; nothing of it depends on the process.
uint64_t Digest(const std::string& bytes) {
  uint64_t digest = 0xcbf29ce484222325u;
  for (const char c : bytes) {
    digest = (digest ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  }
  return digest;
}

// Every part as sent, in order of ranks, and the certificate's figures.
std::string BytesOf(const TransferPlan& plan, int32_t num_ranks) {
  std::string out = absl::StrCat(plan.certificate.max_link_bytes, " ",
                                 plan.certificate.lower_bound_bytes, " ",
                                 plan.certificate.peak_staging_bytes);
  for (const PlanPart& part : SplitPlan(plan, num_ranks)) {
    absl::StrAppend(&out, ToProto(part).SerializeAsString());
  }
  return out;
}

std::string ReshardBytes(const std::string& name) {
  const auto published = bench::FindPublishedCase(name);
  SLUICE_CHECK_OK(published.status());
  const auto input =
      bench::MakeReshardInput(*published, {{"num_hidden_layers", 8}});
  SLUICE_CHECK_OK(input.status());
  const auto plan = PlanReshard(*input);
  SLUICE_CHECK_OK(plan.status());
  return BytesOf(*plan, input->topology.num_ranks());
}

std::string RedistributionBytes(Pattern pattern) {
  RedistributionInput input;
  input.pattern = pattern;
  for (int32_t r = 0; r < 16; ++r) {
    input.topology.node_of_rank.push_back(r / 4);
  }
  std::mt19937 random(7);
  for (int s = 0; s < 300; ++s) {
    for (const char* key : {"a", "b", "c"}) {
      SampleHolding& held = input.holdings.emplace_back();
      held.entry = {absl::StrCat("s", 1000 + s),
                    key,
                    DType::kF32,
                    {static_cast<int64_t>(random() % 50 + 1)},
                    {}};
      const auto first = static_cast<int32_t>(random() % 15);
      held.holders = {Rank(first), Rank(first + 1)};
      held.owner = Rank(first);
      const auto wanted = static_cast<int32_t>(random() % 14);
      input.wanted.push_back({Rank(wanted), Rank(wanted + 2)});
    }
  }
  const auto plan = PlanRedistribution(input);
  SLUICE_CHECK_OK(plan.status());
  return BytesOf(*plan, input.topology.num_ranks());
}

// The storage is filled in another order each time.
std::string StepBytes(bool broadcast, int time) {
  auto storage = reference::StorageTracker::Create(16);
  SLUICE_CHECK_OK(storage.status());
  std::vector<int32_t> order(400);
  for (size_t i = 0; i < order.size(); ++i) {
    order[i] = static_cast<int32_t>(i);
  }
  std::shuffle(order.begin(), order.end(),
               std::mt19937(static_cast<unsigned>(time)));
  reference::RedistributionRequest request;
  request.keys = {"a", "b"};
  request.ranks_per_node = 4;
  request.destinations.resize(4);
  for (const int32_t i : order) {
    const std::string id = absl::StrCat("s", i);
    SLUICE_CHECK_OK(
        storage->Add(Rank(i % 16), {id}, {"a", "b"}, /*is_owner=*/true));
    SLUICE_CHECK_OK(
        storage->Add(Rank((i * 7 + 3) % 16), {id}, {"b"}, i % 3 == 0));
    request.destinations[static_cast<size_t>(i % 4)].ids.push_back(id);
  }
  for (int32_t g = 0; g < 4; ++g) {
    auto& group = request.destinations[static_cast<size_t>(g)];
    for (int32_t r = 0; r < 4; ++r) group.ranks.push_back(Rank(4 * g + r));
  }
  const auto steps = broadcast
                         ? PlanBroadcast(storage->Snapshot(), request)
                         : PlanGatherScatter(storage->Snapshot(), request);
  SLUICE_CHECK_OK(steps.status());
  std::string out;
  for (const reference::CollectiveStep& step : steps->steps) {
    absl::StrAppend(&out, static_cast<int>(step.kind), " ", step.stage, " ",
                    step.root.value(), " keys ", absl::StrJoin(step.keys, ","));
    for (const Rank peer : step.peers) {
      absl::StrAppend(&out, " ", peer.value());
    }
    for (const std::vector<int32_t>& samples : step.samples) {
      absl::StrAppend(&out, " [", absl::StrJoin(samples, ","), "]");
    }
    out += "\n";
  }
  return out;
}

// Returns 1 if the bytes differ from time to time.
template <typename Make>
int Print(const std::string& name, const Make& make) {
  const std::string first = make(0);
  std::cout << name << " " << first.size() << " " << Digest(first) << "\n";
  // Moves what later containers allocate, by which they are seeded too.
  std::vector<std::unique_ptr<std::string>> shift;
  for (int time = 1; time < kTimes; ++time) {
    shift.push_back(
        std::make_unique<std::string>(static_cast<size_t>(997 * time), 'x'));
    if (make(time) == first) continue;
    std::cout << name << ": differs within one process\n";
    return 1;
  }
  return 0;
}

int Main() {
  std::cout << "seed " << absl::Hash<std::string>()("seed") << "\n";
  int failed = 0;
  for (const bench::PublishedCase& published : bench::PublishedCases()) {
    if (published.num_ranks() > 600) continue;  // more of the same, slower
    failed |= Print(published.name,
                    [&](int) { return ReshardBytes(published.name); });
  }
  const std::vector<std::pair<std::string, Pattern>> patterns = {
      {"DIRECT", Pattern::kDirect},
      {"GATHER_SCATTER", Pattern::kGatherScatter},
      {"BROADCAST", Pattern::kBroadcast}};
  for (const auto& [name, pattern] : patterns) {
    const Pattern chosen = pattern;
    failed |= Print(name, [&](int) { return RedistributionBytes(chosen); });
  }
  for (const bool broadcast : {false, true}) {
    failed |= Print(broadcast ? "storage BROADCAST" : "storage GATHER_SCATTER",
                    [&](int time) { return StepBytes(broadcast, time); });
  }
  return failed;
}

}  // namespace
}  // namespace sluice::coordinator

int main() { return sluice::coordinator::Main(); }
