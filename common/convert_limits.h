#ifndef SLUICE_COMMON_CONVERT_LIMITS_H_
#define SLUICE_COMMON_CONVERT_LIMITS_H_

// What the wire may ask for: named limits, and the checks that enforce them.
// Used by the convert_* libraries and by services for fields of their own.
//
// Every check returns INVALID_ARGUMENT naming the field, what was expected and
// what was found.

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace sluice {

// Names.
inline constexpr int64_t kMaxAgentNameBytes = 128;
inline constexpr int64_t kMaxNodeNameBytes = 128;
inline constexpr int64_t kMaxWorkerNameBytes = 128;
inline constexpr int64_t kMaxReduceGroupNameBytes = 128;
inline constexpr int64_t kMaxModelNameBytes = 256;
inline constexpr int64_t kMaxPlacementNameBytes = 128;
inline constexpr int64_t kMaxTensorNameBytes = 512;
inline constexpr int64_t kMaxAxisNameBytes = 64;
inline constexpr int64_t kMaxSampleIdBytes = 256;
inline constexpr int64_t kMaxKeyBytes = 128;
inline constexpr int64_t kMaxRequestIdBytes = 128;
inline constexpr int64_t kMaxClusterIdBytes = 128;
inline constexpr int64_t kMaxAddressBytes = 512;
inline constexpr int64_t kMaxNetworkAddressBytes = 4096;
inline constexpr int64_t kMaxPathBytes = 4096;
inline constexpr int64_t kMaxOutcomeMessageBytes = 8192;

// Geometry.
inline constexpr int64_t kMaxDims = 16;
inline constexpr int64_t kMaxAxes = 16;
inline constexpr int64_t kMaxMeshSize = 65536;
inline constexpr int64_t kMaxTensors = int64_t{1} << 20;
inline constexpr int64_t kMaxParams = int64_t{1} << 20;
inline constexpr int64_t kMaxViews = int64_t{1} << 22;
inline constexpr int64_t kMaxRules = 4096;
inline constexpr int64_t kMaxStages = 65536;

// Plans, samples, inventories.
inline constexpr int64_t kMaxTransfers = int64_t{1} << 22;
inline constexpr int64_t kMaxSampleIds = 65536;
inline constexpr int64_t kMaxSampleEntries = int64_t{1} << 20;
inline constexpr int64_t kMaxSequences = int64_t{1} << 20;
inline constexpr int64_t kMaxCopies = 8;
inline constexpr int64_t kMaxPlacements = 65536;
inline constexpr int64_t kMaxPeers = 65536;
// In one heartbeat.
inline constexpr int64_t kMaxReduceGroupReports = 512;
inline constexpr int64_t kMaxCommunicatorReports = 32;
inline constexpr int64_t kMaxCommunicatorErrorBytes = 512;
inline constexpr int64_t kMaxDestinations = 1024;

// No message of a control RPC is larger, in either direction.
inline constexpr int64_t kMaxControlMessageBytes = int64_t{16} << 20;

// A name: not empty, at most `max_bytes`, no control character.
absl::Status CheckName(absl::string_view field, absl::string_view value,
                       int64_t max_bytes);
// Text that may be empty: at most `max_bytes`, no control character.
absl::Status CheckText(absl::string_view field, absl::string_view value,
                       int64_t max_bytes);
// A number of things: at most `max`.
absl::Status CheckCount(absl::string_view field, int64_t count, int64_t max);
// min <= value <= max.
absl::Status CheckRange(absl::string_view field, int64_t value, int64_t min,
                        int64_t max);
absl::Status CheckNotNegative(absl::string_view field, int64_t value);

// Returns `text` as valid UTF-8 of at most `max_bytes`: what is no UTF-8
// becomes '?', what is too long ends with "...". A proto3 string that is not
// UTF-8 would make the whole message unreadable.
std::string SafeText(absl::string_view text, int64_t max_bytes);

}  // namespace sluice

#endif  // SLUICE_COMMON_CONVERT_LIMITS_H_
