#include "presets/layout_presets.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace sluice {
namespace {

struct Preset {
  const char* name;
  const char* text;
};

// Made from presets/layouts/*.json by the build, in alphabetical order.
constexpr Preset kPresets[] = {
#include "presets/layout_presets.inc"
};

}  // namespace

absl::StatusOr<absl::string_view> FindLayoutPreset(absl::string_view name) {
  for (const Preset& preset : kPresets) {
    if (name == preset.name) return preset.text;
  }
  return absl::NotFoundError(
      absl::StrCat("layout preset \"", name, "\": expected one of ",
                   absl::StrJoin(LayoutPresetNames(), ", ")));
}

std::vector<std::string> LayoutPresetNames() {
  std::vector<std::string> names;
  for (const Preset& preset : kPresets) names.emplace_back(preset.name);
  return names;
}

}  // namespace sluice
