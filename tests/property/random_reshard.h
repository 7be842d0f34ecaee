#ifndef SLUICE_TESTS_PROPERTY_RANDOM_RESHARD_H_
#define SLUICE_TESTS_PROPERTY_RANDOM_RESHARD_H_

// Random models, layouts, meshes and clusters for reshard plans: sizes that do
// not divide, more ranks than heads, replicas, uneven and virtual stages, fused
// and interleaved members, padding, listed sizes, experts on a second grid
// (stacked, separate, redundant), flat shards, dimensions in parts, transposed
// parameters, explicit boxes; in half of them placements that hold tensors in
// other element types than the model's.

#include <cstdint>
#include <random>

#include "coordinator/planner/planner_inputs.h"

namespace sluice::testing {

using Rng = std::mt19937_64;

int64_t Draw(Rng& rng, int64_t lo, int64_t hi);

// A reshard from one placement to one or two others, on some of up to 14 ranks
// of up to 4 nodes, read from some of the source's replicas. Every layout
// passes CheckLayout.
coordinator::ReshardInput RandomReshard(Rng& rng);

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_PROPERTY_RANDOM_RESHARD_H_
