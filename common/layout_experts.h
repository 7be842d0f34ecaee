#ifndef SLUICE_COMMON_LAYOUT_EXPERTS_H_
#define SLUICE_COMMON_LAYOUT_EXPERTS_H_

// How experts are dealt over the positions of some axes. Internal to the layout
// library.

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "common/layout.h"

namespace sluice {

// Where an expert is: a position, and the slot there.
struct ExpertPlace {
  int64_t position = 0;
  int64_t slot = 0;
};

// places[expert], ascending position; empty for one that nobody holds.
struct ExpertDeal {
  std::vector<std::vector<ExpertPlace>> places;
};

// Deals `num_experts` experts, or the slots of `map` if it is not null, over
// `positions`.
// Errors: INVALID_ARGUMENT - sizes that do not sum up, a slot with a number
// that is no expert's, an expert twice on one position, too many experts.
absl::StatusOr<ExpertDeal> DealExperts(const ExpertRule& rule,
                                       const ExpertMap* map,
                                       int64_t num_experts, int64_t positions);

// Returns the position in Layout::expert_maps of a layer's map (-1 = the tensor
// has no layer), or -1. Errors: INVALID_ARGUMENT - it has two.
absl::StatusOr<int64_t> FindExpertMap(const Layout& layout, int64_t layer);

}  // namespace sluice

#endif  // SLUICE_COMMON_LAYOUT_EXPERTS_H_
