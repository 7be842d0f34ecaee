#ifndef SLUICE_COMMON_RETRY_H_
#define SLUICE_COMMON_RETRY_H_

// Which failures go away by themselves: a coordinator that is not there, is
// ending, or waits for agents after its start. A client tries such a call
// again; everything else a server said is final.

#include "absl/status/status.h"
#include "absl/strings/cord.h"

namespace sluice {

inline constexpr char kRetryPayload[] = "sluice/retry";

// Marks a status as one to try again. An OK status stays as it is.
inline absl::Status Retryable(absl::Status status) {
  status.SetPayload(kRetryPayload, absl::Cord("1"));
  return status;
}

inline bool IsRetryable(const absl::Status& status) {
  return status.GetPayload(kRetryPayload).has_value();
}

}  // namespace sluice

#endif  // SLUICE_COMMON_RETRY_H_
