#ifndef SLUICE_PRESETS_LAYOUT_PRESETS_H_
#define SLUICE_PRESETS_LAYOUT_PRESETS_H_

// The presets of presets/layouts, inside the binary: a daemon or a tool finds
// them wherever it was installed. Resolve one with common/layout_json.h.

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sluice {

// Returns the JSON text of "huggingface", "megatron" or "vllm".
// Errors: NOT_FOUND - there is no such preset; lists those there are.
absl::StatusOr<absl::string_view> FindLayoutPreset(absl::string_view name);

// Returns the names in alphabetical order.
std::vector<std::string> LayoutPresetNames();

}  // namespace sluice

#endif  // SLUICE_PRESETS_LAYOUT_PRESETS_H_
