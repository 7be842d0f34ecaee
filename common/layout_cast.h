#ifndef SLUICE_COMMON_LAYOUT_CAST_H_
#define SLUICE_COMMON_LAYOUT_CAST_H_

#include "absl/status/status.h"
#include "common/dtype.h"
#include "common/layout.h"
#include "common/model.h"

namespace sluice {

// Makes a layout of rules hold the model's tensors of two or more dimensions as
// `dtype`. Vectors (norms, biases, scales) stay as they are: who computes in a
// lower precision keeps those.
// Errors: INVALID_ARGUMENT - explicit views; a rule that matches both kinds; a
// bad pattern. Each names the layout or the rule.
absl::Status CastMatrices(const ModelSpec& model, DType dtype, Layout& layout);

}  // namespace sluice

#endif  // SLUICE_COMMON_LAYOUT_CAST_H_
