#ifndef SLUICE_COORDINATOR_PLANNER_CERTIFICATE_H_
#define SLUICE_COORDINATOR_PLANNER_CERTIFICATE_H_

// What a plan says of itself: bytes per rank and link, and how far it is from
// what no plan can avoid. Links are each rank's way in and way out (everything
// but copies inside it) and each node's way in and way out (between nodes).

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/plan.h"
#include "coordinator/planner/planner_inputs.h"
#include "coordinator/planner/rank_sets.h"
#include "coordinator/planner/source_selector.h"

namespace sluice::coordinator {

// A transport packs bytes between nodes into two buckets of this size each way.
inline constexpr int64_t kStagingBucketBytes = int64_t{16} << 20;

// Returns the bytes that the most loaded link carries in every plan: what a
// rank needs enters it; what a node needs and does not hold enters it; what
// only some ranks (or nodes) hold leaves them at least once.
int64_t LowerBoundBytes(const RankSets& sets, absl::Span<const Demand> demands);

// Returns the certificate of these transfers.
Certificate MakeCertificate(const Topology& topology,
                            absl::Span<const Transfer> transfers,
                            int64_t lower_bound_bytes, int64_t wasted_bytes);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_PLANNER_CERTIFICATE_H_
