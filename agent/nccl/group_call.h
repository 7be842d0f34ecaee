#ifndef SLUICE_AGENT_NCCL_GROUP_CALL_H_
#define SLUICE_AGENT_NCCL_GROUP_CALL_H_

// A collective as calls of NCCL.

#include "agent/collective/collective.h"
#include "agent/nccl/nccl_api.h"
#include "agent/nccl/stream.h"

namespace sluice::agent {

// Issues this member's side of `call` as one group call. `even`: what
// EvenPieces says, which must be the same on all members.
NcclResult IssueGroupCall(const CollectiveCall& call, int members, int self,
                          bool even, const NcclApi& nccl, NcclComm comm,
                          NcclStream& stream);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_NCCL_GROUP_CALL_H_
