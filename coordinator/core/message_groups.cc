#include "coordinator/core/message_groups.h"

#include <algorithm>
#include <set>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace sluice::coordinator {
namespace {

// Fewer than agents keep (agent/nccl/gpu_lanes.cc): what is free here was used
// later, on each of its agents, than anything that they let go of.
constexpr size_t kMaxFree = 2;

absl::Status NoNccl(const NcclSeat& seat) {
  return absl::FailedPreconditionError(absl::StrCat(
      "transport NCCL: expected it on every agent that exchanges bytes with "
      "another node, found none on ",
      seat.name));
}

}  // namespace

absl::StatusOr<std::vector<Rank>> ChooseMembers(
    Transport transport, const std::vector<const PlanPart*>& parts,
    absl::FunctionRef<NcclSeat(Rank)> seat) {
  if (transport == Transport::kUcx) return std::vector<Rank>();
  const bool must = transport == Transport::kNccl;
  std::set<Rank> members;
  for (const PlanPart* part : parts) {
    for (const Transfer& transfer : part->transfers) {
      if (transfer.link != LinkClass::kBetweenNodes || transfer.bytes == 0) {
        continue;
      }
      const NcclSeat from = seat(transfer.source);
      const NcclSeat to = seat(transfer.destination);
      if (from.version != 0 && to.version != 0) {
        members.insert({transfer.source, transfer.destination});
      } else if (must) {
        return NoNccl(from.version == 0 ? from : to);
      }
    }
  }
  std::set<std::string> devices;
  for (const Rank member : members) {
    const NcclSeat first = seat(*members.begin());
    const NcclSeat other = seat(member);
    if (!devices.insert(other.device).second && !must) {
      return std::vector<Rank>();
    }
    if (other.version == first.version) continue;
    if (!must) return std::vector<Rank>();
    return absl::FailedPreconditionError(absl::StrCat(
        "transport NCCL: expected the same version on all agents, found ",
        first.version, " on ", first.name, " and ", other.version, " on ",
        other.name));
  }
  return std::vector<Rank>(members.begin(), members.end());
}

MessageGroup MessageGroups::Take(Epoch epoch,
                                 std::vector<MessageGroup::Member> members) {
  const auto same = std::find_if(
      free_.begin(), free_.end(),
      [&](const MessageGroup& group) { return group.members == members; });
  if (same != free_.end()) {
    MessageGroup group = std::move(*same);
    free_.erase(same);
    return group;
  }
  return {absl::StrCat("plans-", epoch.value(), "-", ++names_),
          std::move(members)};
}

void MessageGroups::Return(MessageGroup group, bool well) {
  if (!well) {
    free_.clear();
    return;
  }
  free_.push_front(std::move(group));
  if (free_.size() > kMaxFree) free_.pop_back();
}

}  // namespace sluice::coordinator
