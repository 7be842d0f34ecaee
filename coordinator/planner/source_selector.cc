#include "coordinator/planner/source_selector.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <tuple>
#include <utility>

#include "coordinator/planner/holder_heaps.h"
#include "coordinator/planner/link_loads.h"
#include "coordinator/planner/lower_bound.h"

namespace sluice::coordinator {
namespace {

constexpr int64_t kMinChunkBytes = int64_t{1} << 20;
constexpr int64_t kChunksPerLink = 16;
constexpr int kMaxSweeps = 4;
// Of the ranks that have got some bytes, those looked at to pass them on.
constexpr size_t kMaxLeads = 8;
// Candidates looked at in all sweeps together, so that they stay linear.
constexpr int64_t kMaxSweepWork = int64_t{1} << 24;
// Loads up to so much (1/64) above the lower bound are not worth a sweep.
constexpr int64_t kSlackShare = 64;

// One demand as one node, or one rank beside a local holder, needs it.
struct Unit {
  absl::Span<const Rank> takers;  // the first to take it relays to the others
  int32_t cluster = 0;
  Rank source = kNoRank;
  Rank relay = kNoRank;
  int32_t parent = -1;       // the unit whose relay is the source
  int32_t num_children = 0;  // units that this one's relay feeds

  int64_t num_relayed() const {
    return static_cast<int64_t>(takers.size()) - 1;
  }
};

// Units of one demand that can feed each other: all that cross, or those of one
// node.
struct Cluster {
  int32_t demand = 0;
  int32_t ordinal = 0;  // among the clusters of its demand
  bool crossing = false;
  absl::Span<const Rank> holders;
  size_t begin = 0;  // its units
  size_t end = 0;
  Rank first_source = kNoRank;  // of the copy that has to leave the holders
};

using Way = std::pair<Rank, Rank>;  // source, relay

class Router {
 public:
  Router(const RankSets& sets, absl::Span<const Demand> demands)
      : sets_(sets),
        demands_(demands),
        links_(sets.topology()),
        out_(links_),
        in_(links_),
        heaps_(sets, out_),
        bounds_(BoundLinks(sets, demands)),
        target_(std::max(bounds_.rank, bounds_.card)) {
    in_.SetRoom(target_);
    out_.SetRoom(target_);
    for (size_t i = 0; i < demands.size(); ++i) {
      AddClusters(static_cast<int32_t>(i), demands[i]);
    }
  }

  std::vector<Leg> Run() {
    AssignGreedily();
    int64_t work = kMaxSweepWork;
    for (int sweep = 0; sweep < kMaxSweeps && Improve(work); ++sweep) {
    }
    GatherNeighbours();
    return MakeLegs();
  }

 private:
  void AddClusters(int32_t index, const Demand& demand) {
    const absl::Span<const Rank> missing = sets_.Ranks(demand.missing);
    Cluster crossing{index, 0, true, sets_.Ranks(demand.holders), 0, 0, {}};
    std::vector<absl::Span<const Rank>> nodes;  // that the bytes cross to
    int32_t ordinal = 0;
    for (const RankSets::NodeGroup& group : sets_.Nodes(demand.missing)) {
      const absl::Span<const Rank> takers =
          missing.subspan(static_cast<size_t>(group.begin),
                          static_cast<size_t>(group.end - group.begin));
      const absl::Span<const Rank> local =
          sets_.OnNode(demand.holders, group.node);
      if (local.empty()) {
        nodes.push_back(takers);
        continue;
      }
      Cluster inside{index, ++ordinal, false, local, 0, 0, {}};
      inside.begin = units_.size();
      for (size_t t = 0; t < takers.size(); ++t) AddUnit(takers.subspan(t, 1));
      inside.end = units_.size();
      clusters_.push_back(inside);
    }
    if (nodes.empty()) return;
    crossing.begin = units_.size();
    for (const absl::Span<const Rank> takers : nodes) AddUnit(takers);
    crossing.end = units_.size();
    clusters_.push_back(crossing);
  }
  void AddUnit(absl::Span<const Rank> takers) {
    Unit& unit = units_.emplace_back();
    unit.takers = takers;
    unit.cluster = static_cast<int32_t>(clusters_.size());
  }

  const Cluster& ClusterOf(const Unit& unit) const {
    return clusters_[static_cast<size_t>(unit.cluster)];
  }
  const Demand& DemandOf(const Cluster& cluster) const {
    return demands_[static_cast<size_t>(cluster.demand)];
  }
  int64_t BytesOf(const Cluster& cluster) const {
    return DemandOf(cluster).bytes;
  }
  absl::Span<Unit> UnitsOf(const Cluster& cluster) {
    return absl::MakeSpan(units_).subspan(cluster.begin,
                                          cluster.end - cluster.begin);
  }

  void AddRelay(const Unit& unit, int64_t sign) {
    const Cluster& cluster = ClusterOf(unit);
    const int64_t bytes = sign * BytesOf(cluster);
    if (cluster.crossing) in_.Add(unit.relay, bytes, /*crossing=*/true);
    if (unit.num_relayed() > 0) {
      out_.Add(unit.relay, bytes * unit.num_relayed(), /*crossing=*/false);
    }
  }

  // What taking the bytes in and passing them on would load, at worst and
  // together.
  LinkCost RelayCost(const Unit& unit, Rank rank) const {
    const int64_t bytes = BytesOf(ClusterOf(unit));
    const int64_t in = in_.Of(rank, /*crossing=*/true) + bytes;
    const int64_t out = out_.OfRank(rank) + bytes * unit.num_relayed();
    // Below the target a rank's own link is fast enough: cards are levelled.
    const int64_t worst = std::max(in, out);
    return {worst > target_ ? worst : in,
            in_.OfRank(rank) + unit.num_relayed() * out};
  }
  Rank CheapestRelay(const Unit& unit) const {
    Rank best = unit.takers[0];
    if (unit.takers.size() == 1) return best;
    LinkCost best_cost = RelayCost(unit, best);
    for (const Rank rank : unit.takers.subspan(1)) {
      const LinkCost cost = RelayCost(unit, rank);
      if (cost < best_cost) {
        best = rank;
        best_cost = cost;
      }
    }
    return best;
  }

  // What the links that such bytes pass have to carry at least. Cards are
  // slower than ranks' links: they are held to a bound of their own.
  int64_t TargetOf(const Cluster& cluster) const {
    return cluster.crossing ? bounds_.card : target_;
  }
  Rank CheapestHolder(const Cluster& cluster) {
    return cluster.crossing
               ? heaps_.Cheapest(DemandOf(cluster).holders)
               : CheapestOf(out_, cluster.holders, /*crossing=*/false);
  }

  // --- the greedy pass ------------------------------------------------------

  // Those with one holder first, so that the others see their load; then the
  // largest.
  std::vector<int32_t> OrderOfClusters() const {
    std::vector<int32_t> order(clusters_.size());
    for (size_t i = 0; i < order.size(); ++i) {
      order[i] = static_cast<int32_t>(i);
    }
    const auto key = [this](int32_t i) {
      const Cluster& cluster = clusters_[static_cast<size_t>(i)];
      return std::make_tuple(cluster.holders.size() > 1, -BytesOf(cluster), i);
    };
    std::sort(order.begin(), order.end(),
              [&](int32_t a, int32_t b) { return key(a) < key(b); });
    return order;
  }

  // What has to leave the holders once is placed first; more copies then see
  // how much room is left.
  void AssignGreedily() {
    const std::vector<int32_t> order = OrderOfClusters();
    for (const int32_t i : order) {
      Cluster& cluster = clusters_[static_cast<size_t>(i)];
      cluster.first_source = CheapestHolder(cluster);
      out_.Add(cluster.first_source, BytesOf(cluster), cluster.crossing);
    }
    for (const int32_t i : order) Spread(clusters_[static_cast<size_t>(i)]);
  }

  void Spread(const Cluster& cluster) {
    const absl::Span<Unit> units = UnitsOf(cluster);
    for (Unit& unit : units) {
      unit.relay = CheapestRelay(unit);
      AddRelay(unit, 1);
    }
    // The first ones may have to feed the others: the least loaded first.
    std::vector<int32_t> order(units.size());
    for (size_t i = 0; i < order.size(); ++i) {
      order[i] = static_cast<int32_t>(cluster.begin + i);
    }
    const int64_t bytes = BytesOf(cluster);
    const int64_t target = TargetOf(cluster);
    const int64_t more = static_cast<int64_t>(units.size()) - 1;
    if (more > 0 &&
        out_.Of(CheapestHolder(cluster), cluster.crossing) + bytes * more >
            target) {
      std::vector<std::pair<LinkCost, int32_t>> keys;
      for (const int32_t i : order) {
        keys.emplace_back(CostOf(out_, UnitAt(i).relay, cluster.crossing), i);
      }
      std::sort(keys.begin(), keys.end());
      for (size_t i = 0; i < keys.size(); ++i) order[i] = keys[i].second;
    }
    UnitAt(order[0]).source = cluster.first_source;
    for (size_t k = 1; k < order.size(); ++k) {
      const Rank holder = CheapestHolder(cluster);
      const int64_t direct = out_.Of(holder, cluster.crossing) + bytes;
      int32_t lead = -1;
      if (direct > target) {
        lead =
            BestLead(cluster, absl::MakeConstSpan(order).subspan(0, k), direct);
      }
      Feed(order[k], lead, holder);
    }
  }

  Unit& UnitAt(int32_t i) { return units_[static_cast<size_t>(i)]; }
  const Unit& UnitAt(int32_t i) const { return units_[static_cast<size_t>(i)]; }

  // Of units that have their bytes, the one to pass them on: one that stays
  // below the target if there is any, then the nearest to the holders, then the
  // least loaded; -1 if each would be loaded more than `direct`.
  int32_t BestLead(const Cluster& cluster, absl::Span<const int32_t> served,
                   int64_t direct) const {
    int32_t best = -1;
    const int64_t target = TargetOf(cluster);
    std::tuple<int64_t, int32_t, int64_t> best_cost{direct - target, 0, 0};
    for (const int32_t i : served.subspan(0, kMaxLeads)) {
      const int64_t load =
          out_.Of(UnitAt(i).relay, cluster.crossing) + BytesOf(cluster);
      const std::tuple<int64_t, int32_t, int64_t> cost{
          std::max<int64_t>(load - target, 0), DepthOf(i), load};
      if (cost < best_cost) {
        best = i;
        best_cost = cost;
      }
    }
    return best;
  }

  int32_t DepthOf(int32_t i) const {
    int32_t depth = 0;
    for (; UnitAt(i).parent >= 0; i = UnitAt(i).parent) ++depth;
    return depth;
  }

  // Has the relay of unit `lead`, or a holder where that is -1, serve a unit.
  void Feed(int32_t i, int32_t lead, Rank holder) {
    Unit& unit = UnitAt(i);
    unit.parent = lead;
    if (lead >= 0) ++UnitAt(lead).num_children;
    unit.source = lead >= 0 ? UnitAt(lead).relay : holder;
    const Cluster& cluster = ClusterOf(unit);
    out_.Add(unit.source, BytesOf(cluster), cluster.crossing);
  }
  void Unfeed(int32_t i) {
    Unit& unit = UnitAt(i);
    const Cluster& cluster = ClusterOf(unit);
    out_.Add(unit.source, -BytesOf(cluster), cluster.crossing);
    if (unit.parent >= 0) --UnitAt(unit.parent).num_children;
    unit.parent = -1;
  }

  // --- the sweeps -----------------------------------------------------------

  bool TooMuch(Rank source, const Cluster& cluster) const {
    const int64_t target = TargetOf(cluster);
    return out_.Of(source, cluster.crossing) > target + target / kSlackShare;
  }

  // Moves units off links above the target to where they load less; whether any
  // moved. A move lowers the larger of two loads, so sweeps settle.
  bool Improve(int64_t& work) {
    bool moved = false;
    for (size_t u = 0; u < units_.size() && work > 0; ++u) {
      const auto i = static_cast<int32_t>(u);
      const Cluster& cluster = ClusterOf(units_[u]);
      if (TooMuch(units_[u].source, cluster)) {
        moved |= MoveSource(i, cluster, work);
      }
      if (units_[u].num_relayed() > 0 && units_[u].num_children == 0) {
        moved |= MoveRelay(units_[u], work);
      }
    }
    return moved;
  }

  bool MoveSource(int32_t i, const Cluster& cluster, int64_t& work) {
    const int32_t old_lead = UnitAt(i).parent;
    const Rank old_source = UnitAt(i).source;
    Unfeed(i);
    LinkCost best = CostOf(out_, old_source, cluster.crossing);
    const LinkCost was = best;
    int32_t lead = old_lead;
    Rank holder = old_source;
    const auto offer = [&](int32_t new_lead, Rank source) {
      --work;
      const LinkCost cost = CostOf(out_, source, cluster.crossing);
      if (cost >= best) return;
      best = cost;
      lead = new_lead;
      holder = source;
    };
    for (const Rank rank : cluster.holders) offer(-1, rank);
    // Whom a holder serves is fed by none of the others: no circle can arise.
    size_t offered = 0;
    for (size_t v = cluster.begin; v < cluster.end && offered < kMaxLeads;
         ++v) {
      const auto other = static_cast<int32_t>(v);
      if (other == i || units_[v].parent >= 0) continue;
      offer(other, units_[v].relay);
      ++offered;
    }
    Feed(i, lead, holder);
    return best < was;
  }

  bool MoveRelay(Unit& unit, int64_t& work) {
    AddRelay(unit, -1);
    work -= static_cast<int64_t>(unit.takers.size());
    const Rank best = CheapestRelay(unit);
    const bool better = RelayCost(unit, best) < RelayCost(unit, unit.relay);
    if (better) unit.relay = best;
    AddRelay(unit, 1);
    return better;
  }

  // --- the result -----------------------------------------------------------

  // Exchanges the ways of equal pieces of one thing, which changes no load, so
  // that each way gets neighbouring pieces: they become one transfer.
  void GatherNeighbours() {
    // (family, cluster's ordinal, unit's ordinal), unit.
    std::vector<std::pair<std::tuple<int32_t, int32_t, size_t>, Unit*>> order;
    for (Unit& unit : units_) {
      const Cluster& cluster = ClusterOf(unit);
      const int32_t family = DemandOf(cluster).family;
      if (family < 0 || unit.parent >= 0 || unit.num_children > 0) continue;
      const auto ordinal = static_cast<size_t>(&unit - &units_[cluster.begin]);
      order.push_back({{family, cluster.ordinal, ordinal}, &unit});
    }
    std::stable_sort(
        order.begin(), order.end(),
        [](const auto& a, const auto& b) { return a.first < b.first; });
    // From the back: pieces of another size at the end keep their way, and
    // those before it that go the same way come last.
    Way next;
    for (size_t end = order.size(); end > 0;) {
      const int64_t bytes = BytesOf(ClusterOf(*order[end - 1].second));
      size_t begin = end;
      while (begin > 0 && order[begin - 1].first == order[end - 1].first &&
             BytesOf(ClusterOf(*order[begin - 1].second)) == bytes) {
        --begin;
      }
      std::vector<Way> ways;
      for (size_t i = begin; i < end; ++i) {
        ways.emplace_back(order[i].second->source, order[i].second->relay);
      }
      std::sort(ways.begin(), ways.end(), [&](const Way& a, const Way& b) {
        return std::make_pair(a == next, a) < std::make_pair(b == next, b);
      });
      for (size_t i = begin; i < end; ++i) {
        std::tie(order[i].second->source, order[i].second->relay) =
            ways[i - begin];
      }
      next = ways.front();
      end = begin;
    }
  }

  std::vector<Leg> MakeLegs() const {
    std::vector<Leg> legs;
    std::vector<int32_t> leg_of_unit(units_.size(), -1);
    std::vector<std::pair<int32_t, int32_t>> order;  // depth, unit
    for (const Cluster& cluster : clusters_) {
      order.clear();
      for (size_t u = cluster.begin; u < cluster.end; ++u) {
        const auto i = static_cast<int32_t>(u);
        order.emplace_back(DepthOf(i), i);
      }
      std::sort(order.begin(), order.end());
      for (const auto& [depth, i] : order) {
        const Unit& unit = UnitAt(i);
        const auto leg = static_cast<int32_t>(legs.size());
        leg_of_unit[static_cast<size_t>(i)] = leg;
        const int32_t parent =
            unit.parent < 0 ? -1
                            : leg_of_unit[static_cast<size_t>(unit.parent)];
        legs.push_back(
            {cluster.demand, depth, unit.source, unit.relay, parent});
        for (const Rank taker : unit.takers) {
          if (taker == unit.relay) continue;
          legs.push_back({cluster.demand, depth + 1, unit.relay, taker, leg});
        }
      }
    }
    return legs;
  }

  const RankSets& sets_;
  const absl::Span<const Demand> demands_;
  const Links links_;
  std::vector<Cluster> clusters_;
  std::vector<Unit> units_;
  LinkLoads out_;  // from sources and relays
  LinkLoads in_;   // from other nodes
  HolderHeaps heaps_;
  const LinkBounds bounds_;
  const int64_t target_;  // the larger bound
};

// Of those that are not 0; the largest there is where all are.
int64_t AverageOfSome(absl::Span<const int64_t> values) {
  const auto some =
      std::ssize(values) - std::count(values.begin(), values.end(), 0);
  if (some == 0) return std::numeric_limits<int64_t>::max();
  return std::accumulate(values.begin(), values.end(), int64_t{0}) / some;
}

}  // namespace

std::vector<Leg> RouteDemands(const RankSets& sets,
                              absl::Span<const Demand> demands) {
  return Router(sets, demands).Run();
}

bool WorthCutting(const RankSets& sets, const Demand& demand) {
  const absl::Span<const RankSets::NodeGroup> nodes =
      sets.Nodes(demand.missing);
  if (nodes.empty()) return false;
  // Of one holder's bytes, those who get them share the passing on.
  return sets.Ranks(demand.holders).size() > 1 ||
         sets.Ranks(demand.missing).size() > 1;
}

int64_t ChunkBytes(const RankSets& sets, absl::Span<const Demand> demands) {
  const Links links(sets.topology());
  std::vector<int64_t> taken(links.num_ranks());
  std::vector<int64_t> brought(links.num_nodes());  // by each card
  for (const Demand& demand : demands) {
    for (const Rank rank : sets.Ranks(demand.missing)) {
      taken[static_cast<size_t>(rank.value())] += demand.bytes;
    }
    for (const RankSets::NodeGroup& group : sets.Nodes(demand.missing)) {
      if (!sets.OnNode(demand.holders, group.node).empty()) continue;
      brought[static_cast<size_t>(group.node)] += demand.bytes;
    }
  }
  for (size_t n = 0; n < brought.size(); ++n) {
    if (brought[n] == 0) continue;  // maybe nobody is there
    brought[n] = CeilDiv(brought[n], links.CardsOf(static_cast<int32_t>(n)));
  }
  return std::max(
      kMinChunkBytes,
      std::min(AverageOfSome(taken), AverageOfSome(brought)) / kChunksPerLink);
}

}  // namespace sluice::coordinator
