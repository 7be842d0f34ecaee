#include "common/status_grpc.h"

#include <grpcpp/support/status.h>

#include <string>

#include "absl/status/status.h"
#include "common/retry.h"

namespace sluice {

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  std::string message(status.message());
  if (message.size() > kMaxStatusMessageBytes) {
    message.resize(kMaxStatusMessageBytes - 3);
    // Not in the middle of a UTF-8 character: gRPC may refuse the message.
    while (!message.empty() &&
           (static_cast<unsigned char>(message.back()) & 0xC0) == 0x80) {
      message.pop_back();
    }
    if (!message.empty() &&
        static_cast<unsigned char>(message.back()) >= 0xC0) {
      message.pop_back();
    }
    message += "...";
  }
  // A google.rpc.Status whose field 1 (varint) is the code.
  const std::string details =
      IsRetryable(status)
          ? std::string()
          : std::string{'\x08', static_cast<char>(status.code())};
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), message,
                      details);
}

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  const int code = static_cast<int>(status.error_code());
  const bool known = code > 0 && code <= 16;
  absl::Status out(
      known ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown,
      status.error_message());
  if (out.code() == absl::StatusCode::kUnavailable &&
      status.error_details().empty()) {
    return Retryable(out);
  }
  return out;
}

}  // namespace sluice
