#ifndef SLUICE_TOOLS_SLUICECTL_PLAN_NOTES_H_
#define SLUICE_TOOLS_SLUICECTL_PLAN_NOTES_H_

// What is said of a sync besides its figures, planned with or without a
// cluster.

#include <string>
#include <vector>

#include "absl/types/span.h"
#include "coordinator/planner/casts.h"

namespace sluice::ctl {

// "casts       61 tensors BF16 -> F8_E4M3 at the source, F8_E4M3 on the wire",
// a line for each kind; then "warning: ..." for each. Empty for none.
std::string PlanNotesText(absl::Span<const coordinator::Cast> casts,
                          absl::Span<const std::string> warnings);

}  // namespace sluice::ctl

#endif  // SLUICE_TOOLS_SLUICECTL_PLAN_NOTES_H_
