#ifndef SLUICE_TOOLS_QUICKSTART_SIGN_FLIP_H_
#define SLUICE_TOOLS_QUICKSTART_SIGN_FLIP_H_

// The quickstart's training step: exact, so that it can be checked to the bit,
// and its own inverse.

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "common/model.h"

namespace sluice::quickstart {

// Flips the top bit of every element that a view covers (the sign of bf16, f16,
// f32 and f64); padding stays. `memory` holds the parameters at their offsets.
// Errors: INVALID_ARGUMENT - a view outside the memory; nothing is changed.
absl::Status FlipSigns(const RankLayout& layout, std::byte* memory,
                       int64_t memory_bytes);

}  // namespace sluice::quickstart

#endif  // SLUICE_TOOLS_QUICKSTART_SIGN_FLIP_H_
