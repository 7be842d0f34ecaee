// Model descriptions: what parses is a valid model.

#include "absl/strings/string_view.h"
#include "common/check.h"
#include "presets/model_presets.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto preset = sluice::ParseModelPreset(text);
  if (!preset.ok()) return 0;
  SLUICE_CHECK_OK(preset->model.Validate());
  SLUICE_CHECK(preset->model.num_bytes() >= 0);
  return 0;
}
