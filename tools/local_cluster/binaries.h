#ifndef SLUICE_TOOLS_LOCAL_CLUSTER_BINARIES_H_
#define SLUICE_TOOLS_LOCAL_CLUSTER_BINARIES_H_

// Where the programs of this installation are.

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/local_cluster/local_cluster.h"

namespace sluice::local_cluster {

// Returns the first of `candidates`, paths relative to some folder above this
// program's own (bazel-bin, or where all programs were installed), that is a
// program. Errors: NOT_FOUND - says where it looked.
absl::StatusOr<std::string> FindProgram(
    const std::vector<std::string>& candidates);

// Fills in the coordinator's and the agent's binary where they are not given.
// Errors: NOT_FOUND.
absl::Status FindBinaries(Options& options);

}  // namespace sluice::local_cluster

#endif  // SLUICE_TOOLS_LOCAL_CLUSTER_BINARIES_H_
