#ifndef SLUICE_BENCH_PLANNER_PUBLISHED_CASES_H_
#define SLUICE_BENCH_PLANNER_PUBLISHED_CASES_H_

// Weight syncs as they are run: published models in layouts that their trainers
// and engines are known to use. Benchmarks, simulations and tests share them.
// Models and layouts come from the presets.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/dtype.h"
#include "coordinator/planner/planner_inputs.h"

namespace sluice::bench {

// One placement of a case.
struct CaseSide {
  std::string layout;                        // of presets/layouts
  std::map<std::string, int64_t> variables;  // for the layout's preset
  std::string axes;                          // "pipe=16,data=16,tensor=1"
  int32_t first_rank = 0;  // mesh index i is cluster rank first_rank + i

  int32_t num_ranks() const;
};

struct PublishedCase {
  std::string name;   // "deepseek-v3-256-to-256"
  std::string model;  // of presets/models
  CaseSide trainer;
  CaseSide rollout;
  std::string links;           // of presets/links
  int32_t ranks_per_node = 8;  // as that table says
  int32_t cards_per_node = 8;  // network cards, shared evenly by a node's ranks
  // The element type in which the rollout side holds matrices; kUnspecified: as
  // the model has them.
  DType cast = DType::kUnspecified;

  // Ranks of the cluster: those of both sides, counted once.
  int32_t num_ranks() const;
  // Ranks that are in both placements.
  int32_t num_colocated() const;
};

// Returns all cases, from 30B to 1T parameters, in a fixed order.
const std::vector<PublishedCase>& PublishedCases();

// Errors: NOT_FOUND - there is no such case; lists those there are.
absl::StatusOr<PublishedCase> FindPublishedCase(absl::string_view name);

// Makes the planner's input: source placement "trainer" (all replicas hold the
// version), destination "rollout", nodes and cards by the case. `overrides`
// replaces variables of the model (fewer layers).
// Errors: as FindModelPreset, FindLayoutPreset, ResolvePreset, ParseAxes.
absl::StatusOr<coordinator::ReshardInput> MakeReshardInput(
    const PublishedCase& published,
    const std::map<std::string, int64_t>& overrides = {});

}  // namespace sluice::bench

#endif  // SLUICE_BENCH_PLANNER_PUBLISHED_CASES_H_
