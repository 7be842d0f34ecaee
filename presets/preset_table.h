#ifndef SLUICE_PRESETS_PRESET_TABLE_H_
#define SLUICE_PRESETS_PRESET_TABLE_H_

// The files of a folder of presets, as the build embeds them.

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace sluice::preset_internal {

// A file's name without ".json", and its text.
struct Preset {
  const char* name;
  const char* text;
};

inline std::vector<std::string> Names(absl::Span<const Preset> presets) {
  std::vector<std::string> names;
  for (const Preset& preset : presets) names.emplace_back(preset.name);
  return names;
}

// Errors: NOT_FOUND - no such name; `what` says what was looked for, the error
// lists the names there are.
inline absl::StatusOr<absl::string_view> FindText(
    absl::Span<const Preset> presets, absl::string_view what,
    absl::string_view name) {
  for (const Preset& preset : presets) {
    if (name == preset.name) return preset.text;
  }
  return absl::NotFoundError(absl::StrCat(what, " \"", name,
                                          "\": expected one of ",
                                          absl::StrJoin(Names(presets), ", ")));
}

}  // namespace sluice::preset_internal

#endif  // SLUICE_PRESETS_PRESET_TABLE_H_
