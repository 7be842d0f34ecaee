#ifndef SLUICE_TOOLS_QUICKSTART_RUN_H_
#define SLUICE_TOOLS_QUICKSTART_RUN_H_

// The whole quickstart.

#include "absl/status/status.h"
#include "tools/quickstart/interrupt.h"
#include "tools/quickstart/options.h"
#include "tools/quickstart/report.h"

namespace sluice::quickstart {

// Runs all steps; `report` holds what was reached, also on failure. Afterwards
// nothing runs and nothing is left but the checkpoint (and, on failure, logs):
// unless options.keep, which leaves the cluster up.
// Errors: ALREADY_EXISTS - a cluster of an earlier run is still up; as the
// steps fail.
absl::Status Run(Options options, Interrupt& interrupt, Report& report);

}  // namespace sluice::quickstart

#endif  // SLUICE_TOOLS_QUICKSTART_RUN_H_
