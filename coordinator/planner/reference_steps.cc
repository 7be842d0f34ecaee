#include "coordinator/planner/reference_steps.h"

#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace sluice::coordinator {
namespace {

bool Has(const std::vector<Rank>& ascending, Rank rank) {
  return std::binary_search(ascending.begin(), ascending.end(), rank);
}

// Numbers samples and keys in order of appearance.
class Names {
 public:
  explicit Names(const RedistributionInput& input) {
    absl::flat_hash_map<absl::string_view, int32_t> keys;
    absl::string_view last_sample;
    int32_t samples = 0;
    for (const SampleHolding& holding : input.holdings) {
      const SampleEntry& entry = holding.entry;
      if (samples == 0 || entry.sample_id != last_sample) ++samples;
      last_sample = entry.sample_id;
      sample_of_.push_back(samples - 1);
      key_of_.push_back(
          keys.try_emplace(entry.key, static_cast<int32_t>(keys.size()))
              .first->second);
    }
    num_keys_ = static_cast<int32_t>(keys.size());
  }

  int32_t sample_of(size_t holding) const { return sample_of_[holding]; }
  int32_t key_of(size_t holding) const { return key_of_[holding]; }
  int32_t num_keys() const { return num_keys_; }

 private:
  std::vector<int32_t> sample_of_;
  std::vector<int32_t> key_of_;
  int32_t num_keys_ = 0;
};

// --- GATHER_SCATTER ---------------------------------------------------------

class GatherScatter {
 public:
  explicit GatherScatter(const RedistributionInput& input)
      : input_(input), names_(input) {}

  std::vector<ReferenceStep> Run() {
    std::vector<std::vector<int32_t>> by_key(
        static_cast<size_t>(names_.num_keys()));
    for (size_t i = 0; i < input_.holdings.size(); ++i) {
      if (input_.wanted[i].empty()) continue;
      by_key[static_cast<size_t>(names_.key_of(i))].push_back(
          static_cast<int32_t>(i));
    }
    for (const std::vector<int32_t>& holdings : by_key) {
      if (!holdings.empty()) AddKey(holdings);
    }
    std::vector<ReferenceStep> out = std::move(gathers_);
    out.insert(out.end(), std::make_move_iterator(scatters_.begin()),
               std::make_move_iterator(scatters_.end()));
    return out;
  }

 private:
  using Shares = std::map<Rank, std::vector<int32_t>>;
  // What must be equal for steps of different keys to be one.
  using StepKey = std::pair<Rank, std::vector<std::vector<int32_t>>>;

  const SampleHolding& holding(int32_t i) const {
    return input_.holdings[static_cast<size_t>(i)];
  }

  void AddKey(const std::vector<int32_t>& holdings) {
    Shares sent, received;
    for (const int32_t i : holdings) {
      sent[holding(i).owner].push_back(i);
      for (const Rank rank : input_.wanted[static_cast<size_t>(i)]) {
        received[rank].push_back(i);
      }
    }
    const Rank root = sent.begin()->first;  // the lowest owner
    bool scattered = true;
    for (const auto& [rank, share] : received) {
      for (const int32_t i : share) {
        scattered = scattered && Has(holding(i).holders, rank);
      }
    }
    if (scattered) return;  // nobody misses anything of this key
    bool gathered = true;
    for (const int32_t i : holdings) {
      gathered = gathered && Has(holding(i).holders, root);
    }
    if (!gathered) {
      AddStep(TransferKind::kGather, 0, root, sent, gather_of_, gathers_);
    }
    AddStep(TransferKind::kScatter, 1, root, received, scatter_of_, scatters_);
  }

  void AddStep(TransferKind kind, int32_t stage, Rank root,
               const Shares& shares,
               absl::flat_hash_map<StepKey, size_t>& known,
               std::vector<ReferenceStep>& steps) {
    StepKey key;
    key.first = root;
    for (const auto& [rank, share] : shares) {
      std::vector<int32_t>& line = key.second.emplace_back();
      line.push_back(rank.value());
      for (const int32_t i : share) {
        line.push_back(names_.sample_of(static_cast<size_t>(i)));
      }
    }
    const auto [it, inserted] = known.try_emplace(std::move(key), steps.size());
    if (inserted) {
      ReferenceStep& step = steps.emplace_back();
      step.kind = kind;
      step.stage = stage;
      step.root = root;
      for (const auto& [rank, share] : shares) step.peers.push_back(rank);
      step.holdings.resize(shares.size());
    }
    ReferenceStep& step = steps[it->second];
    size_t peer = 0;
    for (const auto& [rank, share] : shares) {
      step.holdings[peer].insert(step.holdings[peer].end(), share.begin(),
                                 share.end());
      ++peer;
    }
  }

  const RedistributionInput& input_;
  const Names names_;
  absl::flat_hash_map<StepKey, size_t> gather_of_, scatter_of_;
  std::vector<ReferenceStep> gathers_, scatters_;
};

// --- BROADCAST --------------------------------------------------------------

// The broadcasts of one source and one key, by destinations, in order of first
// need; those before `next` are in a stage already.
struct Broadcasts {
  Rank source = kNoRank;
  std::vector<std::pair<std::vector<Rank>, std::vector<int32_t>>> steps;
  std::vector<char> done;
  size_t num_left = 0;
};

class Broadcaster {
 public:
  explicit Broadcaster(const RedistributionInput& input)
      : input_(input),
        names_(input),
        load_(input.topology.node_of_rank.size()) {}

  std::vector<ReferenceStep> Run() {
    for (size_t i = 0; i < input_.holdings.size(); ++i) Assign(i);
    return Stage();
  }

 private:
  void Assign(size_t index) {
    const SampleHolding& holding = input_.holdings[index];
    std::vector<Rank> missing;
    for (const Rank rank : input_.wanted[index]) {
      if (!Has(holding.holders, rank)) missing.push_back(rank);
    }
    if (missing.empty()) return;
    const Rank source = Choose(holding.holders, missing);
    load_[static_cast<size_t>(source.value())] +=
        static_cast<int64_t>(missing.size());
    const auto group = group_of_.try_emplace(
        {source.value(), names_.key_of(index)}, groups_.size());
    if (group.second) groups_.emplace_back().source = source;
    Broadcasts& broadcasts = groups_[group.first->second];
    const auto step = step_of_.try_emplace({group.first->second, missing},
                                           broadcasts.steps.size());
    if (step.second)
      broadcasts.steps.emplace_back(std::move(missing), std::vector<int32_t>());
    broadcasts.steps[step.first->second].second.push_back(
        static_cast<int32_t>(index));
  }

  int32_t NodeOf(Rank rank) const {
    return input_.topology.node_of_rank[static_cast<size_t>(rank.value())];
  }

  Rank Choose(const std::vector<Rank>& holders,
              const std::vector<Rank>& missing) const {
    absl::flat_hash_map<int32_t, int64_t> on_node;
    for (const Rank rank : missing) ++on_node[NodeOf(rank)];
    Rank best = kNoRank;
    std::tuple<int64_t, int64_t> best_cost;
    for (const Rank rank : holders) {
      const auto it = on_node.find(NodeOf(rank));
      const std::tuple<int64_t, int64_t> cost{
          it == on_node.end() ? 0 : -it->second,
          load_[static_cast<size_t>(rank.value())]};
      if (best == kNoRank || cost < best_cost) {
        best = rank;
        best_cost = cost;
      }
    }
    return best;
  }

  // A stage takes, group by group, the first broadcast that is disjoint from
  // what the stage has, and no source twice.
  std::vector<ReferenceStep> Stage() {
    std::vector<Broadcasts*> left;
    for (Broadcasts& group : groups_) {
      group.num_left = group.steps.size();
      group.done.assign(group.steps.size(), 0);
      left.push_back(&group);
    }
    std::vector<int32_t> sends(load_.size(), -1);     // in which stage last
    std::vector<int32_t> receives(load_.size(), -1);  // in which stage last
    std::vector<ReferenceStep> out;
    for (int32_t stage = 0; !left.empty(); ++stage) {
      for (Broadcasts* group : left) {
        int32_t& sent = sends[static_cast<size_t>(group->source.value())];
        if (sent == stage) continue;
        for (size_t i = 0; i < group->steps.size(); ++i) {
          if (group->done[i] || !Free(group->steps[i].first, receives, stage)) {
            continue;
          }
          sent = stage;
          auto& [destinations, holdings] = group->steps[i];
          for (const Rank rank : destinations) {
            receives[static_cast<size_t>(rank.value())] = stage;
          }
          out.push_back({TransferKind::kBroadcast,
                         stage,
                         group->source,
                         std::move(destinations),
                         {std::move(holdings)}});
          group->done[i] = 1;
          --group->num_left;
          break;
        }
      }
      left.erase(
          std::remove_if(left.begin(), left.end(),
                         [](const Broadcasts* g) { return g->num_left == 0; }),
          left.end());
    }
    return out;
  }

  static bool Free(const std::vector<Rank>& ranks,
                   const std::vector<int32_t>& receives, int32_t stage) {
    return std::none_of(ranks.begin(), ranks.end(), [&](Rank rank) {
      return receives[static_cast<size_t>(rank.value())] == stage;
    });
  }

  const RedistributionInput& input_;
  const Names names_;
  std::vector<int64_t> load_;  // deliveries by source so far
  std::vector<Broadcasts> groups_;
  absl::flat_hash_map<std::pair<int32_t, int32_t>, size_t> group_of_;
  absl::flat_hash_map<std::pair<size_t, std::vector<Rank>>, size_t> step_of_;
};

}  // namespace

std::vector<ReferenceStep> GatherScatterSteps(
    const RedistributionInput& input) {
  return GatherScatter(input).Run();
}

std::vector<ReferenceStep> BroadcastSteps(const RedistributionInput& input) {
  return Broadcaster(input).Run();
}

}  // namespace sluice::coordinator
