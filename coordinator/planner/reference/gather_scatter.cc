#include "coordinator/planner/reference/gather_scatter.h"

#include <algorithm>
#include <iterator>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"

namespace sluice::coordinator::reference {
namespace {

using Numbers = absl::Span<const int32_t>;

// Numbers lists by what is in them, reading each place of memory once.
class ListNumbers {
 public:
  int32_t Of(Numbers list) {
    const auto [it, inserted] =
        by_place_.try_emplace({list.data(), list.size()}, 0);
    if (inserted) {
      it->second =
          by_content_.try_emplace(list, static_cast<int32_t>(by_place_.size()))
              .first->second;
    }
    return it->second;
  }

 private:
  absl::flat_hash_map<std::pair<const int32_t*, size_t>, int32_t> by_place_;
  absl::flat_hash_map<Numbers, int32_t> by_content_;
};

// What each rank gives or takes, dealt into lists that are as long as they will
// be.
class Deal {
 public:
  explicit Deal(size_t num_ranks) : counts_(num_ranks), ends_(num_ranks) {}

  void Count(int32_t rank, int32_t samples = 1) {
    counts_[static_cast<size_t>(rank)] += samples;
  }
  void Open(CollectiveStep& step) {
    const auto peers = static_cast<size_t>(
        counts_.size() -
        static_cast<size_t>(std::count(counts_.begin(), counts_.end(), 0)));
    step.peers.reserve(peers);
    step.samples.reserve(peers);
    for (size_t rank = 0; rank < counts_.size(); ++rank) {
      if (counts_[rank] == 0) continue;
      step.peers.push_back(Rank(static_cast<int32_t>(rank)));
      step.samples.emplace_back(static_cast<size_t>(counts_[rank]));
      ends_[rank] = step.samples.back().data();
    }
  }
  void Add(int32_t rank, int32_t sample) {
    *ends_[static_cast<size_t>(rank)]++ = sample;
  }

 private:
  std::vector<int32_t> counts_;
  std::vector<int32_t*> ends_;
};

class Planning {
 public:
  Planning(absl::Span<const WantedColumn> columns,
           const HoldingQuestions& questions, const RankSets& sets)
      : columns_(columns), questions_(questions), sets_(sets) {}

  std::vector<CollectiveStep> Run() {
    for (size_t c = 0; c < columns_.size(); ++c) {
      if (!columns_[c].samples.empty()) AddKey(c);
    }
    std::vector<CollectiveStep> steps = std::move(gathers_.steps);
    steps.insert(steps.end(), std::make_move_iterator(scatters_.steps.begin()),
                 std::make_move_iterator(scatters_.steps.end()));
    return steps;
  }

 private:
  struct Steps {
    std::vector<CollectiveStep> steps;
    // By root, samples and their owners or who wants them.
    absl::flat_hash_map<std::tuple<int32_t, int32_t, int32_t>, size_t> known;
  };

  void AddKey(size_t c) {
    const WantedColumn& column = columns_[c];
    if (questions_.satisfied(c)) return;
    const int32_t root =
        *std::min_element(column.owners.begin(), column.owners.end());
    const int32_t samples = lists_.Of(column.samples);
    if (!questions_.has_all(c, Rank(root))) {
      const auto [step, made] =
          StepOf({root, samples, lists_.Of(column.owners)}, gathers_);
      if (made) WriteGather(column, *step);
      step->keys.push_back(column.key);
    }
    const auto [step, made] =
        StepOf({root, samples, lists_.Of(column.wanted)}, scatters_);
    if (made) WriteScatter(column, *step);
    step->keys.push_back(column.key);
  }

  // Returns the step and whether it is new.
  static std::pair<CollectiveStep*, bool> StepOf(
      std::tuple<int32_t, int32_t, int32_t> key, Steps& made) {
    const auto [it, inserted] = made.known.try_emplace(key, made.steps.size());
    if (inserted) made.steps.emplace_back().root = Rank(std::get<0>(key));
    return {&made.steps[it->second], inserted};
  }

  void WriteGather(const WantedColumn& column, CollectiveStep& step) const {
    step.kind = TransferKind::kGather;
    step.stage = 0;
    Deal deal(sets_.topology().node_of_rank.size());
    for (const int32_t owner : column.owners) deal.Count(owner);
    deal.Open(step);
    for (size_t i = 0; i < column.samples.size(); ++i) {
      deal.Add(column.owners[i], column.samples[i]);
    }
  }

  void WriteScatter(const WantedColumn& column, CollectiveStep& step) const {
    step.kind = TransferKind::kScatter;
    step.stage = 1;
    Deal deal(sets_.topology().node_of_rank.size());
    for (const RankSets::Id wanted : column.wanted) {
      for (const Rank rank : sets_.Ranks(wanted)) deal.Count(rank.value());
    }
    deal.Open(step);
    for (size_t i = 0; i < column.samples.size(); ++i) {
      for (const Rank rank : sets_.Ranks(column.wanted[i])) {
        deal.Add(rank.value(), column.samples[i]);
      }
    }
  }

  const absl::Span<const WantedColumn> columns_;
  const HoldingQuestions& questions_;
  const RankSets& sets_;
  ListNumbers lists_;
  Steps gathers_, scatters_;
};

}  // namespace

std::vector<CollectiveStep> GatherScatter(
    absl::Span<const WantedColumn> columns, const HoldingQuestions& questions,
    const RankSets& sets) {
  return Planning(columns, questions, sets).Run();
}

}  // namespace sluice::coordinator::reference
