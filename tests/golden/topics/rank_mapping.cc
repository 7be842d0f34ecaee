// Topics rank_mapping and rank_mapping_hep.

#include "coordinator/planner/reference/rank_mapping.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/planner/reference/sync_groups.h"
#include "tests/golden/topics.h"

namespace sluice::golden {
namespace {

namespace reference = coordinator::reference;
using reference::Fanout;
using reference::MappingVariant;
using reference::RankMapping;
using reference::RankMappingInput;
using reference::RegroupType;
using reference::SenderMapping;
using reference::SyncType;

// Numbers [address, gpu] pairs.
class GpuNumbers {
 public:
  std::vector<int32_t> Read(const Json& gpus) {
    std::vector<int32_t> numbers;
    for (const Json& gpu : gpus) {
      numbers.push_back(
          known_.try_emplace(gpu.dump(), static_cast<int32_t>(known_.size()))
              .first->second);
    }
    return numbers;
  }

 private:
  std::map<std::string, int32_t> known_;
};

RankMappingInput ReadInput(const Json& golden) {
  RankMappingInput input;
  const Json& src = golden.at("src");
  input.source = {src.at("tp"), src.at("pp"), src.at("ep"), src.at("dp")};
  const Json& dst = golden.at("dst");
  input.destination = {dst.at("tp"), dst.at("pp"), dst.at("ep"),
                       dst.at("replicas"), dst.at("vllm")};
  input.variant = golden.at("variant") == "hep" ? MappingVariant::kHyperExpert
                                                : MappingVariant::kBase;
  input.colocated = golden.at("colocated");
  input.sync_type = golden.at("comm_type") == "p2p" ? SyncType::kPointToPoint
                                                    : SyncType::kBroadcast;
  input.regroup_type = golden.at("regroup") == "allgather"
                           ? RegroupType::kAllGather
                           : RegroupType::kAllToAll;
  GpuNumbers numbers;
  input.source_gpus = numbers.Read(golden.at("src_gpus"));
  input.destination_gpus = numbers.Read(golden.at("dst_gpus"));
  const Json& ranks = golden.at("src_local_param_ranks");
  for (size_t a = 0; a < ranks.size(); ++a) {
    const size_t copy = ranks[a].at(1);
    input.actors.push_back({static_cast<int32_t>(copy), ranks[a].at(0).at(copy),
                            golden.at("src_dp_rank_of_actor").at(a)});
  }
  return input;
}

Json WriteMapping(const SenderMapping& mapping) {
  Json written = Json::array();
  for (const Fanout& fanout : mapping) {
    written.push_back({fanout.sender, fanout.receivers});
  }
  return written;
}

// One stage's sender order and its groups of disjoint senders.
void CompareOrder(const std::string& stage, const SenderMapping& mapping,
                  const RankMappingInput& input, CaseCheck& check) {
  const Json& expected = check.golden().at("expect");
  const std::string order_name = stage + "_sorted_senders";
  if (!expected.contains(order_name)) return;
  std::vector<int32_t> data_ranks, in_order;
  for (const Fanout& fanout : mapping) {
    data_ranks.push_back(
        input.actors[static_cast<size_t>(fanout.sender)].data_rank);
    in_order.push_back(fanout.sender);
  }
  const std::vector<int32_t> senders =
      reference::SendersInTurns(mapping, data_ranks);
  const Json& right = check.right();
  // The reference fails where data-parallel rank 0 sends nothing (C2).
  if (right.contains(order_name)) {
    check.Equal(order_name, right[order_name], senders);
  } else if (!expected[order_name].is_object()) {
    check.Equal(order_name, expected[order_name], senders);
  }
  const std::string groups_name = stage + "_sync_groups";
  if (!expected.contains(groups_name)) return;
  const bool insertion =
      expected.value(stage + "_sync_groups_order", "") == "insertion";
  check.Equal(
      groups_name, expected[groups_name],
      reference::SplitSyncGroups(mapping, insertion ? in_order : senders));
}

// Every pair of the mapping is in some round, and no rank twice in one.
void CheckRounds(const RankMapping& mapping, const Json& expected,
                 CaseCheck& check) {
  const std::vector<reference::PairRound> rounds =
      reference::DisjointRounds(mapping.stage2);
  if (expected.contains("stage2_rounds")) {
    check.Equal("stage2_rounds", expected["stage2_rounds"], rounds);
  }
  size_t num_pairs = 0, num_placed = 0;
  for (const Fanout& fanout : mapping.stage2) {
    num_pairs += fanout.receivers.size();
  }
  for (const reference::PairRound& round : rounds) num_placed += round.size();
  check.Equal("pairs in rounds", num_pairs, num_placed);
}

// Stages 1 and 2 together reach every destination rank.
void CheckReach(const RankMapping& mapping, CaseCheck& check) {
  std::set<int32_t> reached;
  for (const SenderMapping* stage : {&mapping.stage1, &mapping.stage2}) {
    for (const Fanout& fanout : *stage) {
      reached.insert(fanout.receivers.begin(), fanout.receivers.end());
    }
  }
  for (const std::vector<int32_t>& replica : mapping.replicas) {
    for (const int32_t rank : replica) {
      if (reached.count(rank) == 0) {
        check.Fail("nothing reaches rank " + std::to_string(rank));
      }
    }
  }
}

void CompareMapping(const RankMapping& mapping, const RankMappingInput& input,
                    CaseCheck& check) {
  const Json& expected = check.golden().at("expect");
  check.Equal("stage1", expected.at("stage1"), WriteMapping(mapping.stage1));
  check.Equal("stage2", expected.at("stage2"), WriteMapping(mapping.stage2));
  if (expected.contains("routed")) {
    check.Equal("routed", expected["routed"], WriteMapping(mapping.routed));
  }
  check.Equal("regroup", expected.at("regroup"),
              mapping.regroup.has_value() ? Json(*mapping.regroup) : Json());
  CompareOrder("stage1", mapping.stage1, input, check);
  CompareOrder("routed", mapping.routed, input, check);
  CheckRounds(mapping, expected, check);
  Json local = expected.at("stage1_same_gpu_pairs");
  std::sort(local.begin(), local.end());
  std::vector<std::pair<int32_t, int32_t>> found = mapping.local_pairs;
  std::sort(found.begin(), found.end());
  check.Equal("stage1_same_gpu_pairs", local, found);
}

void CompareSizes(const RankMapping& mapping, const RankMappingInput& input,
                  CaseCheck& check) {
  const Json& expected = check.golden().at("expect");
  const auto ratio = [](int32_t to, int32_t from) {
    return static_cast<double>(to) / from;
  };
  check.Equal("tp_num_mapping", expected.at("tp_num_mapping"),
              mapping.tensor_ratio);
  const auto& from = input.source;
  const auto& to = input.destination;
  if (expected.contains("ep_num_mapping")) {
    check.Equal("ep_num_mapping", expected["ep_num_mapping"],
                ratio(to.expert, from.expert));
    check.Equal("hep_num_mapping", expected.at("hep_num_mapping"),
                ratio(to.expert * to.tensor, from.expert * from.tensor));
  }
  // Point to point with two stages cannot run (C9).
  const Json& right = check.right();
  check.Equal("effective_comm_type",
              right.contains("comm_type") ? right["comm_type"]
                                          : expected.at("effective_comm_type"),
              mapping.sync_type == SyncType::kBroadcast ? "broadcast" : "p2p");
  check.Equal("effective_regroup_comm_type",
              expected.at("effective_regroup_comm_type"),
              mapping.regroup_type == RegroupType::kAllGather ? "allgather"
                                                              : "alltoall");
  check.Equal("src_dp_ranks", expected.at("src_dp_ranks"), mapping.copies);
  check.Equal("src_dp_ranks_except_routed",
              expected.at("src_dp_ranks_except_routed"),
              mapping.copies_except_routed);
  check.Equal("dst_ranks", expected.at("dst_ranks"), mapping.replicas);
}

}  // namespace

void CheckRankMapping(CaseCheck& check) {
  const RankMappingInput input = ReadInput(check.golden());
  const Json& expected = check.golden().at("expect");
  const absl::StatusOr<RankMapping> mapping = reference::MapRanks(input);
  const bool failed = expected.contains("error");
  if (check.ExpectsRefusal() || (failed && check.right().empty())) {
    return check.Refused(mapping.status());
  }
  if (!check.Ok("mapping", mapping.status())) return;
  if (!failed && !check.HasBug("C7")) {
    CompareSizes(*mapping, input, check);
    CompareMapping(*mapping, input, check);
  }
  CheckReach(*mapping, check);
}

}  // namespace sluice::golden
