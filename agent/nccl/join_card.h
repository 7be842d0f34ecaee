#ifndef SLUICE_AGENT_NCCL_JOIN_CARD_H_
#define SLUICE_AGENT_NCCL_JOIN_CARD_H_

// What members tell each other before a communicator is made: what NCCL would
// find out by hanging, or refuse without naming who.

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "agent/collective/collective.h"

namespace sluice::agent {

struct JoinCard {
  int version = 0;      // of NCCL, as it counts
  std::string host_id;  // NCCL_HOSTID, where set
  std::string bus_id;   // of the device
  // NCCL_MULTI_RANK_GPU_ENABLE=1: from 2.30 on, other ranks may have the
  // device.
  bool shares_device = false;
  std::string refusal;  // why this member makes none; empty: it does

  // Of a refusal that is long, the beginning.
  std::string Encode() const;
  // Errors: INVALID_ARGUMENT.
  static absl::StatusOr<JoinCard> Decode(absl::string_view bytes);
};

// Whether these members can make a communicator; every member comes to the same
// answer. Errors: FAILED_PRECONDITION - a member refuses (named, with its
// reason); different versions, or two members on one device that not both share
// (names both members, what each has, and what to do).
absl::Status CheckCards(const CollectiveMembers& members,
                        const std::vector<JoinCard>& cards);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_NCCL_JOIN_CARD_H_
