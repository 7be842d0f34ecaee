#include "presets/layout_presets.h"

#include "presets/preset_table.h"

namespace sluice {
namespace {

using preset_internal::Preset;

// Made from presets/layouts/*.json by the build, in alphabetical order.
constexpr Preset kPresets[] = {
#include "presets/layout_presets.inc"
};

}  // namespace

absl::StatusOr<absl::string_view> FindLayoutPreset(absl::string_view name) {
  return preset_internal::FindText(kPresets, "layout preset", name);
}

std::vector<std::string> LayoutPresetNames() {
  return preset_internal::Names(kPresets);
}

}  // namespace sluice
