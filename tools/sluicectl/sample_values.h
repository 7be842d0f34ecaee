#ifndef SLUICE_TOOLS_SLUICECTL_SAMPLE_VALUES_H_
#define SLUICE_TOOLS_SLUICECTL_SAMPLE_VALUES_H_

// Sample tensors as users write them: numbers or raw files.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/sluice/v1/tensor.pb.h"

namespace sluice::ctl {

// A tensor and its bytes, little-endian.
struct OwnedSample {
  v1::SampleEntry entry;
  std::vector<std::byte> bytes;
};

// Bytes of `values` as elements of `dtype`; BF16 rounds to nearest even.
// Errors: INVALID_ARGUMENT - a value out of the type's range, a type that
// cannot be written as numbers (F16, F8: use a file).
absl::StatusOr<std::vector<std::byte>> EncodeValues(
    v1::DType dtype, const std::vector<double>& values);

// The first `most` values of a tensor, for people: "1, 2.5, ...".
std::string PrintValues(v1::DType dtype, const std::byte* data, int64_t bytes,
                        int64_t most);

// Number of bytes an entry says it has. Errors: INVALID_ARGUMENT - as the wire
// check of entries.
absl::StatusOr<int64_t> EntryBytes(const v1::SampleEntry& entry);

// Reads a whole file. Errors: NOT_FOUND.
absl::StatusOr<std::vector<std::byte>> ReadBytes(const std::string& path);

// Parses
//   [{"sample": "a", "key": "rewards", "dtype": "float32", "lengths": [2],
//     "row": [], "values": [0.5, 1]}, {..., "file": "prompts.bin"}]
// where "row" (shape of one row) may be left out, and files are relative to
// `folder`. Errors: INVALID_ARGUMENT - names the entry and member; NOT_FOUND.
absl::StatusOr<std::vector<OwnedSample>> ParseSamples(
    const std::string& text, const std::string& folder);

}  // namespace sluice::ctl

#endif  // SLUICE_TOOLS_SLUICECTL_SAMPLE_VALUES_H_
