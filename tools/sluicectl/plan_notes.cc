#include "tools/sluicectl/plan_notes.h"

#include "absl/strings/str_cat.h"
#include "common/dtype.h"
#include "common/format.h"

namespace sluice::ctl {

std::string PlanNotesText(absl::Span<const coordinator::Cast> casts,
                          absl::Span<const std::string> warnings) {
  std::string text;
  for (const coordinator::Cast& cast : casts) {
    absl::StrAppend(&text, "casts       ", HumanCount(cast.num_tensors),
                    " tensors ", DTypeName(cast.from), " -> ",
                    DTypeName(cast.to),
                    cast.at_source() ? " at the source" : " at the destination",
                    ", ", DTypeName(cast.wire), " on the wire\n");
  }
  for (const std::string& warning : warnings) {
    absl::StrAppend(&text, "warning: ", warning, "\n");
  }
  return text;
}

}  // namespace sluice::ctl
