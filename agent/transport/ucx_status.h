#ifndef SLUICE_AGENT_TRANSPORT_UCX_STATUS_H_
#define SLUICE_AGENT_TRANSPORT_UCX_STATUS_H_

// UCX status codes as absl::Status.

#include <ucs/type/status.h>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace sluice::agent {

// Returns OK for UCS_OK; CANCELLED, UNAVAILABLE (a dead or unreachable peer),
// DATA_LOSS (a message longer than its receive), RESOURCE_EXHAUSTED, else
// INTERNAL, with `what` and UCX's words.
absl::Status UcxStatus(ucs_status_t status, absl::string_view what);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_TRANSPORT_UCX_STATUS_H_
