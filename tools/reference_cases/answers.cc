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
#include "tools/reference_cases/bucket_answers.h"
#include "tools/reference_cases/dispatch_answers.h"
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
  const auto primes = reference::PrimeFactors(n);
  if (primes.ok()) {
    out["prime_factors"] = *primes;
  } else {
    out["prime_factors_error"] = primes.status().ToString();
  }
  return out;
}

// The states at the question's checkpoints are read at the end, from snapshots
// taken in between.
absl::StatusOr<Json> AnswerStorage(const Json& question) {
  SLUICE_ASSIGN_OR_RETURN(StorageTracker storage,
                          StorageTracker::Create(question.at("world_size")));
  std::vector<reference::StorageSnapshot> snapshots;
  for (const Json& op : question.at("ops")) {
    const std::vector<std::string> ids = ReadIds(op.at("ids"));
    if (op.at("op") == "clear") {
      storage.Clear(ids);
    } else {
      const std::string keys[] = {op.at("key")};
      SLUICE_RETURN_IF_ERROR(storage.Add(Rank(op.at("rank").get<int32_t>()),
                                         ids, keys, op.at("is_owner")));
    }
    snapshots.push_back(storage.Snapshot());
  }
  Json checkpoints = Json::array();
  for (const Json& asked : question.value("checkpoints", Json::array())) {
    const size_t op = asked.at("after_op");
    if (op >= snapshots.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("checkpoints: after_op: expected one of ",
                       snapshots.size(), " operations, found ", op));
    }
    checkpoints.push_back(
        {{"after_op", op}, {"state", WriteStorage(snapshots[op])}});
  }
  return Json{{"checkpoints", std::move(checkpoints)},
              {"final", WriteStorage(storage.Snapshot())}};
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

// With the job that wants the samples (`job`, as of a call of topic dispatch,
// and `ids_by_data`, what each data index wants) also the storage after it.
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
  Json out = {{"plan", WriteSteps(plan)}, {"stage_sizes", sizes}};
  if (!question.contains("job")) return out;
  SLUICE_ASSIGN_OR_RETURN(const reference::Workers workers,
                          ReadWorkers(question["job"]));
  std::vector<std::vector<std::string>> wanted;
  for (const Json& ids : question.at("ids_by_data")) {
    wanted.push_back(ReadIds(ids));
  }
  const std::vector<std::string> keys = question.at("keys");
  SLUICE_RETURN_IF_ERROR(
      reference::ApplyBroadcast(workers, wanted, keys, storage));
  out["tracker_after"] = WriteStorage(storage.Snapshot());
  return out;
}

bool IsBalanced(const Json& question) {
  return question.value("rule", "reference") == "balanced";
}

absl::StatusOr<Json> AnswerAllocation(const Json& question) {
  const std::vector<int64_t> values = question.at("values");
  const int64_t capacity = question.at("capacity");
  const int32_t min_groups = question.at("min_groups");
  if (IsBalanced(question)) {
    SLUICE_ASSIGN_OR_RETURN(
        const reference::SampleSplit split,
        reference::SplitSamples(
            values, {min_groups, capacity, reference::SplitRule::kBalanced}));
    return Json{{"groups", split.groups}};
  }
  SLUICE_ASSIGN_OR_RETURN(const auto groups, reference::FirstFitDecreasing(
                                                 values, capacity, min_groups));
  return Json{{"groups", groups}};
}

absl::StatusOr<Json> AnswerPartition(const Json& question) {
  const std::vector<int64_t> values = question.at("nums");
  const int32_t k = question.at("k");
  const int32_t min_size = question.at("min_size");
  SLUICE_ASSIGN_OR_RETURN(
      const auto runs,
      IsBalanced(question)
          ? reference::LeastDifferencePartition(values, k, min_size)
          : reference::MinDifferencePartition(values, k, min_size));
  return Json{{"partitions", runs}};
}

// "rule": "balanced" asks for Sluice's own division.
absl::StatusOr<Json> AnswerDatapack(const Json& question) {
  const std::string fn = question.at("fn");
  if (fn == "ffd_allocate") return AnswerAllocation(question);
  if (fn == "min_abs_diff_partition") return AnswerPartition(question);
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

// "rule" as of datapack.
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
  SLUICE_ASSIGN_OR_RETURN(
      const reference::SampleSplit split,
      reference::SplitSamples(
          lengths,
          {question.at("n_mbs"),
           question.value("max_tokens_per_mb", reference::kNoTokenLimit),
           IsBalanced(question) ? reference::SplitRule::kBalanced
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
    {"dispatch", AnswerDispatch},
    {"rank_mapping", AnswerRankMapping},
    {"rank_mapping_hep", AnswerRankMapping},
    {"sync_groups", AnswerSyncGroups},
    {"bucketer", AnswerBucketer},
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
