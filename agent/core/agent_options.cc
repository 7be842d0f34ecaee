#include "agent/core/agent_options.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

absl::Status CheckAtLeast(absl::string_view field, int64_t value,
                          int64_t least) {
  if (value >= least) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": expected at least ", least, ", got ", value));
}

absl::Status CheckPositive(absl::string_view field, absl::Duration value) {
  if (value > absl::ZeroDuration()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      field, ": expected more than 0s, got ", absl::FormatDuration(value)));
}

}  // namespace

absl::Status AgentOptions::Validate() const {
  if (name.empty() || name.size() > 128) {
    return absl::InvalidArgumentError(
        absl::StrCat("name: expected 1 to 128 bytes, got ", name.size()));
  }
  if (incarnation == Incarnation()) {
    return absl::InvalidArgumentError("incarnation: expected not 0, got 0");
  }
  SLUICE_RETURN_IF_ERROR(CheckAtLeast("memory_bytes", memory_bytes, 0));
  SLUICE_RETURN_IF_ERROR(CheckAtLeast("staging_bytes", staging_bytes, 1));
  SLUICE_RETURN_IF_ERROR(
      CheckAtLeast("sample_segment_bytes", sample_segment_bytes, 64));
  SLUICE_RETURN_IF_ERROR(
      CheckAtLeast("max_entries_per_inventory", max_entries_per_inventory, 1));
  SLUICE_RETURN_IF_ERROR(CheckAtLeast("max_kept_parts", max_kept_parts, 1));
  SLUICE_RETURN_IF_ERROR(CheckPositive("default_deadline", default_deadline));
  SLUICE_RETURN_IF_ERROR(CheckPositive("ack_deadline", ack_deadline));
  return CheckPositive("load_wait", load_wait);
}

}  // namespace sluice::agent
