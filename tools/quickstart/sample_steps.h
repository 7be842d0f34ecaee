#ifndef SLUICE_TOOLS_QUICKSTART_SAMPLE_STEPS_H_
#define SLUICE_TOOLS_QUICKSTART_SAMPLE_STEPS_H_

// The quickstart's steps with samples: put a rollout batch, move it by each
// pattern from the same start, check.

#include "absl/status/status.h"
#include "tools/quickstart/session.h"

namespace sluice::quickstart {

// The workers put the batch, sample i by worker i modulo their number.
absl::Status PutBatch(Session& session);

// Moves the batch to the rollout's mesh by GATHER_SCATTER, BROADCAST and
// DIRECT: split in blocks over the data axis, each sample wanted by all tensor
// peers. Every byte of every agent is checked; then the copies are dropped.
absl::Status RedistributeBatch(Session& session);

}  // namespace sluice::quickstart

#endif  // SLUICE_TOOLS_QUICKSTART_SAMPLE_STEPS_H_
