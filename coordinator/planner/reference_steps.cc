#include "coordinator/planner/reference_steps.h"

#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "coordinator/planner/rank_sets.h"
#include "coordinator/planner/reference/broadcast.h"
#include "coordinator/planner/reference/collective_step.h"
#include "coordinator/planner/reference/gather_scatter.h"

namespace sluice::coordinator {
namespace {

// A request's holdings as tensors of numbered samples and keys (in order of
// appearance), and the way back.
class Numbered {
 public:
  explicit Numbered(const RedistributionInput& input) : sets_(input.topology) {
    absl::flat_hash_map<absl::string_view, int32_t> keys;
    int32_t sample = -1;
    for (size_t i = 0; i < input.holdings.size(); ++i) {
      const SampleHolding& holding = input.holdings[i];
      const SampleEntry& entry = holding.entry;
      if (i == 0 || entry.sample_id != input.holdings[i - 1].entry.sample_id) {
        ++sample;
      }
      const int32_t key =
          keys.try_emplace(entry.key, static_cast<int32_t>(keys.size()))
              .first->second;
      const bool like_last = i > 0 &&
                             holding.holders == input.holdings[i - 1].holders &&
                             input.wanted[i] == input.wanted[i - 1];
      const RankSets::Id holders =
          like_last ? tensors_.back().holders : sets_.Intern(holding.holders);
      const RankSets::Id wanted =
          like_last ? tensors_.back().wanted : sets_.Intern(input.wanted[i]);
      tensors_.push_back({sample, key, holding.owner, holders, wanted});
      holding_of_.emplace(std::make_pair(sample, key), static_cast<int32_t>(i));
    }
  }

  const std::vector<reference::WantedTensor>& tensors() const {
    return tensors_;
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
          for (const int32_t sample : samples) {
            holdings.push_back(holding_of_.find({sample, key})->second);
          }
        }
      }
    }
    return out;
  }

 private:
  RankSets sets_;
  std::vector<reference::WantedTensor> tensors_;
  absl::flat_hash_map<std::pair<int32_t, int32_t>, int32_t> holding_of_;
};

}  // namespace

std::vector<ReferenceStep> GatherScatterSteps(
    const RedistributionInput& input) {
  Numbered numbered(input);
  return numbered.InHoldings(
      reference::GatherScatter(numbered.tensors(), numbered.sets()));
}

std::vector<ReferenceStep> BroadcastSteps(const RedistributionInput& input) {
  Numbered numbered(input);
  return numbered.InHoldings(
      reference::Broadcast(numbered.tensors(), numbered.sets()));
}

}  // namespace sluice::coordinator
