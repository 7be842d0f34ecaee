#ifndef SLUICE_AGENT_PLAN_BINDER_H_
#define SLUICE_AGENT_PLAN_BINDER_H_

/// \file
/// From what a plan says (boxes of tensors, sample entries) to where it lies in
/// this agent's memory.
///
/// A transfer is a box pattern over tensors; its *stream* is each tensor's box,
/// row-major, in order of the tensors. It follows from the plan alone, so both
/// sides agree on it. Locally a box usually lies in one view. Where it spans
/// several (the query rows of an interleaved QKV parameter, one view per KV
/// group), it is cut so that
///
/// 1. each part lies in one view of the source and of every destination copy
///    that this agent has;
/// 2. the parts, in order, are consecutive ranges of the stream: a box is only
///    ever cut along its outermost dimension of more than one element, in
///    single rows where the views cut a deeper one.

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/buffer_registry.h"
#include "agent/core/effects.h"
#include "agent/executor_interface.h"
#include "common/box.h"
#include "common/ids.h"
#include "common/model.h"

namespace sluice::agent {

// Most pieces of one part: what would break up into more is refused.
inline constexpr int64_t kMaxPieces = int64_t{1} << 22;

// Returns the part bound to memory, whose mappings it holds.
// Errors: NOT_FOUND - a buffer is unknown; INVALID_ARGUMENT - the part names a
// tensor, entry, placement or transfer that is not there, or its bytes do not
// add up; FAILED_PRECONDITION - a box that this agent does not hold (tensor,
// box and placement named), memory smaller than the placement needs;
// RESOURCE_EXHAUSTED - more than kMaxPieces pieces.
absl::StatusOr<ExecutionRequest> BindPlan(const PrepareExecution& prepare,
                                          Rank self,
                                          const BufferRegistry& buffers);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_PLAN_BINDER_H_
