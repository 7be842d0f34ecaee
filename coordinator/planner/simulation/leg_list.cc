#include "coordinator/planner/simulation/leg_list.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace sluice::coordinator::simulation {

uint32_t LegList::Add(int32_t round, TransferKind kind, Rank source,
                      Rank destination, int64_t bytes,
                      std::optional<uint32_t> reads_after) {
  Transfer transfer;
  transfer.id = static_cast<uint32_t>(plan_.transfers.size());
  transfer.round = round;
  transfer.kind = source == destination ? TransferKind::kLocalCopy : kind;
  transfer.source = source;
  transfer.destination = destination;
  transfer.link = topology_.Between(source, destination);
  transfer.bytes = bytes;
  transfer.reads_after = reads_after;
  plan_.transfers.push_back(transfer);
  return transfer.id;
}

absl::StatusOr<TransferPlan> LegList::Finish(int64_t limit) && {
  if (size() > limit) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "plan: expected at most ", limit, " transfers, found ", size()));
  }
  std::stable_sort(
      plan_.transfers.begin(), plan_.transfers.end(),
      [](const Transfer& a, const Transfer& b) { return a.round < b.round; });
  std::vector<uint32_t> position(plan_.transfers.size());
  for (size_t i = 0; i < plan_.transfers.size(); ++i) {
    position[plan_.transfers[i].id] = static_cast<uint32_t>(i);
  }
  for (Transfer& transfer : plan_.transfers) {
    transfer.id = position[transfer.id];
    if (transfer.reads_after.has_value()) {
      transfer.reads_after = position[*transfer.reads_after];
    }
  }
  return std::move(plan_);
}

}  // namespace sluice::coordinator::simulation
