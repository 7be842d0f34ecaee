#ifndef SLUICE_AGENT_NCCL_MEMBER_EXCHANGE_H_
#define SLUICE_AGENT_NCCL_MEMBER_EXCHANGE_H_

// Words between the members of a communicator, waited for.

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/nccl/communicator.h"

namespace sluice::agent {

// Gives `own` to all members and takes theirs, in their order.
// Errors: as Communicator::Await; DEADLINE_EXCEEDED names who did not come.
absl::StatusOr<std::vector<std::string>> ExchangeWithMembers(
    const std::shared_ptr<Communicator>& communicator, std::string own,
    absl::Time deadline);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_NCCL_MEMBER_EXCHANGE_H_
