#include "coordinator/core/core_options.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/status_macros.h"

namespace sluice::coordinator {
namespace {

absl::Status CheckDuration(absl::string_view field, absl::Duration value,
                           absl::Duration least, absl::Duration most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      field, ": expected ", absl::FormatDuration(least), " to ",
      absl::FormatDuration(most), ", got ", absl::FormatDuration(value)));
}

absl::Status CheckCount(absl::string_view field, int64_t value, int64_t least,
                        int64_t most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": expected ", least, " to ", most, ", got ", value));
}

}  // namespace

absl::Status CoreOptions::Validate() const {
  SLUICE_RETURN_IF_ERROR(
      CheckDuration("lease", lease, absl::Seconds(1), absl::Seconds(300)));
  SLUICE_RETURN_IF_ERROR(CheckDuration("heartbeat_interval", heartbeat_interval,
                                       absl::Milliseconds(10), lease / 3));
  SLUICE_RETURN_IF_ERROR(CheckDuration("suspect_grace", suspect_grace,
                                       absl::ZeroDuration(), lease));
  SLUICE_RETURN_IF_ERROR(CheckDuration(
      "tick_interval", tick_interval, absl::Milliseconds(1), absl::Seconds(1)));
  SLUICE_RETURN_IF_ERROR(CheckDuration("stall_threshold", stall_threshold,
                                       2 * tick_interval, lease));
  SLUICE_RETURN_IF_ERROR(CheckDuration("outcome_retention", outcome_retention,
                                       absl::Seconds(1), absl::Hours(24 * 7)));
  SLUICE_RETURN_IF_ERROR(CheckDuration("command_timeout", command_timeout,
                                       absl::Milliseconds(100),
                                       absl::Seconds(300)));
  SLUICE_RETURN_IF_ERROR(CheckDuration("abort_timeout", abort_timeout,
                                       absl::ZeroDuration(),
                                       absl::Seconds(300)));
  SLUICE_RETURN_IF_ERROR(CheckDuration("confirm_timeout", confirm_timeout,
                                       absl::Milliseconds(100),
                                       absl::Seconds(300)));
  SLUICE_RETURN_IF_ERROR(CheckCount("max_agents", max_agents, 1, 65536));
  SLUICE_RETURN_IF_ERROR(
      CheckCount("max_kept_events", max_kept_events, 1, 1000000));
  return CheckCount("max_kept_operations", max_kept_operations, 0, 100000);
}

}  // namespace sluice::coordinator
