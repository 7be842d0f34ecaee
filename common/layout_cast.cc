#include "common/layout_cast.h"

#include "absl/strings/str_cat.h"
#include "common/layout_pattern.h"
#include "common/status_macros.h"

namespace sluice {

absl::Status CastMatrices(const ModelSpec& model, DType dtype, Layout& layout) {
  if (!layout.explicit_ranks.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("layout \"", layout.name,
                     "\" has explicit views: expected their own dtypes"));
  }
  for (LayoutRule& rule : layout.rules) {
    SLUICE_ASSIGN_OR_RETURN(const NamePattern pattern,
                            NamePattern::Parse(rule.pattern));
    const TensorSpec* vector = nullptr;
    const TensorSpec* matrix = nullptr;
    for (const TensorSpec& tensor : model.tensors) {
      if (!pattern.Match(tensor.name).has_value()) continue;
      (tensor.shape.size() < 2 ? vector : matrix) = &tensor;
    }
    if (matrix == nullptr) continue;
    if (vector != nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(
          "layout \"", layout.name, "\", rule \"", rule.pattern,
          "\" matches vectors (\"", vector->name, "\") and others (\"",
          matrix->name, "\"): expected one kind, or dtypes in its rules"));
    }
    rule.dtype = dtype;
  }
  return absl::OkStatus();
}

}  // namespace sluice
