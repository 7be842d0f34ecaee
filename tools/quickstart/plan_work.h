#ifndef SLUICE_TOOLS_QUICKSTART_PLAN_WORK_H_
#define SLUICE_TOOLS_QUICKSTART_PLAN_WORK_H_

// What a plan cannot do without: the bytes its bound is made of.

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model.h"
#include "common/plan.h"
#include "tools/quickstart/report.h"

namespace sluice::quickstart {

// What one rank holds at both ends of a sync; empty layouts where it is in one
// placement only.
struct RankEnds {
  RankLayout source;
  RankLayout destination;
};

// The work of a parameter sync. `ranks` is indexed by rank.
// Digests read what each rank gives once (source bytes counted once however
// often they are sent; what is only passed on was digested as it arrived).
// Errors: INVALID_ARGUMENT - a transfer names a tensor or a rank that is not
// there, or a box its source does not hold.
absl::StatusOr<Work> SyncWork(const ModelSpec& model,
                              const std::vector<Transfer>& transfers,
                              const std::vector<RankEnds>& ranks);

// The work of a redistribution that moves `moved` bytes of a batch of
// `batch_bytes`: samples are contiguous, and each is read once at its producer.
Work SampleWork(const LinkBytes& moved, int64_t batch_bytes);

}  // namespace sluice::quickstart

#endif  // SLUICE_TOOLS_QUICKSTART_PLAN_WORK_H_
