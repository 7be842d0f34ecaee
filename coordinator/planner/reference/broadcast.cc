#include "coordinator/planner/reference/broadcast.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "coordinator/planner/reference/broadcast_stages.h"

namespace sluice::coordinator::reference {
namespace {

// What holders and wants decide of a tensor's source, whatever the loads are.
struct Choice {
  RankSets::Id missing = 0;
  int64_t num_missing = 0;
  std::vector<Rank> nearest;  // the holders to choose from, ascending
};

class Planning {
 public:
  explicit Planning(RankSets& sets)
      : sets_(sets), load_(sets.topology().node_of_rank.size()) {}

  std::vector<CollectiveStep> Run(absl::Span<const WantedTensor> tensors) {
    for (const WantedTensor& tensor : tensors) Assign(tensor);
    return StageBroadcasts(std::move(queues_), sets_);
  }

 private:
  void Assign(const WantedTensor& tensor) {
    const Choice& choice = ChoiceOf(tensor.holders, tensor.wanted);
    if (choice.num_missing == 0) return;
    const Rank source = LeastLoaded(choice.nearest);
    load_[static_cast<size_t>(source.value())] += choice.num_missing;
    const auto [queue, new_queue] =
        queue_of_.try_emplace({source, tensor.key}, queues_.size());
    if (new_queue) {
      BroadcastQueue& made = queues_.emplace_back();
      made.source = source;
      made.key = tensor.key;
    }
    BroadcastQueue& broadcasts = queues_[queue->second];
    const auto [step, new_step] = step_of_.try_emplace(
        {queue->second, choice.missing}, broadcasts.steps.size());
    if (new_step) broadcasts.steps.push_back({choice.missing, {}});
    broadcasts.steps[step->second].samples.push_back(tensor.sample);
  }

  const Choice& ChoiceOf(RankSets::Id holders, RankSets::Id wanted) {
    // Neighbouring tensors are often alike.
    if (last_ >= 0 && last_key_ == std::make_pair(holders, wanted)) {
      return choices_[static_cast<size_t>(last_)];
    }
    last_key_ = {holders, wanted};
    const auto [it, inserted] =
        choice_of_.try_emplace(last_key_, static_cast<int>(choices_.size()));
    if (inserted) choices_.push_back(MakeChoice(holders, wanted));
    last_ = it->second;
    return choices_[static_cast<size_t>(last_)];
  }

  Choice MakeChoice(RankSets::Id holders, RankSets::Id wanted) {
    Choice choice;
    choice.missing = sets_.Minus(wanted, holders);
    choice.num_missing =
        static_cast<int64_t>(sets_.Ranks(choice.missing).size());
    if (choice.num_missing == 0) return choice;
    size_t most = 0;
    for (const RankSets::NodeGroup& group : sets_.Nodes(holders)) {
      const size_t missing = sets_.OnNode(choice.missing, group.node).size();
      if (missing < most) continue;
      if (missing > most) choice.nearest.clear();
      most = missing;
      for (int32_t i = group.begin; i < group.end; ++i) {
        choice.nearest.push_back(sets_.Ranks(holders)[static_cast<size_t>(i)]);
      }
    }
    std::sort(choice.nearest.begin(), choice.nearest.end());
    return choice;
  }

  Rank LeastLoaded(const std::vector<Rank>& ranks) const {
    Rank best = ranks.front();
    for (const Rank rank : ranks) {
      if (load_[static_cast<size_t>(rank.value())] <
          load_[static_cast<size_t>(best.value())]) {
        best = rank;
      }
    }
    return best;
  }

  RankSets& sets_;
  std::vector<int64_t> load_;  // deliveries by source so far
  std::vector<BroadcastQueue> queues_;
  absl::flat_hash_map<std::pair<Rank, int32_t>, size_t> queue_of_;
  absl::flat_hash_map<std::pair<size_t, RankSets::Id>, size_t> step_of_;
  std::vector<Choice> choices_;
  absl::flat_hash_map<std::pair<RankSets::Id, RankSets::Id>, int> choice_of_;
  std::pair<RankSets::Id, RankSets::Id> last_key_;
  int last_ = -1;
};

}  // namespace

std::vector<CollectiveStep> Broadcast(absl::Span<const WantedTensor> tensors,
                                      RankSets& sets) {
  return Planning(sets).Run(tensors);
}

}  // namespace sluice::coordinator::reference
