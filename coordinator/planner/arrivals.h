#ifndef SLUICE_COORDINATOR_PLANNER_ARRIVALS_H_
#define SLUICE_COORDINATOR_PLANNER_ARRIVALS_H_

// Proves that what reaches one agent is what it wants, every element exactly
// once. Part of the validator.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/model.h"
#include "common/plan.h"
#include "coordinator/planner/held_geometry.h"
#include "coordinator/planner/tensor_sets.h"

namespace sluice::coordinator {

// What a transfer brings of one class of tensors.
struct Arrival {
  TensorSets::Part part;
  const Transfer* transfer = nullptr;
};

// Checks all arrivals (any order) of one agent.
// Errors: INTERNAL - an element that arrives unwanted, twice or not at all,
// with tensor, box and rank.
absl::Status CheckArrivals(const ModelSpec& model, const HeldGeometry& held,
                           int64_t mesh_index, Rank rank,
                           std::vector<Arrival>& arrivals);

// "tensor \"w\" box [0,4)".
std::string Where(const ModelSpec& model, TensorIndex tensor, const Box& box);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_PLANNER_ARRIVALS_H_
