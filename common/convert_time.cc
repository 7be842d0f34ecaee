#include "common/convert_time.h"

#include <algorithm>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace sluice {
namespace {

constexpr int32_t kNanosPerSecond = 1000000000;
// 9999-12-31T23:59:59Z, the last second of google.protobuf.Timestamp.
constexpr int64_t kLastSecond = 253402300799;
constexpr int64_t kFirstSecond = -62135596800;

}  // namespace

google::protobuf::Duration ToProto(absl::Duration duration) {
  duration = std::clamp(duration, -kMaxWireDuration, kMaxWireDuration);
  google::protobuf::Duration proto;
  absl::Duration rest;
  proto.set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &rest));
  proto.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
  return proto;
}

google::protobuf::Timestamp ToProto(absl::Time time) {
  time = std::clamp(time, absl::FromUnixSeconds(kFirstSecond),
                    absl::FromUnixSeconds(kLastSecond));
  google::protobuf::Timestamp proto;
  proto.set_seconds(absl::ToUnixSeconds(time));
  proto.set_nanos(static_cast<int32_t>(
      absl::ToInt64Nanoseconds(time - absl::FromUnixSeconds(proto.seconds()))));
  return proto;
}

absl::StatusOr<absl::Duration> DurationFromProto(
    absl::string_view field, const google::protobuf::Duration& proto) {
  const bool malformed = proto.nanos() < 0 || proto.nanos() >= kNanosPerSecond;
  // Seconds first: beyond the range the sum could be infinite.
  const int64_t max_seconds = absl::ToInt64Seconds(kMaxWireDuration);
  if (malformed || proto.seconds() < 0 || proto.seconds() > max_seconds ||
      (proto.seconds() == max_seconds && proto.nanos() > 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ": expected 0 to ", max_seconds, " seconds, found ",
                     proto.seconds(), " s and ", proto.nanos(), " ns"));
  }
  return absl::Seconds(proto.seconds()) + absl::Nanoseconds(proto.nanos());
}

absl::StatusOr<absl::Time> TimeFromProto(
    absl::string_view field, const google::protobuf::Timestamp& proto) {
  if (proto.nanos() < 0 || proto.nanos() >= kNanosPerSecond ||
      proto.seconds() < kFirstSecond || proto.seconds() > kLastSecond) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ": expected a time of years 1 to 9999, found ",
                     proto.seconds(), " s and ", proto.nanos(), " ns"));
  }
  return absl::FromUnixSeconds(proto.seconds()) +
         absl::Nanoseconds(proto.nanos());
}

}  // namespace sluice
