// PlanRedistribution: DIRECT, and the reference patterns as transfers.

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "common/status_macros.h"
#include "coordinator/planner/certificate.h"
#include "coordinator/planner/input_checks.h"
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

// Tensors with the same holders and the same missing ranks travel together.
struct Group {
  Demand demand;  // bytes: of all of them
  std::vector<uint32_t> holdings;
};

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
    TakeEntries(plan);
    plan.transfers = std::move(transfers_);
    return plan;
  }

 private:
  const SampleHolding& holding(uint32_t i) const { return input_.holdings[i]; }

  void MakeGroups() {
    absl::flat_hash_map<std::pair<RankSets::Id, RankSets::Id>, size_t> known;
    for (size_t i = 0; i < input_.holdings.size(); ++i) {
      const RankSets::Id holders = sets_.Intern(input_.holdings[i].holders);
      const RankSets::Id missing =
          sets_.Minus(sets_.Intern(input_.wanted[i]), holders);
      if (sets_.Ranks(missing).empty()) continue;
      const auto [it, inserted] =
          known.try_emplace({holders, missing}, groups_.size());
      if (inserted) groups_.push_back({{0, holders, missing}, {}});
      Group& group = groups_[it->second];
      group.demand.bytes += bytes_[i];
      group.holdings.push_back(static_cast<uint32_t>(i));
    }
  }

  // --- DIRECT ---------------------------------------------------------------

  // Cuts groups into runs of tensors that can be levelled, and routes those.
  void AddDirect() {
    std::vector<Demand> whole;
    for (const Group& group : groups_) whole.push_back(group.demand);
    const int64_t chunk = ChunkBytes(sets_, whole);
    std::vector<Demand> demands;
    std::vector<Group> pieces;            // the holdings of each demand
    std::vector<int32_t> group_of_piece;  // parallel to demands
    for (size_t g = 0; g < groups_.size(); ++g) {
      const Group& group = groups_[g];
      const bool cut = WorthCutting(sets_, group.demand);
      for (const uint32_t i : group.holdings) {
        const bool opens = group_of_piece.empty() ||
                           group_of_piece.back() != static_cast<int32_t>(g) ||
                           (cut && demands.back().bytes + bytes_[i] > chunk);
        if (opens) {
          demands.push_back({0, group.demand.holders, group.demand.missing});
          pieces.emplace_back();
          group_of_piece.push_back(static_cast<int32_t>(g));
        }
        demands.back().bytes += bytes_[i];
        pieces.back().holdings.push_back(i);
      }
    }
    JoinLegs(RouteDemands(sets_, demands), pieces, group_of_piece);
    OrderAndNumber(input_.topology.num_ranks(), transfers_);
  }

  // Legs that go the same way become one transfer: all of them where each goes
  // to one rank only, else those of one group, as one collective per source.
  void JoinLegs(const std::vector<Leg>& legs, const std::vector<Group>& pieces,
                const std::vector<int32_t>& group_of_piece) {
    // (round, source, destination, group or -1, parent transfer or -1)
    using Way = std::tuple<int32_t, Rank, Rank, int32_t, int32_t>;
    absl::flat_hash_map<Way, size_t> known;
    absl::flat_hash_map<std::tuple<int32_t, Rank, int32_t, int32_t>, uint32_t>
        collectives;
    std::vector<int32_t> transfer_of_leg(legs.size());
    for (const int32_t round : {0, 1}) {
      for (size_t i = 0; i < legs.size(); ++i) {
        const Leg& leg = legs[i];
        if (leg.round != round) continue;
        const auto piece = static_cast<size_t>(leg.demand);
        const Group& group =
            groups_[static_cast<size_t>(group_of_piece[piece])];
        const bool alone = sets_.Ranks(group.demand.missing).size() == 1;
        const int32_t number = alone ? -1 : group_of_piece[piece];
        const int32_t parent =
            leg.parent < 0 ? -1
                           : transfer_of_leg[static_cast<size_t>(leg.parent)];
        const auto [it, inserted] = known.try_emplace(
            Way{round, leg.source, leg.destination, number, parent},
            transfers_.size());
        if (inserted) {
          Transfer& made = AddTransfer(
              alone ? TransferKind::kSendRecv : TransferKind::kBroadcast, round,
              leg.source, leg.destination);
          if (parent >= 0) made.reads_after = static_cast<uint32_t>(parent);
          if (!alone) {
            made.collective =
                collectives
                    .try_emplace({round, leg.source, number, parent},
                                 static_cast<uint32_t>(collectives.size() + 1))
                    .first->second;
          }
        }
        transfer_of_leg[i] = static_cast<int32_t>(it->second);
        for (const uint32_t h : pieces[piece].holdings) {
          AddSample(transfers_[it->second], h);
        }
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
  std::vector<Transfer> transfers_;
};

}  // namespace

absl::StatusOr<TransferPlan> PlanRedistribution(
    const RedistributionInput& input, const PlanningLimits& limits) {
  SLUICE_RETURN_IF_ERROR(CheckRedistributionInput(input, limits));
  return RedistributionPlanning(input).Run(limits);
}

}  // namespace sluice::coordinator
