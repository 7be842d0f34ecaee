// TWO_STAGE: who sends to whom by the rank mapping, what by who wants it.

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/ids.h"
#include "common/status_macros.h"
#include "coordinator/planner/simulation/leg_list.h"
#include "coordinator/planner/simulation/pattern_plans.h"
#include "coordinator/planner/two_stage_routes.h"

namespace sluice::coordinator::simulation {
namespace {

using reference::Fanout;
using reference::RankMapping;
using reference::RankMappingInput;
using reference::SenderMapping;

class TwoStagePlanning {
 public:
  TwoStagePlanning(const ReshardInput& input, const Movement& movement,
                   const RankMapping& mapping)
      : movement_(movement),
        sets_(*movement.sets),
        mapping_(mapping),
        legs_(*movement.topology) {
    rank_of_ = input.source.mesh.ranks;
    const std::vector<Rank>& takers = input.destinations[0].mesh.ranks;
    rank_of_.insert(rank_of_.end(), takers.begin(), takers.end());
    for (const Fanout& fanout : mapping.stage2) {
      std::vector<int32_t>& passed_on = stage2_[fanout.sender];
      passed_on.insert(passed_on.end(), fanout.receivers.begin(),
                       fanout.receivers.end());
    }
    hyper_ = !mapping.routed.empty();
  }

  absl::StatusOr<TransferPlan> Run() {
    size_t next = 0;
    for (size_t u = 0; u < movement_.units.size(); ++u) {
      const size_t begin = next;
      while (next < movement_.needs.size() &&
             movement_.needs[next].unit == static_cast<int32_t>(u)) {
        ++next;
      }
      SLUICE_RETURN_IF_ERROR(AddUnit(
          movement_.units[u],
          absl::MakeSpan(movement_.needs).subspan(begin, next - begin)));
    }
    return std::move(legs_).Finish(kMaxPatternTransfers);
  }

 private:
  using Shards = absl::flat_hash_set<int32_t>;

  Rank RankOf(int32_t mapped) const {
    return rank_of_[static_cast<size_t>(mapped)];
  }

  absl::Status AddUnit(const Unit& unit, absl::Span<const Need> needs) {
    // 1. Who has which shards, and who wants something of each.
    held_.clear();
    received_.clear();
    wanted_.assign(unit.shards.size(), {});
    for (size_t s = 0; s < unit.shards.size(); ++s) {
      for (const Rank rank : sets_.Ranks(unit.shards[s].ranks)) {
        held_[rank.value()].push_back(static_cast<int32_t>(s));
      }
    }
    for (const Need& need : needs) {
      for (const int32_t s : need.shards) {
        for (const Rank rank : sets_.Ranks(need.takers)) {
          wanted_[static_cast<size_t>(s)].insert(rank.value());
        }
      }
    }
    // 2. Experts are put together, then everything goes.
    if (unit.routed_experts && mapping_.regroup.has_value()) Regroup(unit);
    const SenderMapping& senders =
        hyper_ && unit.routed_experts ? mapping_.routed : mapping_.stage1;
    for (const Fanout& fanout : senders) {
      const auto it = held_.find(RankOf(fanout.sender).value());
      if (it == held_.end()) continue;
      for (const int32_t receiver : fanout.receivers) {
        Send(unit, fanout.sender, it->second, receiver);
      }
    }
    return CheckServed(needs);
  }

  // Every rank of a group gets what the others have.
  void Regroup(const Unit& unit) {
    for (const std::vector<int32_t>& group : *mapping_.regroup) {
      for (size_t s = 0; s < unit.shards.size(); ++s) {
        const auto shard = static_cast<int32_t>(s);
        std::optional<Rank> owner;
        for (const int32_t member : group) {
          if (!owner && Has(RankOf(member), shard)) owner = RankOf(member);
        }
        if (!owner.has_value()) continue;
        for (const int32_t member : group) {
          if (Has(RankOf(member), shard)) continue;
          legs_.Add(0, TransferKind::kSendRecv, *owner, RankOf(member),
                    unit.shards[s].bytes, std::nullopt);
          held_[RankOf(member).value()].push_back(shard);
        }
      }
    }
  }

  bool Has(Rank rank, int32_t shard) const {
    const auto it = held_.find(rank.value());
    return it != held_.end() &&
           std::count(it->second.begin(), it->second.end(), shard) > 0;
  }

  // Sends what the receiver, or one it passes it on to, wants.
  void Send(const Unit& unit, int32_t sender,
            const std::vector<int32_t>& shards, int32_t receiver) {
    std::vector<int32_t> group = {receiver};
    const auto peers = stage2_.find(receiver);
    if (peers != stage2_.end()) {
      group.insert(group.end(), peers->second.begin(), peers->second.end());
    }
    std::vector<int32_t> sent;
    int64_t bytes = 0;
    for (const int32_t shard : shards) {
      const Shards& wanted = wanted_[static_cast<size_t>(shard)];
      const bool useful =
          std::any_of(group.begin(), group.end(), [&](int32_t member) {
            return wanted.contains(RankOf(member).value()) &&
                   !received_[RankOf(member).value()].contains(shard);
          });
      if (!useful) continue;
      sent.push_back(shard);
      bytes += unit.shards[static_cast<size_t>(shard)].bytes;
    }
    if (sent.empty()) return;
    const uint32_t first = legs_.Add(1, TransferKind::kSendRecv, RankOf(sender),
                                     RankOf(receiver), bytes, std::nullopt);
    for (const int32_t member : group) {
      received_[RankOf(member).value()].insert(sent.begin(), sent.end());
      if (member == receiver) continue;
      legs_.Add(2, TransferKind::kBroadcast, RankOf(receiver), RankOf(member),
                bytes, first);
    }
  }

  absl::Status CheckServed(absl::Span<const Need> needs) {
    for (const Need& need : needs) {
      for (const Rank rank : sets_.Ranks(need.missing)) {
        const Shards& received = received_[rank.value()];
        const bool served = std::any_of(
            need.shards.begin(), need.shards.end(),
            [&](int32_t shard) { return received.contains(shard); });
        if (served) continue;
        return absl::FailedPreconditionError(absl::StrCat(
            "its rank mapping does not send rank ", rank.value(), " all ",
            "that it wants: at least ", need.bytes, " bytes are left out"));
      }
    }
    return absl::OkStatus();
  }

  const Movement& movement_;
  const RankSets& sets_;
  const RankMapping& mapping_;
  LegList legs_;
  std::vector<Rank> rank_of_;  // by rank of the mapping
  absl::flat_hash_map<int32_t, std::vector<int32_t>> stage2_;
  bool hyper_ = false;
  // Of the unit at hand, by cluster rank: shards that it has, and got.
  absl::flat_hash_map<int32_t, std::vector<int32_t>> held_;
  absl::flat_hash_map<int32_t, Shards> received_;
  std::vector<absl::flat_hash_set<int32_t>> wanted_;  // by shard: ranks
};

}  // namespace

absl::StatusOr<TransferPlan> TwoStagePlan(const ReshardInput& input,
                                          const Movement& movement) {
  SLUICE_ASSIGN_OR_RETURN(const RankMappingInput question,
                          RankMappingOf(input));
  SLUICE_ASSIGN_OR_RETURN(const RankMapping mapping,
                          reference::MapRanks(question));
  return TwoStagePlanning(input, movement, mapping).Run();
}

}  // namespace sluice::coordinator::simulation
