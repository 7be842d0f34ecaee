#include "coordinator/planner/source_selector.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace sluice::coordinator {
namespace {

constexpr int64_t kMinChunkBytes = int64_t{1} << 20;
constexpr int64_t kChunksPerRank = 16;
constexpr int kMaxSweeps = 4;

// One demand as one node, or one rank beside a local holder, needs it.
struct Unit {
  int32_t demand = 0;
  int32_t family = -1;
  int32_t ordinal = 0;  // among the units of its demand
  int64_t bytes = 0;
  bool crossing = false;  // between nodes
  absl::Span<const Rank> candidates;
  absl::Span<const Rank> takers;  // the first to take it relays to the others
  Rank source = kNoRank;
  Rank relay = kNoRank;

  int64_t num_relayed() const {
    return static_cast<int64_t>(takers.size()) - 1;
  }
};

using Way = std::pair<Rank, Rank>;  // source, relay

class Router {
 public:
  Router(const RankSets& sets, absl::Span<const Demand> demands)
      : sets_(sets),
        rank_out_(sets.topology().node_of_rank.size()),
        network_in_(sets.topology().node_of_rank.size()) {
    int32_t num_nodes = 0;
    for (const int32_t node : sets.topology().node_of_rank) {
      num_nodes = std::max(num_nodes, node + 1);
    }
    node_out_.resize(static_cast<size_t>(num_nodes));
    for (size_t i = 0; i < demands.size(); ++i) {
      AddUnits(static_cast<int32_t>(i), demands[i]);
    }
  }

  std::vector<Leg> Run() {
    AssignGreedily();
    for (int sweep = 0; sweep < kMaxSweeps && Improve(); ++sweep) {
    }
    GatherNeighbours();
    return MakeLegs();
  }

 private:
  void AddUnits(int32_t index, const Demand& demand) {
    const absl::Span<const Rank> missing = sets_.Ranks(demand.missing);
    int32_t ordinal = 0;
    const auto add = [&](bool crossing, absl::Span<const Rank> candidates,
                         absl::Span<const Rank> takers) {
      units_.push_back({index, demand.family, ordinal++, demand.bytes, crossing,
                        candidates, takers, kNoRank, kNoRank});
    };
    for (const RankSets::NodeGroup& group : sets_.Nodes(demand.missing)) {
      const absl::Span<const Rank> takers =
          missing.subspan(static_cast<size_t>(group.begin),
                          static_cast<size_t>(group.end - group.begin));
      const absl::Span<const Rank> local =
          sets_.OnNode(demand.holders, group.node);
      if (local.empty()) {
        add(true, sets_.Ranks(demand.holders), takers);
        continue;
      }
      for (size_t t = 0; t < takers.size(); ++t) {
        add(false, local, takers.subspan(t, 1));
      }
    }
  }

  int64_t& RankOut(Rank rank) {
    return rank_out_[static_cast<size_t>(rank.value())];
  }
  int64_t& NetworkIn(Rank rank) {
    return network_in_[static_cast<size_t>(rank.value())];
  }
  int64_t& NodeOut(Rank rank) {
    return node_out_[static_cast<size_t>(sets_.NodeOf(rank))];
  }

  void AddSource(const Unit& unit, int sign) {
    RankOut(unit.source) += sign * unit.bytes;
    if (unit.crossing) NodeOut(unit.source) += sign * unit.bytes;
  }
  void AddRelay(const Unit& unit, int sign) {
    if (unit.crossing) NetworkIn(unit.relay) += sign * unit.bytes;
    RankOut(unit.relay) += sign * unit.bytes * unit.num_relayed();
  }

  // What serving the unit would add to is already this loaded. Half the rise of
  // the sum of squared loads, over the unit's bytes and less a constant: going
  // to the lowest cost levels ranks and nodes at once.
  int64_t SourceCost(const Unit& unit, Rank rank) {
    return RankOut(rank) + (unit.crossing ? NodeOut(rank) : 0);
  }
  int64_t RelayCost(const Unit& unit, Rank rank) {
    return NetworkIn(rank) + unit.num_relayed() * RankOut(rank);
  }

  // The first of the cheapest: candidates are in order of (node, rank).
  Rank CheapestSource(const Unit& unit) {
    return *std::min_element(unit.candidates.begin(), unit.candidates.end(),
                             [&](Rank a, Rank b) {
                               return SourceCost(unit, a) < SourceCost(unit, b);
                             });
  }
  Rank CheapestRelay(const Unit& unit) {
    return *std::min_element(unit.takers.begin(), unit.takers.end(),
                             [&](Rank a, Rank b) {
                               return RelayCost(unit, a) < RelayCost(unit, b);
                             });
  }

  static bool HasChoice(const Unit& unit) {
    return unit.candidates.size() > 1 || unit.takers.size() > 1;
  }

  // Units without a choice first, so that the others see their load; then the
  // largest.
  void AssignGreedily() {
    std::vector<int32_t> order(units_.size());
    for (size_t i = 0; i < order.size(); ++i) {
      order[i] = static_cast<int32_t>(i);
    }
    std::stable_sort(order.begin(), order.end(), [this](int32_t a, int32_t b) {
      const Unit& x = units_[static_cast<size_t>(a)];
      const Unit& y = units_[static_cast<size_t>(b)];
      if (HasChoice(x) != HasChoice(y)) return !HasChoice(x);
      return x.bytes > y.bytes;
    });
    for (const int32_t i : order) {
      Unit& unit = units_[static_cast<size_t>(i)];
      unit.source = CheapestSource(unit);
      AddSource(unit, 1);
      unit.relay = CheapestRelay(unit);
      AddRelay(unit, 1);
    }
  }

  // Takes each unit out and puts it where it now costs least; whether any
  // moved. The sum of squared loads falls with each move, so sweeps settle.
  bool Improve() {
    bool moved = false;
    for (Unit& unit : units_) {
      if (unit.candidates.size() > 1) {
        AddSource(unit, -1);
        const Rank best = CheapestSource(unit);
        if (SourceCost(unit, best) < SourceCost(unit, unit.source)) {
          unit.source = best;
          moved = true;
        }
        AddSource(unit, 1);
      }
      if (unit.takers.size() > 1) {
        AddRelay(unit, -1);
        const Rank best = CheapestRelay(unit);
        if (RelayCost(unit, best) < RelayCost(unit, unit.relay)) {
          unit.relay = best;
          moved = true;
        }
        AddRelay(unit, 1);
      }
    }
    return moved;
  }

  // Exchanges the ways of equal pieces of one thing, which changes no load, so
  // that each way gets neighbouring pieces: they become one transfer.
  void GatherNeighbours() {
    std::vector<Unit*> order;
    for (Unit& unit : units_) {
      if (unit.family >= 0) order.push_back(&unit);
    }
    std::stable_sort(order.begin(), order.end(), [](Unit* a, Unit* b) {
      return std::tie(a->family, a->ordinal) < std::tie(b->family, b->ordinal);
    });
    // From the back: pieces of another size at the end keep their way, and
    // those before it that go the same way come last.
    Way next;
    for (size_t end = order.size(); end > 0;) {
      const Unit& last = *order[end - 1];
      size_t begin = end;
      while (begin > 0 && order[begin - 1]->family == last.family &&
             order[begin - 1]->ordinal == last.ordinal &&
             order[begin - 1]->bytes == last.bytes) {
        --begin;
      }
      std::vector<Way> ways;
      for (size_t i = begin; i < end; ++i) {
        ways.emplace_back(order[i]->source, order[i]->relay);
      }
      std::sort(ways.begin(), ways.end(), [&](const Way& a, const Way& b) {
        return std::make_pair(a == next, a) < std::make_pair(b == next, b);
      });
      for (size_t i = begin; i < end; ++i) {
        std::tie(order[i]->source, order[i]->relay) = ways[i - begin];
      }
      next = ways.front();
      end = begin;
    }
  }

  std::vector<Leg> MakeLegs() const {
    std::vector<Leg> legs;
    for (const Unit& unit : units_) {
      const auto parent = static_cast<int32_t>(legs.size());
      legs.push_back({unit.demand, 0, unit.source, unit.relay, -1});
      for (const Rank taker : unit.takers) {
        if (taker == unit.relay) continue;
        legs.push_back({unit.demand, 1, unit.relay, taker, parent});
      }
    }
    return legs;
  }

  const RankSets& sets_;
  std::vector<Unit> units_;
  std::vector<int64_t> rank_out_;    // bytes to other ranks, relayed included
  std::vector<int64_t> network_in_;  // bytes from other nodes
  std::vector<int64_t> node_out_;    // bytes to other nodes
};

}  // namespace

std::vector<Leg> RouteDemands(const RankSets& sets,
                              absl::Span<const Demand> demands) {
  return Router(sets, demands).Run();
}

bool WorthCutting(const RankSets& sets, const Demand& demand) {
  if (sets.Ranks(demand.missing).empty()) return false;
  if (sets.Ranks(demand.holders).size() > 1) return true;
  for (const RankSets::NodeGroup& group : sets.Nodes(demand.missing)) {
    if (group.end - group.begin > 1 &&
        sets.OnNode(demand.holders, group.node).empty()) {
      return true;  // the ranks of that node can share the relaying
    }
  }
  return false;
}

int64_t ChunkBytes(const RankSets& sets, absl::Span<const Demand> demands) {
  int64_t total = 0;
  std::vector<char> takes(sets.topology().node_of_rank.size());
  for (const Demand& demand : demands) {
    const absl::Span<const Rank> missing = sets.Ranks(demand.missing);
    total += demand.bytes * static_cast<int64_t>(missing.size());
    for (const Rank rank : missing)
      takes[static_cast<size_t>(rank.value())] = 1;
  }
  const int64_t num_takers = std::count(takes.begin(), takes.end(), 1);
  if (num_takers == 0) return kMinChunkBytes;
  return std::max(kMinChunkBytes, total / (num_takers * kChunksPerRank));
}

}  // namespace sluice::coordinator
