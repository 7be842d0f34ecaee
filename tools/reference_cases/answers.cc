#include "tools/reference_cases/answers.h"

#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/ids.h"
#include "common/status_macros.h"
#include "coordinator/planner/reference/collective_step.h"
#include "coordinator/planner/reference/datapack.h"
#include "coordinator/planner/reference/factorization.h"
#include "coordinator/planner/reference/redistribution.h"
#include "coordinator/planner/reference/sample_split.h"
#include "coordinator/planner/reference/storage_tracker.h"
#include "coordinator/planner/reference/tracker_update.h"
#include "tools/reference_cases/rank_answers.h"
#include "tools/reference_cases/storage_json.h"

namespace sluice::reference_cases {
namespace {

namespace reference = coordinator::reference;
using reference::RedistributionSteps;
using reference::StorageTracker;

absl::StatusOr<Json> AnswerFactors(const Json& question) {
  const int64_t n = question.at("n");
  SLUICE_ASSIGN_OR_RETURN(const auto all, reference::AllThreeFactors(n));
  SLUICE_ASSIGN_OR_RETURN(const auto base, reference::AscendingThreeFactors(n));
  Json out = {{"three_factors_sorted", all},
              {"original_base_order_triples", base}};
  if (n < 1) return out;
  SLUICE_ASSIGN_OR_RETURN(const auto primes, reference::PrimeFactors(n));
  out["prime_factors"] = primes;
  return out;
}

absl::StatusOr<Json> AnswerStorage(const Json& question) {
  SLUICE_ASSIGN_OR_RETURN(StorageTracker storage,
                          StorageTracker::Create(question.at("world_size")));
  for (const Json& op : question.at("ops")) {
    const std::vector<std::string> ids = ReadIds(op.at("ids"));
    if (op.at("op") == "clear") {
      storage.Clear(ids);
      continue;
    }
    const std::string keys[] = {op.at("key")};
    SLUICE_RETURN_IF_ERROR(storage.Add(Rank(op.at("rank").get<int32_t>()), ids,
                                       keys, op.at("is_owner")));
  }
  return Json{{"final", WriteStorage(storage.Snapshot())}};
}

absl::StatusOr<Json> AnswerGatherScatter(const Json& question) {
  SLUICE_ASSIGN_OR_RETURN(StorageTracker storage,
                          ReadStorage(question.at("tracker")));
  SLUICE_ASSIGN_OR_RETURN(
      const RedistributionSteps plan,
      reference::PlanGatherScatter(storage.Snapshot(), ReadRequest(question)));
  SLUICE_RETURN_IF_ERROR(reference::ApplyGatherScatter(plan, storage));
  return Json{{"plan", WriteSteps(plan)},
              {"tracker_after", WriteStorage(storage.Snapshot())}};
}

absl::StatusOr<Json> AnswerBroadcast(const Json& question) {
  SLUICE_ASSIGN_OR_RETURN(StorageTracker storage,
                          ReadStorage(question.at("tracker")));
  SLUICE_ASSIGN_OR_RETURN(
      const RedistributionSteps plan,
      reference::PlanBroadcast(storage.Snapshot(), ReadRequest(question)));
  std::vector<int> sizes;
  for (const reference::CollectiveStep& step : plan.steps) {
    sizes.resize(static_cast<size_t>(step.stage) + 1);
    ++sizes.back();
  }
  return Json{{"plan", WriteSteps(plan)}, {"stage_sizes", sizes}};
}

absl::StatusOr<Json> AnswerDatapack(const Json& question) {
  const std::string fn = question.at("fn");
  if (fn == "ffd_allocate") {
    const std::vector<int64_t> values = question.at("values");
    SLUICE_ASSIGN_OR_RETURN(
        const auto groups,
        reference::FirstFitDecreasing(values, question.at("capacity"),
                                      question.at("min_groups")));
    return Json{{"groups", groups}};
  }
  if (fn == "min_abs_diff_partition") {
    const std::vector<int64_t> values = question.at("nums");
    SLUICE_ASSIGN_OR_RETURN(const auto runs, reference::MinDifferencePartition(
                                                 values, question.at("k"),
                                                 question.at("min_size")));
    return Json{{"partitions", runs}};
  }
  if (fn == "reorder_to_balanced_batches") {
    const std::vector<int64_t> values = question.at("seqlens");
    SLUICE_ASSIGN_OR_RETURN(const reference::BalancedBatches batches,
                            reference::ReorderToBalancedBatches(
                                values, question.at("n_seqs_per_batch")));
    return Json{{"indices", batches.indices},
                {"max_diff", batches.max_difference}};
  }
  return absl::InvalidArgumentError(
      absl::StrCat("fn: expected ffd_allocate, min_abs_diff_partition or "
                   "reorder_to_balanced_batches, found \"",
                   fn, "\""));
}

// "rule": "balanced" asks for Sluice's own division.
absl::StatusOr<Json> AnswerSplit(const Json& question) {
  std::vector<reference::KeyLengths> keys;
  for (const Json& entry : question.at("seqlens")) {
    keys.push_back({entry.at(0), entry.at(1)});
  }
  SLUICE_ASSIGN_OR_RETURN(const size_t key, reference::SplitKey(keys));
  std::vector<int64_t> lengths = reference::SampleLengths(keys[key]);
  if (question.value("mode", "by_tokens") == "by_count") {
    lengths.assign(lengths.size(), 1);
  }
  const bool balanced = question.value("rule", "reference") == "balanced";
  SLUICE_ASSIGN_OR_RETURN(
      const reference::SampleSplit split,
      reference::SplitSamples(
          lengths,
          {question.at("n_mbs"),
           question.value("max_tokens_per_mb", reference::kNoTokenLimit),
           balanced ? reference::SplitRule::kBalanced
                    : reference::SplitRule::kReference}));
  const std::vector<Json> ids = question.at("ids");
  if (ids.size() != lengths.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("ids: expected ", lengths.size(), ", found ", ids.size()));
  }
  Json group_ids = Json::array();
  std::vector<size_t> sizes;
  for (const std::vector<int32_t>& group : split.groups) {
    sizes.push_back(group.size());
    Json& of_group = group_ids.emplace_back(Json::array());
    for (const int32_t i : group) {
      of_group.push_back(ids[static_cast<size_t>(i)]);
    }
  }
  return Json{{"split_key", keys[key].key},
              {"lens", lengths},
              {"forward_indices", split.forward},
              {"backward_indices", split.backward},
              {"sizes", sizes},
              {"partitions", split.partitions},
              {"group_ids", std::move(group_ids)}};
}

struct Topic {
  const char* name;
  absl::StatusOr<Json> (*answer)(const Json&);
};

constexpr Topic kTopics[] = {
    {"topology", AnswerTopology},
    {"grid", AnswerGrid},
    {"factors", AnswerFactors},
    {"storage", AnswerStorage},
    {"gather_scatter", AnswerGatherScatter},
    {"bcast", AnswerBroadcast},
    {"datapack", AnswerDatapack},
    {"split", AnswerSplit},
    {"rank_mapping", AnswerRankMapping},
    {"rank_mapping_hep", AnswerRankMapping},
    {"sync_groups", AnswerSyncGroups},
};

}  // namespace

std::vector<std::string> Topics() {
  std::vector<std::string> names;
  for (const Topic& topic : kTopics) names.emplace_back(topic.name);
  return names;
}

absl::StatusOr<Json> Answer(absl::string_view topic, const Json& question) {
  for (const Topic& known : kTopics) {
    if (topic != known.name) continue;
    try {
      absl::StatusOr<Json> answer = known.answer(question);
      if (answer.ok()) return answer;
      return absl::Status(
          answer.status().code(),
          WithReadableIds(std::string(answer.status().message())));
    } catch (const Json::exception& error) {
      return absl::InvalidArgumentError(
          absl::StrCat(topic, ": ", error.what()));
    }
  }
  return absl::InvalidArgumentError(absl::StrCat("topic: expected one of ",
                                                 absl::StrJoin(Topics(), ", "),
                                                 ", found \"", topic, "\""));
}

}  // namespace sluice::reference_cases
