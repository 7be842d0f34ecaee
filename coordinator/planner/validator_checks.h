#ifndef SLUICE_COORDINATOR_PLANNER_VALIDATOR_CHECKS_H_
#define SLUICE_COORDINATOR_PLANNER_VALIDATOR_CHECKS_H_

// What the validator checks of every plan, whatever it moves.

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "common/plan.h"
#include "coordinator/planner/planner_inputs.h"

namespace sluice::coordinator {

// "transfer 7 (rank 1 to rank 4)".
std::string NameOf(const Transfer& transfer);

// Returns INTERNAL "<transfer>: <what>".
absl::Status PlanFault(const Transfer& transfer, absl::string_view what);

// Checks numbers, order of rounds, ranks, links and that what a relay reads was
// delivered to its source in an earlier round.
absl::Status CheckTransferOrder(const Topology& topology,
                                const TransferPlan& plan);

// Checks the certificate's sums against the transfers.
absl::Status CheckCertificate(const Topology& topology,
                              const TransferPlan& plan);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_PLANNER_VALIDATOR_CHECKS_H_
