#ifndef SLUICE_PRESETS_MODEL_PRESETS_H_
#define SLUICE_PRESETS_MODEL_PRESETS_H_

// Descriptions of published models: what tensors their checkpoints have. The
// files of presets/models are inside the binary. docs/layouts.md describes the
// format.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/model.h"

namespace sluice {

struct ModelPreset {
  ModelSpec model;
  // The model's configuration, for ResolvePreset of a layout.
  std::map<std::string, int64_t> variables;
};

// Makes a model of a description; `overrides` replaces variables by name (such
// as fewer layers).
// Errors: INVALID_ARGUMENT - not JSON, a key that is unknown or missing, an
// expression with an unknown variable, a number out of range, an override that
// is no variable of the description, more than 2^20 tensors.
absl::StatusOr<ModelPreset> ParseModelPreset(
    absl::string_view text,
    const std::map<std::string, int64_t>& overrides = {});

// Returns the preset of that name, such as "deepseek-v3".
// Errors: NOT_FOUND - there is none; lists those there are. As above.
absl::StatusOr<ModelPreset> FindModelPreset(
    absl::string_view name,
    const std::map<std::string, int64_t>& overrides = {});

// Returns the names in alphabetical order.
std::vector<std::string> ModelPresetNames();

}  // namespace sluice

#endif  // SLUICE_PRESETS_MODEL_PRESETS_H_
