#ifndef SLUICE_TOOLS_QUICKSTART_PLACEMENT_CHECK_H_
#define SLUICE_TOOLS_QUICKSTART_PLACEMENT_CHECK_H_

// The bridge to the independent checker: it maps what agents hold and hands the
// bytes over.

#include "absl/status/status.h"
#include "tools/quickstart/session.h"

namespace sluice::quickstart {

// Pins report.version of the placement on each of its agents and compares all
// bytes with the checkpoint; sets verified and verified_bytes.
// Errors: DATA_LOSS - names agent, parameter, row and column; as Worker::Pin.
absl::Status CheckPlacement(Session& session, const Placed& placed,
                            int sign_flips, OperationReport& report);

}  // namespace sluice::quickstart

#endif  // SLUICE_TOOLS_QUICKSTART_PLACEMENT_CHECK_H_
