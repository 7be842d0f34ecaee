#include "coordinator/planner/reference_steps.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "coordinator/planner/rank_sets.h"
#include "coordinator/planner/reference/broadcast.h"
#include "coordinator/planner/reference/collective_step.h"
#include "coordinator/planner/reference/gather_scatter.h"

namespace sluice::coordinator {
namespace {

// One key's tensors, by sample.
struct Column {
  std::vector<int32_t> samples;
  std::vector<int32_t> holdings;  // positions in the input
  std::vector<int32_t> owners;
  std::vector<RankSets::Id> holders;
  std::vector<RankSets::Id> wanted;
};

// A request's holdings as tensors of numbered samples and keys (in order of
// appearance), and the way back. What nobody wants is left out.
class Numbered {
 public:
  explicit Numbered(const RedistributionInput& input) : sets_(input.topology) {
    absl::flat_hash_map<absl::string_view, size_t> keys;
    int32_t sample = -1;
    RankSets::Id holders = 0, wanted = 0;
    for (size_t i = 0; i < input.holdings.size(); ++i) {
      const SampleHolding& holding = input.holdings[i];
      const SampleEntry& entry = holding.entry;
      if (i == 0 || entry.sample_id != input.holdings[i - 1].entry.sample_id) {
        ++sample;
      }
      if (i == 0 || holding.holders != input.holdings[i - 1].holders) {
        holders = sets_.InternAscending(holding.holders);
      }
      if (i == 0 || input.wanted[i] != input.wanted[i - 1]) {
        wanted = sets_.InternAscending(input.wanted[i]);
      }
      const size_t key = keys.try_emplace(entry.key, keys.size()).first->second;
      if (key == columns_.size()) columns_.emplace_back();
      if (input.wanted[i].empty()) continue;
      Column& column = columns_[key];
      column.samples.push_back(sample);
      column.holdings.push_back(static_cast<int32_t>(i));
      column.owners.push_back(holding.owner.value());
      column.holders.push_back(holders);
      column.wanted.push_back(wanted);
    }
  }

  std::vector<reference::WantedColumn> Columns() const {
    std::vector<reference::WantedColumn> out;
    for (size_t k = 0; k < columns_.size(); ++k) {
      const Column& column = columns_[k];
      out.push_back({static_cast<int32_t>(k), column.samples, column.owners,
                     column.wanted});
    }
    return out;
  }

  // By sample and key.
  std::vector<reference::WantedTensor> Tensors(size_t num_holdings) const {
    std::vector<int32_t> key_of(num_holdings, -1);
    for (size_t k = 0; k < columns_.size(); ++k) {
      for (const int32_t holding : columns_[k].holdings) {
        key_of[static_cast<size_t>(holding)] = static_cast<int32_t>(k);
      }
    }
    std::vector<size_t> next(columns_.size());
    std::vector<reference::WantedTensor> out;
    out.reserve(num_holdings);
    for (const int32_t key : key_of) {
      if (key < 0) continue;
      const Column& column = columns_[static_cast<size_t>(key)];
      const size_t at = next[static_cast<size_t>(key)]++;
      out.push_back(
          {column.samples[at], key, column.holders[at], column.wanted[at]});
    }
    return out;
  }

  // Whether all that want the key's tensors have them.
  bool Satisfied(size_t key) {
    const Column& column = columns_[key];
    for (size_t i = 0; i < column.samples.size(); ++i) {
      if (column.wanted[i] == column.holders[i]) continue;
      const RankSets::Id missing =
          sets_.Minus(column.wanted[i], column.holders[i]);
      if (!sets_.Ranks(missing).empty()) return false;
    }
    return true;
  }

  bool HasAll(size_t key, Rank rank) const {
    const Column& column = columns_[key];
    for (size_t i = 0; i < column.samples.size(); ++i) {
      if (column.owners[i] != rank.value() &&
          !sets_.Contains(column.holders[i], rank)) {
        return false;
      }
    }
    return true;
  }

  RankSets& sets() { return sets_; }

  std::vector<ReferenceStep> InHoldings(
      std::vector<reference::CollectiveStep> steps) const {
    std::vector<ReferenceStep> out;
    out.reserve(steps.size());
    for (reference::CollectiveStep& step : steps) {
      ReferenceStep& made = out.emplace_back();
      made.kind = step.kind;
      made.stage = step.stage;
      made.root = step.root;
      made.peers = std::move(step.peers);
      for (const std::vector<int32_t>& samples : step.samples) {
        std::vector<int32_t>& holdings = made.holdings.emplace_back();
        holdings.reserve(samples.size() * step.keys.size());
        for (const int32_t key : step.keys) {
          AppendHoldings(columns_[static_cast<size_t>(key)], samples, holdings);
        }
      }
    }
    return out;
  }

 private:
  // Appends the holdings of these samples, all of which are in the column.
  static void AppendHoldings(const Column& column,
                             const std::vector<int32_t>& samples,
                             std::vector<int32_t>& out) {
    auto from = column.samples.begin();
    for (const int32_t sample : samples) {
      from = std::lower_bound(from, column.samples.end(), sample);
      out.push_back(
          column.holdings[static_cast<size_t>(from - column.samples.begin())]);
    }
  }

  RankSets sets_;
  std::vector<Column> columns_;  // by key
};

}  // namespace

std::vector<ReferenceStep> GatherScatterSteps(
    const RedistributionInput& input) {
  Numbered numbered(input);
  const auto satisfied = [&](size_t key) { return numbered.Satisfied(key); };
  const auto has_all = [&](size_t key, Rank rank) {
    return numbered.HasAll(key, rank);
  };
  return numbered.InHoldings(reference::GatherScatter(
      numbered.Columns(), {satisfied, has_all}, numbered.sets()));
}

std::vector<ReferenceStep> BroadcastSteps(const RedistributionInput& input) {
  Numbered numbered(input);
  return numbered.InHoldings(reference::Broadcast(
      numbered.Tensors(input.holdings.size()), numbered.sets()));
}

}  // namespace sluice::coordinator
