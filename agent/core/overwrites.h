#ifndef SLUICE_AGENT_CORE_OVERWRITES_H_
#define SLUICE_AGENT_CORE_OVERWRITES_H_

// Loads into lent memory. Its worker must know that what the memory held ends
// before the first byte changes: a worker that missed the news would lend the
// memory again, to this agent or to its next life, with a version that is not
// in it any more. So the worker is told, and the load waits until it
// acknowledges.

#include "absl/status/statusor.h"
#include "agent/core/core_state.h"
#include "agent/core/events.h"
#include "agent/core/operation_table.h"
#include "agent/core/placement_table.h"

namespace sluice::agent {

// Whether all workers whose memory the operation is about to overwrite know it;
// tells those that were not told. Its targets are free. Errors:
// FAILED_PRECONDITION - the worker has left.
absl::StatusOr<bool> WorkersKnowOfOverwrite(CoreState& state,
                                            const Operation& operation);

void OnAcknowledgeOverwrite(CoreState& state,
                            const AcknowledgeOverwriteRequest& request);

// What the worker was told does not hold any more: it wrote or lent the memory,
// or the load has begun.
void ForgetOverwrite(Placement& placement);

// The operation ends before it began: its targets hold what they held. (Others
// that wait for them tell anew.)
void WithdrawOverwrite(CoreState& state, const Operation& operation);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CORE_OVERWRITES_H_
