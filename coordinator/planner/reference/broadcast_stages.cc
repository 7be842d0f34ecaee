#include "coordinator/planner/reference/broadcast_stages.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"

namespace sluice::coordinator::reference {
namespace {

// The distinct destination sets, and which of them the present stage can still
// take. A set that is blocked once stays blocked for the stage, so it is looked
// at once; the rank that blocked it last time is looked at first.
class Destinations {
 public:
  explicit Destinations(const RankSets& sets)
      : sets_(sets), taken_in_(sets.topology().node_of_rank.size(), -1) {}

  int32_t Number(RankSets::Id id) {
    const auto [it, inserted] =
        number_of_.try_emplace(id, static_cast<int32_t>(all_.size()));
    if (inserted) {
      Set& set = all_.emplace_back();
      set.ranks = sets_.Ranks(id);
      set.watched = set.ranks.front();
      open_.push_back(it->second);
    }
    ++all_[static_cast<size_t>(it->second)].steps_left;
    return it->second;
  }

  void NextStage() {
    ++stage_;
    witness_ = 0;
    if (num_done_ * 4 < open_.size()) return;
    open_.erase(
        std::remove_if(open_.begin(), open_.end(),
                       [this](int32_t s) { return set(s).steps_left == 0; }),
        open_.end());
    num_done_ = 0;
  }

  bool IsFree(int32_t number) {
    Set& s = set(number);
    if (s.blocked_in == stage_) return false;
    if (Taken(s.watched)) {
      s.blocked_in = stage_;
      return false;
    }
    for (const Rank rank : s.ranks) {
      if (!Taken(rank)) continue;
      s.watched = rank;
      s.blocked_in = stage_;
      return false;
    }
    return true;
  }

  void Take(int32_t number) {
    Set& s = set(number);
    for (const Rank rank : s.ranks) {
      taken_in_[static_cast<size_t>(rank.value())] = stage_;
    }
    s.blocked_in = stage_;
    if (--s.steps_left == 0) ++num_done_;
  }

  // Returns whether some set with steps left is free: the first such set is
  // remembered, and all before it are blocked.
  bool AnyFree() {
    while (witness_ < open_.size() &&
           (set(open_[witness_]).steps_left == 0 || !IsFree(open_[witness_]))) {
      ++witness_;
    }
    return witness_ < open_.size();
  }

  absl::Span<const Rank> Ranks(int32_t number) { return set(number).ranks; }

 private:
  struct Set {
    absl::Span<const Rank> ranks;
    Rank watched = kNoRank;
    int32_t blocked_in = -1;  // stage
    int32_t steps_left = 0;
  };

  Set& set(int32_t number) { return all_[static_cast<size_t>(number)]; }
  bool Taken(Rank rank) const {
    return taken_in_[static_cast<size_t>(rank.value())] == stage_;
  }

  const RankSets& sets_;
  absl::flat_hash_map<RankSets::Id, int32_t> number_of_;
  std::vector<Set> all_;
  std::vector<int32_t> taken_in_;  // by rank: the last stage that took it
  std::vector<int32_t> open_;      // sets with steps left, and some without
  size_t num_done_ = 0;            // of open_: without
  size_t witness_ = 0;             // in open_
  int32_t stage_ = -1;
};

// A queue's steps that are left, in order. Steps done leave holes, which go
// when they are half of it.
class Waiting {
 public:
  Waiting(BroadcastQueue& queue, Destinations& destinations) : queue_(queue) {
    for (size_t i = 0; i < queue.steps.size(); ++i) {
      left_.push_back({destinations.Number(queue.steps[i].destinations),
                       static_cast<int32_t>(i)});
    }
  }

  Rank source() const { return queue_.source; }
  bool empty() const { return num_done_ == left_.size(); }

  // Takes the first step whose destinations are free. Returns its destinations'
  // number, or -1; `step` gets the rest.
  int32_t TakeFirstFree(Destinations& destinations, CollectiveStep& step) {
    for (Entry& entry : left_) {
      if (entry.step < 0 || !destinations.IsFree(entry.destinations)) continue;
      step.samples.push_back(
          std::move(queue_.steps[static_cast<size_t>(entry.step)].samples));
      step.root = queue_.source;
      step.keys = {queue_.key};
      const int32_t taken = entry.destinations;
      entry.step = -1;
      if (++num_done_ * 2 > left_.size()) DropDone();
      return taken;
    }
    return -1;
  }

 private:
  struct Entry {
    int32_t destinations = 0;
    int32_t step = 0;  // -1: done
  };

  void DropDone() {
    left_.erase(std::remove_if(left_.begin(), left_.end(),
                               [](const Entry& e) { return e.step < 0; }),
                left_.end());
    num_done_ = 0;
  }

  BroadcastQueue& queue_;
  std::vector<Entry> left_;
  size_t num_done_ = 0;
};

}  // namespace

std::vector<CollectiveStep> StageBroadcasts(std::vector<BroadcastQueue> queues,
                                            const RankSets& sets) {
  Destinations destinations(sets);
  std::vector<Waiting> waiting;
  waiting.reserve(queues.size());
  for (BroadcastQueue& queue : queues)
    waiting.emplace_back(queue, destinations);
  std::vector<int32_t> sends_in(sets.topology().node_of_rank.size(), -1);
  std::vector<CollectiveStep> steps;
  size_t num_empty = 0;
  for (int32_t stage = 0; num_empty < waiting.size(); ++stage) {
    destinations.NextStage();
    for (Waiting& queue : waiting) {
      int32_t& sends = sends_in[static_cast<size_t>(queue.source().value())];
      if (sends == stage || queue.empty()) continue;
      CollectiveStep step;
      const int32_t taken = queue.TakeFirstFree(destinations, step);
      if (taken < 0) {
        if (!destinations.AnyFree()) break;  // nothing fits any more
        continue;
      }
      sends = stage;
      step.kind = TransferKind::kBroadcast;
      step.stage = stage;
      const absl::Span<const Rank> ranks = destinations.Ranks(taken);
      step.peers.assign(ranks.begin(), ranks.end());
      std::sort(step.peers.begin(), step.peers.end());
      steps.push_back(std::move(step));
      destinations.Take(taken);
      if (queue.empty()) ++num_empty;
    }
    if (num_empty * 4 < waiting.size()) continue;
    std::vector<Waiting> rest;
    for (Waiting& queue : waiting) {
      if (!queue.empty()) rest.push_back(std::move(queue));
    }
    waiting = std::move(rest);
    num_empty = 0;
  }
  return steps;
}

}  // namespace sluice::coordinator::reference
