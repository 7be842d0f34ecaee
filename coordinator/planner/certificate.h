#ifndef SLUICE_COORDINATOR_PLANNER_CERTIFICATE_H_
#define SLUICE_COORDINATOR_PLANNER_CERTIFICATE_H_

// What a plan says of itself: bytes per rank and link, and how far it is from
// what no plan can avoid (lower_bound.h), on links as in link_loads.h.

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/plan.h"
#include "coordinator/planner/planner_inputs.h"

namespace sluice::coordinator {

// A transport packs bytes between nodes into two buckets of this size each way.
inline constexpr int64_t kStagingBucketBytes = int64_t{16} << 20;

// Returns the certificate of these transfers.
Certificate MakeCertificate(const Topology& topology,
                            absl::Span<const Transfer> transfers,
                            int64_t lower_bound_bytes, int64_t wasted_bytes);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_PLANNER_CERTIFICATE_H_
