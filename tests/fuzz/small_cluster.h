#ifndef SLUICE_TESTS_FUZZ_SMALL_CLUSTER_H_
#define SLUICE_TESTS_FUZZ_SMALL_CLUSTER_H_

// What fuzzed layouts and plans are tried on: a decoder of two layers with four
// experts, and eight ranks on two nodes.

#include "absl/strings/string_view.h"
#include "common/mesh.h"
#include "common/model.h"
#include "coordinator/planner/planner_inputs.h"

namespace sluice::testing {

inline constexpr const char* kSmallMeshes[] = {"tensor=4",
                                               "pipe=2,data=2,tensor=2"};

const ModelSpec& SmallModel();

// Ranks 0, 1, ... over these axes.
Mesh SmallMesh(absl::string_view axes);

// Every tensor whole on ranks 1 and 6.
coordinator::PlacementGeometry WholePlacement();

// Every replica of the source holds the version.
coordinator::ReshardInput SmallReshard(coordinator::PlacementGeometry from,
                                       coordinator::PlacementGeometry to);

// Six (sample, key) tensors, some of them wanted.
coordinator::RedistributionInput SmallRedistribution();

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_FUZZ_SMALL_CLUSTER_H_
