#include "coordinator/planner/simulation/time_bound.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/ids.h"

namespace sluice::coordinator::simulation {
namespace {

// Beyond this many distinct sets of senders each is looked at by itself and all
// together only. The bound is then weaker, not wrong.
constexpr size_t kMaxComparedSets = 256;

// Ranks in groups (each by itself, by node, by switch), with what each group's
// links carry together.
struct Grouping {
  std::string name;           // "node"
  std::vector<int32_t> of;    // by rank
  std::vector<double> rates;  // bytes per second each way, by group
};

class Bounding {
 public:
  Bounding(const Movement& movement, const LinkTable& table)
      : movement_(movement), table_(table), sets_(*movement.sets) {}

  TimeBound Run() {
    AddCopies();
    const Topology& topology = *movement_.topology;
    AddGrouping(ByRank(topology));
    const Grouping nodes = ByNode(topology);
    const bool crosses = AddGrouping(nodes);
    if (table_.nodes_per_switch > 0 && !table_.rails &&
        table_.oversubscription > 1) {
      AddGrouping(BySwitch(nodes));
    }
    if (moves_) {
      best_.seconds += crosses ? table_.network_latency : table_.node_latency;
    }
    return best_;
  }

 private:
  static size_t At(int32_t index) { return static_cast<size_t>(index); }

  void Offer(double seconds, const std::string& limit) {
    if (seconds <= best_.seconds) return;
    best_ = {seconds, limit};
  }

  Grouping ByRank(const Topology& topology) const {
    Grouping out{"rank", {}, {}};
    const double rate = table_.rank_rate +
                        (table_.cards_behind_rank_link ? 0 : table_.card_rate);
    for (int32_t r = 0; r < topology.num_ranks(); ++r) {
      out.of.push_back(r);
      out.rates.push_back(rate);
    }
    return out;
  }

  Grouping ByNode(const Topology& topology) const {
    Grouping out{"node", topology.node_of_rank, {}};
    std::set<std::pair<int32_t, int32_t>> cards;
    for (size_t r = 0; r < out.of.size(); ++r) {
      if (out.of[r] < 0) continue;
      const int32_t card =
          topology.card_of_rank.empty() ? 0 : topology.card_of_rank[r];
      if (At(out.of[r]) >= out.rates.size()) {
        out.rates.resize(At(out.of[r]) + 1);
      }
      if (cards.insert({out.of[r], card}).second) {
        out.rates[At(out.of[r])] += table_.card_rate;
      }
    }
    return out;
  }

  Grouping BySwitch(const Grouping& nodes) const {
    Grouping out{"switch", nodes.of, {}};
    for (int32_t& group : out.of) {
      if (group < 0) continue;
      group /= table_.nodes_per_switch;
      if (At(group) >= out.rates.size()) {
        out.rates.resize(At(group) + 1,
                         table_.card_rate * table_.cards_per_node *
                             table_.nodes_per_switch / table_.oversubscription);
      }
    }
    return out;
  }

  // What is there already costs a copy.
  void AddCopies() {
    std::vector<double> bytes(At(movement_.topology->num_ranks()));
    for (const Need& need : movement_.needs) {
      if (need.missing == need.takers) continue;
      for (const Rank rank : sets_.Ranks(need.takers)) {
        if (!sets_.Contains(need.holders, rank)) continue;
        bytes[At(rank.value())] += static_cast<double>(need.bytes);
      }
    }
    for (size_t r = 0; r < bytes.size(); ++r) {
      Offer(bytes[r] / table_.device_copy_rate,
            absl::StrCat("rank ", r, " memory"));
    }
  }

  std::vector<int32_t> GroupsOf(const Grouping& grouping,
                                RankSets::Id ranks) const {
    std::vector<int32_t> groups;
    for (const Rank rank : sets_.Ranks(ranks)) {
      groups.push_back(grouping.of[At(rank.value())]);
    }
    std::sort(groups.begin(), groups.end());
    groups.erase(std::unique(groups.begin(), groups.end()), groups.end());
    return groups;
  }

  // Returns whether anything goes between groups.
  bool AddGrouping(const Grouping& grouping) {
    std::map<std::pair<RankSets::Id, RankSets::Id>, double> joined;
    for (const Need& need : movement_.needs) {
      joined[{need.holders, need.missing}] += static_cast<double>(need.bytes);
    }
    std::vector<double> in(grouping.rates.size());
    std::map<std::vector<int32_t>, double> out;  // by groups that hold it
    for (const auto& [ranks, bytes] : joined) {
      const std::vector<int32_t> holders = GroupsOf(grouping, ranks.first);
      bool leaves = false;
      for (const int32_t group : GroupsOf(grouping, ranks.second)) {
        if (std::binary_search(holders.begin(), holders.end(), group)) {
          continue;
        }
        in[At(group)] += bytes;
        leaves = true;
      }
      if (leaves) out[holders] += bytes;
    }
    for (size_t g = 0; g < in.size(); ++g) {
      if (in[g] == 0) continue;
      moves_ = true;
      Offer(in[g] / grouping.rates[g],
            absl::StrCat(grouping.name, " ", g, " in"));
    }
    AddOut(grouping, out);
    return !out.empty();
  }

  // What only a set of groups holds leaves the set once.
  void AddOut(const Grouping& grouping,
              const std::map<std::vector<int32_t>, double>& out) {
    double total = 0;
    std::set<int32_t> everybody;
    for (const auto& [groups, bytes] : out) {
      double inside = bytes;
      if (out.size() <= kMaxComparedSets) {
        inside = 0;
        for (const auto& [other, other_bytes] : out) {
          if (std::includes(groups.begin(), groups.end(), other.begin(),
                            other.end())) {
            inside += other_bytes;
          }
        }
      }
      double rate = 0;
      for (const int32_t group : groups) rate += grouping.rates[At(group)];
      Offer(inside / rate,
            absl::StrCat(grouping.name, " ", groups[0],
                         groups.size() > 1 ? " and others out" : " out"));
      total += bytes;
      everybody.insert(groups.begin(), groups.end());
    }
    double rate = 0;
    for (const int32_t group : everybody) rate += grouping.rates[At(group)];
    if (rate > 0)
      Offer(total / rate, absl::StrCat("all ", grouping.name, "s out"));
  }

  const Movement& movement_;
  const LinkTable& table_;
  const RankSets& sets_;
  TimeBound best_;
  bool moves_ = false;
};

}  // namespace

TimeBound BoundSeconds(const Movement& movement, const LinkTable& table) {
  return Bounding(movement, table).Run();
}

}  // namespace sluice::coordinator::simulation
