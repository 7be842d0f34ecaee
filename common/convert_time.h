#ifndef SLUICE_COMMON_CONVERT_TIME_H_
#define SLUICE_COMMON_CONVERT_TIME_H_

// Times and durations on the wire.

#include <google/protobuf/duration.pb.h>
#include <google/protobuf/timestamp.pb.h>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace sluice {

// The longest duration that the wire may carry; a longer (or infinite) one is
// sent as this.
inline constexpr absl::Duration kMaxWireDuration = absl::Hours(24 * 365);

google::protobuf::Duration ToProto(absl::Duration duration);
google::protobuf::Timestamp ToProto(absl::Time time);

// Errors: INVALID_ARGUMENT - negative, longer than kMaxWireDuration or
// malformed; names `field`.
absl::StatusOr<absl::Duration> DurationFromProto(
    absl::string_view field, const google::protobuf::Duration& proto);
// Errors: INVALID_ARGUMENT - malformed; names `field`.
absl::StatusOr<absl::Time> TimeFromProto(
    absl::string_view field, const google::protobuf::Timestamp& proto);

}  // namespace sluice

#endif  // SLUICE_COMMON_CONVERT_TIME_H_
