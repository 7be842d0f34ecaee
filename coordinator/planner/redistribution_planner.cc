// PlanRedistribution: DIRECT, and the reference patterns as transfers.

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "common/status_macros.h"
#include "coordinator/planner/certificate.h"
#include "coordinator/planner/input_checks.h"
#include "coordinator/planner/lower_bound.h"
#include "coordinator/planner/planners.h"
#include "coordinator/planner/rank_sets.h"
#include "coordinator/planner/reference_steps.h"
#include "coordinator/planner/source_selector.h"
#include "coordinator/planner/transfer_assembly.h"

namespace sluice::coordinator {
namespace {

bool Has(const std::vector<Rank>& ascending, Rank rank) {
  return std::binary_search(ascending.begin(), ascending.end(), rank);
}

// Holdings, as positions [begin, end) in the list of those that travel.
struct Range {
  size_t begin = 0;
  size_t end = 0;
};

// Tensors with the same holders and the same missing ranks travel together.
struct Group {
  Demand demand;  // bytes: of all of them
  Range holdings;
};

// A part of a group that is routed by itself.
struct GroupPiece {
  int32_t group = 0;
  Range holdings;
};

// (round, source, destination, transfer that brought it or -1)
using Way = std::tuple<int32_t, Rank, Rank, int64_t>;

class RedistributionPlanning {
 public:
  explicit RedistributionPlanning(const RedistributionInput& input)
      : input_(input), sets_(input.topology) {
    bytes_.reserve(input.holdings.size());
    for (const SampleHolding& holding : input.holdings) {
      bytes_.push_back(holding.entry.num_bytes());
    }
  }

  absl::StatusOr<TransferPlan> Run(const PlanningLimits& limits) {
    MakeGroups();
    switch (input_.pattern) {
      case Pattern::kGatherScatter:
        AddGatherScatter(GatherScatterSteps(input_));
        break;
      case Pattern::kBroadcast:
        AddBroadcasts(BroadcastSteps(input_));
        break;
      case Pattern::kDirect:
      case Pattern::kTwoStage:  // refused before
      case Pattern::kUnspecified:
        AddDirect();
        break;
    }
    SLUICE_RETURN_IF_ERROR(CheckTransferLimit(transfers_.size(), limits));
    std::vector<Demand> demands;
    for (const Group& group : groups_) demands.push_back(group.demand);
    TransferPlan plan;
    plan.certificate =
        MakeCertificate(input_.topology, transfers_,
                        LowerBoundBytes(sets_, demands), WastedBytes());
    SLUICE_RETURN_IF_ERROR(CheckMovedBytes(plan.certificate, limits));
    TakeEntries(plan);
    plan.transfers = std::move(transfers_);
    return plan;
  }

 private:
  const SampleHolding& holding(uint32_t i) const { return input_.holdings[i]; }

  // Keys of one sample mostly have the same ranks: those are compared first.
  void MakeGroups() {
    absl::flat_hash_map<std::pair<RankSets::Id, RankSets::Id>, int32_t> known;
    std::vector<int32_t> group_of(input_.holdings.size());
    int32_t number = -1;  // of the group of the holding before; -1 = none
    for (size_t i = 0; i < input_.holdings.size(); ++i) {
      const std::vector<Rank>& held = input_.holdings[i].holders;
      if (i == 0 || held != input_.holdings[i - 1].holders ||
          input_.wanted[i] != input_.wanted[i - 1]) {
        const RankSets::Id holders = sets_.InternAscending(held);
        const RankSets::Id missing =
            sets_.Minus(sets_.InternAscending(input_.wanted[i]), holders);
        const bool satisfied = sets_.Ranks(missing).empty();
        const auto [it, inserted] = known.try_emplace(
            {holders, missing},
            satisfied ? -1 : static_cast<int32_t>(groups_.size()));
        number = it->second;
        if (inserted && !satisfied)
          groups_.push_back({{0, holders, missing}, {}});
      }
      group_of[i] = number;
      if (number < 0) continue;
      Group& group = groups_[static_cast<size_t>(number)];
      group.demand.bytes += bytes_[i];
      ++group.holdings.end;  // their number, until they are listed
    }
    ListTravelling(group_of);
  }

  // Lists the holdings that travel, by group and position.
  void ListTravelling(const std::vector<int32_t>& group_of) {
    size_t total = 0;
    for (Group& group : groups_) {
      const size_t count = group.holdings.end;
      group.holdings = {total, total};
      total += count;
    }
    travelling_.resize(total);
    for (size_t i = 0; i < group_of.size(); ++i) {
      if (group_of[i] < 0) continue;
      Group& group = groups_[static_cast<size_t>(group_of[i])];
      travelling_[group.holdings.end++] = static_cast<uint32_t>(i);
    }
  }

  // --- DIRECT ---------------------------------------------------------------

  // Cuts groups into runs of tensors that can be levelled, and routes those.
  void AddDirect() {
    std::vector<Demand> whole;
    for (const Group& group : groups_) whole.push_back(group.demand);
    const int64_t chunk = ChunkBytes(sets_, whole);
    std::vector<Demand> demands;
    std::vector<GroupPiece> pieces;  // parallel to demands
    for (size_t g = 0; g < groups_.size(); ++g) {
      const Group& group = groups_[g];
      const bool cut = WorthCutting(sets_, group.demand);
      bool opens = true;
      for (size_t at = group.holdings.begin; at < group.holdings.end; ++at) {
        const int64_t bytes = bytes_[travelling_[at]];
        if (opens || (cut && demands.back().bytes + bytes > chunk)) {
          demands.push_back({0, group.demand.holders, group.demand.missing});
          pieces.push_back({static_cast<int32_t>(g), {at, at}});
          opens = false;
        }
        demands.back().bytes += bytes;
        pieces.back().holdings.end = at + 1;
      }
    }
    JoinLegs(RouteDemands(sets_, demands), pieces);
    OrderAndNumber(input_.topology.num_ranks(), transfers_);
  }

  // Legs that go the same way become one transfer: all of them where each goes
  // to one rank only, else those of one group, as one collective per source.
  void JoinLegs(const std::vector<Leg>& legs,
                const std::vector<GroupPiece>& pieces) {
    transfers_.reserve(legs.size());
    absl::flat_hash_map<Way, uint32_t> alone, in_group;
    absl::flat_hash_map<Way, uint32_t> collectives;  // destination: none
    uint32_t num_collectives = 0;
    int32_t last_group = -1;
    std::vector<uint32_t> transfer_of_leg(legs.size());
    for (size_t i = 0; i < legs.size(); ++i) {  // parents come first
      const Leg& leg = legs[i];
      const GroupPiece& piece = pieces[static_cast<size_t>(leg.demand)];
      const Group& group = groups_[static_cast<size_t>(piece.group)];
      if (piece.group != last_group) {
        in_group.clear();
        collectives.clear();
        last_group = piece.group;
      }
      const bool to_one = sets_.Ranks(group.demand.missing).size() == 1;
      Way way{leg.round, leg.source, leg.destination,
              leg.parent < 0
                  ? -1
                  : int64_t{transfer_of_leg[static_cast<size_t>(leg.parent)]}};
      const auto [it, inserted] =
          (to_one ? alone : in_group).try_emplace(way, transfers_.size());
      if (inserted) {
        Transfer& made = AddTransfer(
            to_one ? TransferKind::kSendRecv : TransferKind::kBroadcast,
            leg.round, leg.source, leg.destination);
        const int64_t parent = std::get<3>(way);
        if (parent >= 0) made.reads_after = static_cast<uint32_t>(parent);
        if (!to_one) {
          std::get<2>(way) = kNoRank;
          const auto [number, is_new] =
              collectives.try_emplace(way, num_collectives + 1);
          if (is_new) ++num_collectives;
          made.collective = number->second;
        }
      }
      transfer_of_leg[i] = it->second;
      Transfer& transfer = transfers_[it->second];
      for (size_t at = piece.holdings.begin; at < piece.holdings.end; ++at) {
        AddSample(transfer, travelling_[at]);
      }
    }
  }

  // --- the reference patterns -----------------------------------------------

  void AddGatherScatter(const std::vector<ReferenceStep>& steps) {
    // The gather leg that brought a tensor to its root; -1 = it was there.
    std::vector<int32_t> arrived(input_.holdings.size(), -1);
    uint32_t collective = 0;
    const int32_t first_stage = steps.empty() ? 0 : steps[0].stage;
    for (const ReferenceStep& step : steps) {
      ++collective;
      const int32_t round = step.stage - first_stage;
      for (size_t p = 0; p < step.peers.size(); ++p) {
        if (step.peers[p] == step.root) continue;  // the root keeps its own
        if (step.kind == TransferKind::kGather) {
          AddGatherLeg(step, p, round, collective, arrived);
        } else {
          AddScatterLegs(step, p, round, collective, arrived);
        }
      }
    }
  }

  void AddGatherLeg(const ReferenceStep& step, size_t peer, int32_t round,
                    uint32_t collective, std::vector<int32_t>& arrived) {
    Transfer& leg = AddTransfer(step.kind, round, step.peers[peer], step.root);
    leg.collective = collective;
    for (const int32_t i : step.holdings[peer]) {
      AddSample(leg, static_cast<uint32_t>(i));
      if (!Has(holding(static_cast<uint32_t>(i)).holders, step.root)) {
        arrived[static_cast<size_t>(i)] = static_cast<int32_t>(leg.id);
      }
    }
  }

  // One leg for what the root had, and one for each gather leg it passes on.
  void AddScatterLegs(const ReferenceStep& step, size_t peer, int32_t round,
                      uint32_t collective,
                      const std::vector<int32_t>& arrived) {
    absl::flat_hash_map<int32_t, uint32_t> leg_of;
    for (const int32_t i : step.holdings[peer]) {
      const int32_t after = arrived[static_cast<size_t>(i)];
      const auto [it, inserted] =
          leg_of.try_emplace(after, static_cast<uint32_t>(transfers_.size()));
      if (inserted) {
        Transfer& leg =
            AddTransfer(step.kind, round, step.root, step.peers[peer]);
        leg.collective = collective;
        if (after >= 0) leg.reads_after = static_cast<uint32_t>(after);
      }
      AddSample(transfers_[it->second], static_cast<uint32_t>(i));
    }
  }

  void AddBroadcasts(const std::vector<ReferenceStep>& steps) {
    uint32_t collective = 0;
    for (const ReferenceStep& step : steps) {
      ++collective;
      for (const Rank peer : step.peers) {
        Transfer& leg = AddTransfer(step.kind, step.stage, step.root, peer);
        leg.collective = collective;
        for (const int32_t i : step.holdings[0]) {
          AddSample(leg, static_cast<uint32_t>(i));
        }
      }
    }
  }

  // --- transfers ------------------------------------------------------------

  // Samples are positions in the holdings until TakeEntries.
  Transfer& AddTransfer(TransferKind kind, int32_t round, Rank source,
                        Rank destination) {
    Transfer& transfer = transfers_.emplace_back();
    transfer.id = static_cast<uint32_t>(transfers_.size() - 1);
    transfer.round = round;
    transfer.kind = kind;
    transfer.source = source;
    transfer.destination = destination;
    transfer.link = input_.topology.Between(source, destination);
    return transfer;
  }
  void AddSample(Transfer& transfer, uint32_t index) {
    transfer.samples.push_back(index);
    transfer.bytes += bytes_[index];
  }

  // Bytes delivered to who had them, did not want them or got them before.
  int64_t WastedBytes() const {
    if (input_.pattern == Pattern::kDirect) return 0;  // by construction
    absl::flat_hash_set<std::pair<uint32_t, Rank>> delivered;
    int64_t wasted = 0;
    for (const Transfer& transfer : transfers_) {
      for (const uint32_t i : transfer.samples) {
        const bool needed = Has(input_.wanted[i], transfer.destination) &&
                            !Has(holding(i).holders, transfer.destination);
        if (!needed || !delivered.emplace(i, transfer.destination).second) {
          wasted += bytes_[i];
        }
      }
    }
    return wasted;
  }

  // Copies the entries that move into the plan and names them by their new
  // positions, each transfer's ascending.
  void TakeEntries(TransferPlan& plan) {
    std::vector<char> used(input_.holdings.size());
    for (const Transfer& transfer : transfers_) {
      for (const uint32_t i : transfer.samples) used[i] = 1;
    }
    std::vector<uint32_t> position(input_.holdings.size());
    plan.entries.reserve(
        static_cast<size_t>(std::count(used.begin(), used.end(), 1)));
    for (size_t i = 0; i < used.size(); ++i) {
      if (!used[i]) continue;
      position[i] = static_cast<uint32_t>(plan.entries.size());
      plan.entries.push_back(input_.holdings[i].entry);
    }
    for (Transfer& transfer : transfers_) {
      for (uint32_t& sample : transfer.samples) sample = position[sample];
      std::sort(transfer.samples.begin(), transfer.samples.end());
    }
  }

  const RedistributionInput& input_;
  RankSets sets_;
  std::vector<int64_t> bytes_;  // by holding
  std::vector<Group> groups_;
  std::vector<uint32_t> travelling_;  // holdings that somebody misses
  std::vector<Transfer> transfers_;
};

}  // namespace

absl::StatusOr<TransferPlan> PlanRedistribution(
    const RedistributionInput& input, const PlanningLimits& limits) {
  SLUICE_RETURN_IF_ERROR(CheckRedistributionInput(input, limits));
  return RedistributionPlanning(input).Run(limits);
}

}  // namespace sluice::coordinator
