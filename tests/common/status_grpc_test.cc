#include "common/status_grpc.h"

#include <grpcpp/support/status.h>

#include <catch2/catch.hpp>
#include <string>

#include "absl/status/status.h"
#include "common/retry.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::sluice::testing::StatusIs;

TEST_CASE("every code and message makes the round trip", "[common]") {
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "agent-3");
    const grpc::Status wire = ToGrpcStatus(status);
    CHECK(static_cast<int>(wire.error_code()) == code);
    CHECK(FromGrpcStatus(wire) == status);
  }
  CHECK(ToGrpcStatus(absl::OkStatus()).ok());
  CHECK_OK(FromGrpcStatus(grpc::Status::OK));
}

TEST_CASE("an unknown code becomes UNKNOWN", "[common]") {
  CHECK_THAT(FromGrpcStatus(grpc::Status(static_cast<grpc::StatusCode>(30),
                                         "from the future")),
             StatusIs(absl::StatusCode::kUnknown, "from the future"));
}

TEST_CASE("only what may be tried again comes without details", "[common]") {
  const absl::Status final = absl::UnavailableError("agent-3 was lost");
  CHECK_FALSE(IsRetryable(FromGrpcStatus(ToGrpcStatus(final))));
  CHECK(IsRetryable(FromGrpcStatus(ToGrpcStatus(Retryable(final)))));
  // As the transport makes it.
  CHECK(IsRetryable(FromGrpcStatus(
      grpc::Status(grpc::StatusCode::UNAVAILABLE, "Socket closed"))));
  CHECK_FALSE(IsRetryable(FromGrpcStatus(
      grpc::Status(grpc::StatusCode::NOT_FOUND, "no such thing"))));
}

TEST_CASE("a message too long for the trailers is cut at a character",
          "[common]") {
  // Two-byte characters: one of the two lengths would be cut in the middle.
  for (const std::string& first : {std::string(), std::string("x")}) {
    std::string text = first;
    while (text.size() < 3 * kMaxStatusMessageBytes) text += "\xC3\xA9";
    const std::string cut =
        ToGrpcStatus(absl::InternalError(text)).error_message();
    REQUIRE(cut.size() <= kMaxStatusMessageBytes);
    REQUIRE(cut.size() > kMaxStatusMessageBytes - 8);
    const std::string kept = cut.substr(0, cut.size() - 3);
    CHECK(cut.substr(cut.size() - 3) == "...");
    CHECK(text.compare(0, kept.size(), kept) == 0);
    CHECK((kept.size() - first.size()) % 2 == 0);
  }
  const std::string whole(kMaxStatusMessageBytes, 'a');
  CHECK(ToGrpcStatus(absl::InternalError(whole)).error_message() == whole);
}

}  // namespace
}  // namespace sluice
