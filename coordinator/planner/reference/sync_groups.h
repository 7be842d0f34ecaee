#ifndef SLUICE_COORDINATOR_PLANNER_REFERENCE_SYNC_GROUPS_H_
#define SLUICE_COORDINATOR_PLANNER_REFERENCE_SYNC_GROUPS_H_

// In which order senders start and which of their collectives may run together.
// As ChatLearn's ParameterSyncGroup (chatlearn/synchronizer/parameter_sync.py)
// and collective_task_scheduler (chatlearn/synchronizer/scheduler.py).

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/types/span.h"

namespace sluice::coordinator::reference {

// A sender and who receives from it.
struct Fanout {
  int32_t sender = 0;
  std::vector<int32_t> receivers;

  friend bool operator==(const Fanout&, const Fanout&) = default;
};
// Each sender once; the order is the order of first use.
using SenderMapping = std::vector<Fanout>;

// Returns the senders in turns: the lowest left of each data-parallel rank,
// data-parallel ranks ascending, those without any left out. (The reference
// fails where data-parallel rank 0 sends nothing.) `data_rank_of(sender)` is
// given as a list by position in the mapping.
std::vector<int32_t> SendersInTurns(const SenderMapping& mapping,
                                    absl::Span<const int32_t> data_ranks);

// Returns groups of senders whose collectives share no rank, each sender in the
// first group that it fits, in the order given (senders of the mapping, each
// once; others are left out). As split_sync_groups.
std::vector<std::vector<int32_t>> SplitSyncGroups(
    const SenderMapping& mapping, absl::Span<const int32_t> order);

// Returns rounds of (sender, receiver) pairs that share no rank, each pair in
// the first round that it fits, in order of the mapping. All pairs are in some
// round; the reference drops the rest of a round that its chunks of the
// destination's tensor-parallel size leave over.
using PairRound = std::vector<std::pair<int32_t, int32_t>>;
std::vector<PairRound> DisjointRounds(const SenderMapping& mapping);

// Returns batches of tasks (their positions) that share no rank, each task in
// the first batch that it fits. A task is its ranks, the sender first.
std::vector<std::vector<int32_t>> CollectiveBatches(
    absl::Span<const std::vector<int32_t>> tasks);

}  // namespace sluice::coordinator::reference

#endif  // SLUICE_COORDINATOR_PLANNER_REFERENCE_SYNC_GROUPS_H_
