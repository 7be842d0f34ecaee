// Topics rank_mapping and rank_mapping_hep.

#include <algorithm>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/golden/ask.h"
#include "tests/golden/topics.h"

namespace sluice::golden {
namespace {

// One stage's sender order and its groups of disjoint senders.
void CompareOrder(const std::string& stage, const Json& answer,
                  CaseCheck& check) {
  const Json& expected = check.golden().at("expect");
  const std::string order_name = stage + "_sorted_senders";
  if (!expected.contains(order_name)) return;
  const Json& right = check.right();
  // The reference fails where data-parallel rank 0 sends nothing (C2).
  if (right.contains(order_name)) {
    check.Equal(order_name, right[order_name], answer.at(order_name));
  } else if (!expected[order_name].is_object()) {
    check.Equal(order_name, expected[order_name], answer.at(order_name));
  }
  const std::string groups_name = stage + "_sync_groups";
  if (!expected.contains(groups_name)) return;
  const bool insertion =
      expected.value(stage + "_sync_groups_order", "") == "insertion";
  check.Equal(groups_name, expected[groups_name],
              answer.at(insertion ? groups_name + "_in_order" : groups_name));
}

// Every pair of the mapping is in some round.
void CheckRounds(const Json& answer, const Json& expected, CaseCheck& check) {
  const Json& rounds = answer.at("stage2_rounds");
  if (expected.contains("stage2_rounds")) {
    check.Equal("stage2_rounds", expected["stage2_rounds"], rounds);
  }
  size_t num_pairs = 0, num_placed = 0;
  for (const Json& fanout : answer.at("stage2")) {
    num_pairs += fanout.at(1).size();
  }
  for (const Json& round : rounds) num_placed += round.size();
  check.Equal("pairs in rounds", num_pairs, num_placed);
}

// Stages 1 and 2 together reach every destination rank.
void CheckReach(const Json& answer, CaseCheck& check) {
  std::set<Json> reached;
  for (const char* stage : {"stage1", "stage2"}) {
    for (const Json& fanout : answer.at(stage)) {
      reached.insert(fanout.at(1).begin(), fanout.at(1).end());
    }
  }
  for (const Json& replica : answer.at("dst_ranks")) {
    for (const Json& rank : replica) {
      if (reached.count(rank) == 0) {
        check.Fail(absl::StrCat("nothing reaches rank ", rank.dump()));
      }
    }
  }
}

Json Sorted(Json list) {
  std::sort(list.begin(), list.end());
  return list;
}

void CompareMapping(const Json& answer, CaseCheck& check) {
  const Json& expected = check.golden().at("expect");
  CompareMembers({"tp_num_mapping", "effective_regroup_comm_type",
                  "src_dp_ranks", "src_dp_ranks_except_routed", "dst_ranks",
                  "stage1", "stage2", "regroup"},
                 expected, answer, check);
  for (const char* member : {"ep_num_mapping", "hep_num_mapping", "routed"}) {
    if (expected.contains(member)) {
      CompareMembers({member}, expected, answer, check);
    }
  }
  // Point to point with two stages cannot run (C9).
  check.Equal(
      "effective_comm_type",
      check.right().value("comm_type", expected.at("effective_comm_type")),
      answer.at("effective_comm_type"));
  CompareOrder("stage1", answer, check);
  CompareOrder("routed", answer, check);
  CheckRounds(answer, expected, check);
  check.Equal("stage1_same_gpu_pairs",
              Sorted(expected.at("stage1_same_gpu_pairs")),
              Sorted(answer.at("stage1_same_gpu_pairs")));
}

}  // namespace

void CheckRankMapping(CaseCheck& check) {
  const bool failed = check.golden().at("expect").contains("error");
  if (failed && check.right().empty()) {
    return check.Refused(Ask("rank_mapping", check.golden()).status());
  }
  const std::optional<Json> answer = AnswerToCase("rank_mapping", check);
  if (!answer.has_value()) return;
  if (!failed && !check.HasBug("C7")) CompareMapping(*answer, check);
  CheckReach(*answer, check);
}

}  // namespace sluice::golden
