#include "coordinator/planner/reference/sync_groups.h"

#include <algorithm>
#include <map>

#include "absl/container/flat_hash_map.h"
#include "coordinator/planner/reference/round_table.h"

namespace sluice::coordinator::reference {
namespace {

template <typename T>
void AddTo(std::vector<std::vector<T>>& rounds, int32_t round, T value) {
  if (rounds.size() <= static_cast<size_t>(round)) {
    rounds.resize(static_cast<size_t>(round) + 1);
  }
  rounds[static_cast<size_t>(round)].push_back(value);
}

}  // namespace

std::vector<int32_t> SendersInTurns(const SenderMapping& mapping,
                                    absl::Span<const int32_t> data_ranks) {
  // Sorted by (turn, data rank); a sender's turn is its place among the senders
  // of its data rank.
  std::map<int32_t, std::vector<int32_t>> by_data_rank;
  for (size_t i = 0; i < mapping.size(); ++i) {
    by_data_rank[data_ranks[i]].push_back(mapping[i].sender);
  }
  std::vector<std::vector<int32_t>> turns;
  for (auto& entry : by_data_rank) {
    std::sort(entry.second.begin(), entry.second.end());
    for (size_t turn = 0; turn < entry.second.size(); ++turn) {
      AddTo(turns, static_cast<int32_t>(turn), entry.second[turn]);
    }
  }
  std::vector<int32_t> senders;
  senders.reserve(mapping.size());
  for (const std::vector<int32_t>& turn : turns) {
    senders.insert(senders.end(), turn.begin(), turn.end());
  }
  return senders;
}

std::vector<std::vector<int32_t>> SplitSyncGroups(
    const SenderMapping& mapping, absl::Span<const int32_t> order) {
  absl::flat_hash_map<int32_t, const Fanout*> fanouts;
  for (const Fanout& fanout : mapping) fanouts[fanout.sender] = &fanout;
  RoundTable table;
  std::vector<std::vector<int32_t>> groups;
  std::vector<int32_t> ranks;
  for (const int32_t sender : order) {
    const auto it = fanouts.find(sender);
    if (it == fanouts.end()) continue;
    ranks = it->second->receivers;
    ranks.push_back(sender);
    AddTo(groups, table.Place(ranks), sender);
  }
  return groups;
}

std::vector<PairRound> DisjointRounds(const SenderMapping& mapping) {
  RoundTable table;
  std::vector<PairRound> rounds;
  for (const Fanout& fanout : mapping) {
    for (const int32_t receiver : fanout.receivers) {
      const int32_t ranks[] = {fanout.sender, receiver};
      AddTo(rounds, table.Place(ranks),
            std::make_pair(fanout.sender, receiver));
    }
  }
  return rounds;
}

std::vector<std::vector<int32_t>> CollectiveBatches(
    absl::Span<const std::vector<int32_t>> tasks) {
  RoundTable table;
  std::vector<std::vector<int32_t>> batches;
  for (size_t i = 0; i < tasks.size(); ++i) {
    AddTo(batches, table.Place(tasks[i]), static_cast<int32_t>(i));
  }
  return batches;
}

}  // namespace sluice::coordinator::reference
