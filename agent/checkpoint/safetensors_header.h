#ifndef SLUICE_AGENT_CHECKPOINT_SAFETENSORS_HEADER_H_
#define SLUICE_AGENT_CHECKPOINT_SAFETENSORS_HEADER_H_

// The JSON header of a safetensors file. It comes from anywhere, so nothing in
// it is believed: what this returns is safe to index memory with.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/box.h"
#include "common/dtype.h"
#include "common/model.h"

namespace sluice::agent {

struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::kUnspecified;
  Shape shape;
  // In the data section, which begins after the header.
  int64_t offset = 0;
  int64_t num_bytes = 0;

  friend bool operator==(const SafetensorsEntry&,
                         const SafetensorsEntry&) = default;
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // by offset, then name
  std::map<std::string, std::string> metadata;
};

struct SafetensorsLimits {
  int64_t max_header_bytes = 100'000'000;
  int64_t max_entries = 1'000'000;
  int64_t max_name_bytes = 1024;
  int64_t max_dims = 32;
};

// Parses and checks a header. `data_bytes` is the size of the data section.
// Bytes that belong to no tensor are allowed.
// Errors: INVALID_ARGUMENT - not JSON or not of this form; a duplicate,
// missing or unknown key; an unknown dtype; a size that overflows or differs
// from shape times dtype; a range that is reversed, outside of the data or
// shared with another tensor; a limit exceeded. Names the tensor.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(
    absl::string_view json, int64_t data_bytes,
    const SafetensorsLimits& limits = {});

// Returns the header (JSON, padded with blanks so that the data section is
// aligned to 64 bytes) of a file that holds `tensors` one after the other.
// Sizes must not overflow (ModelSpec::Validate).
std::string PrintSafetensorsHeader(
    const std::vector<TensorSpec>& tensors,
    const std::map<std::string, std::string>& metadata);

// Bytes before the header: its length, little-endian.
inline constexpr int64_t kSafetensorsLengthBytes = 8;

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CHECKPOINT_SAFETENSORS_HEADER_H_
