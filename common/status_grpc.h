#ifndef SLUICE_COMMON_STATUS_GRPC_H_
#define SLUICE_COMMON_STATUS_GRPC_H_

// absl::Status <-> grpc::Status: the codes are the same, the numbers too.

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace sluice {

// The longest message that travels. A status is sent in HTTP/2 trailers of 8
// KiB by default, where a byte may take three; beyond that the RPC itself
// breaks.
inline constexpr int kMaxStatusMessageBytes = 2048;

// Code and message; a longer message is cut and ends with "...". The details
// are a google.rpc.Status of the code alone, unless the status is retryable
// (common/retry.h): a status without details is one to try again, as those are
// that the transport itself makes.
grpc::Status ToGrpcStatus(const absl::Status& status);

// Code and message. A code that this build does not know becomes UNKNOWN. An
// UNAVAILABLE without details is retryable.
absl::Status FromGrpcStatus(const grpc::Status& status);

}  // namespace sluice

#endif  // SLUICE_COMMON_STATUS_GRPC_H_
