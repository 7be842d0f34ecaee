#include "coordinator/planner/reference/gather_scatter.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

#include "absl/container/flat_hash_map.h"

namespace sluice::coordinator::reference {
namespace {

// What a key's tensors look like to one kind of step: (sample, owner) to a
// gather, (sample, who wants it) to a scatter, each pair as one number, which
// hashes as bytes. Keys with equal columns and the same root share a step, and
// its lists are made once.
using Column = std::vector<uint64_t>;

uint64_t Pair(int32_t sample, int32_t other) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(sample)) << 32) |
         static_cast<uint32_t>(other);
}
int32_t SampleOf(uint64_t pair) { return static_cast<int32_t>(pair >> 32); }
int32_t OtherOf(uint64_t pair) {
  return static_cast<int32_t>(pair & 0xffffffffu);
}

class Planning {
 public:
  Planning(absl::Span<const WantedTensor> tensors, RankSets& sets)
      : sets_(sets) {
    int32_t num_keys = 0;
    for (const WantedTensor& tensor : tensors) {
      num_keys = std::max(num_keys, tensor.key + 1);
    }
    by_key_.resize(static_cast<size_t>(num_keys));
    for (auto& of_key : by_key_) {
      of_key.reserve(tensors.size() / by_key_.size() + 1);
    }
    for (const WantedTensor& tensor : tensors) {
      // Wanted by nobody: not part of the question.
      if (sets_.Ranks(tensor.wanted).empty()) continue;
      by_key_[static_cast<size_t>(tensor.key)].push_back(&tensor);
    }
  }

  std::vector<CollectiveStep> Run() {
    for (size_t key = 0; key < by_key_.size(); ++key) {
      if (!by_key_[key].empty()) AddKey(static_cast<int32_t>(key));
    }
    std::vector<CollectiveStep> steps = std::move(gathers_.steps);
    steps.insert(steps.end(), std::make_move_iterator(scatters_.steps.begin()),
                 std::make_move_iterator(scatters_.steps.end()));
    return steps;
  }

 private:
  struct Steps {
    std::vector<CollectiveStep> steps;
    absl::flat_hash_map<std::pair<Rank, Column>, size_t> known;
  };

  void AddKey(int32_t key) {
    const auto& tensors = by_key_[static_cast<size_t>(key)];
    Rank root(std::numeric_limits<int32_t>::max());
    for (const WantedTensor* tensor : tensors) {
      root = std::min(root, tensor->owner);
    }
    if (std::all_of(tensors.begin(), tensors.end(),
                    [this](const WantedTensor* t) { return Satisfied(*t); })) {
      return;
    }
    const bool at_root = std::all_of(
        tensors.begin(), tensors.end(), [&](const WantedTensor* tensor) {
          return tensor->owner == root || sets_.Contains(tensor->holders, root);
        });
    Column column(tensors.size());
    if (!at_root) {
      for (size_t i = 0; i < tensors.size(); ++i) {
        column[i] = Pair(tensors[i]->sample, tensors[i]->owner.value());
      }
      AddStep(TransferKind::kGather, key, root, column, gathers_);
    }
    for (size_t i = 0; i < tensors.size(); ++i) {
      column[i] = Pair(tensors[i]->sample, tensors[i]->wanted);
    }
    AddStep(TransferKind::kScatter, key, root, std::move(column), scatters_);
  }

  bool Satisfied(const WantedTensor& tensor) {
    if (tensor.wanted == tensor.holders) return true;
    return sets_.Ranks(sets_.Minus(tensor.wanted, tensor.holders)).empty();
  }

  void AddStep(TransferKind kind, int32_t key, Rank root, Column column,
               Steps& made) {
    const auto [it, inserted] = made.known.try_emplace(
        std::make_pair(root, std::move(column)), made.steps.size());
    if (inserted) {
      CollectiveStep& step = made.steps.emplace_back();
      step.kind = kind;
      step.stage = kind == TransferKind::kGather ? 0 : 1;
      step.root = root;
      Deal(it->first.second, step);
    }
    made.steps[it->second].keys.push_back(key);
  }

  // Writes each peer's samples.
  void Deal(const Column& column, CollectiveStep& step) {
    std::vector<std::vector<int32_t>> by_rank(
        sets_.topology().node_of_rank.size());
    if (step.kind == TransferKind::kGather) {
      for (const uint64_t pair : column) {
        by_rank[static_cast<size_t>(OtherOf(pair))].push_back(SampleOf(pair));
      }
    } else {
      for (const uint64_t pair : column) {
        for (const Rank rank : sets_.Ranks(OtherOf(pair))) {
          by_rank[static_cast<size_t>(rank.value())].push_back(SampleOf(pair));
        }
      }
    }
    for (size_t rank = 0; rank < by_rank.size(); ++rank) {
      if (by_rank[rank].empty()) continue;
      step.peers.push_back(Rank(static_cast<int32_t>(rank)));
      step.samples.push_back(std::move(by_rank[rank]));
    }
  }

  RankSets& sets_;
  std::vector<std::vector<const WantedTensor*>> by_key_;
  Steps gathers_, scatters_;
};

}  // namespace

std::vector<CollectiveStep> GatherScatter(
    absl::Span<const WantedTensor> tensors, RankSets& sets) {
  return Planning(tensors, sets).Run();
}

}  // namespace sluice::coordinator::reference
