#ifndef SLUICE_COORDINATOR_SERVICES_REQUEST_H_
#define SLUICE_COORDINATOR_SERVICES_REQUEST_H_

// Fields that requests of several services have.

#include <google/protobuf/duration.pb.h>
#include <google/protobuf/message.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace sluice::coordinator {

// Hash of a request without its request_id, the same in every process: a retry
// is known by it, also after a restart.
uint64_t FingerprintOf(const google::protobuf::Message& request);

// Sets id and fingerprint. Errors: INVALID_ARGUMENT - the id is too long.
template <typename Proto, typename Request>
absl::Status ParseRequestId(const Proto& proto, Request& request);

// Sets `duration` if the field is set. Errors: INVALID_ARGUMENT - out of range.
absl::Status ParseOptionalDuration(absl::string_view field, bool is_set,
                                   const google::protobuf::Duration& proto,
                                   absl::Duration& duration);

// --- implementation ----------------------------------------------------------

absl::Status CheckRequestId(absl::string_view id);

template <typename Proto, typename Request>
absl::Status ParseRequestId(const Proto& proto, Request& request) {
  request.request_id = proto.request_id();
  if (!request.request_id.empty()) request.fingerprint = FingerprintOf(proto);
  return CheckRequestId(proto.request_id());
}

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_SERVICES_REQUEST_H_
