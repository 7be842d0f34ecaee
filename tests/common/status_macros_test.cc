#include "common/status_macros.h"

#include <catch2/catch.hpp>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::sluice::testing::StatusIs;

absl::StatusOr<int> Half(int value) {
  if (value % 2 != 0) return absl::InvalidArgumentError("odd");
  return value / 2;
}

absl::StatusOr<int> Quarter(int value) {
  SLUICE_ASSIGN_OR_RETURN(const int half, Half(value));
  SLUICE_ASSIGN_OR_RETURN(int quarter, Half(half));
  return quarter;
}

absl::Status CheckEven(int value, int* reached) {
  SLUICE_RETURN_IF_ERROR(Half(value));
  ++*reached;
  SLUICE_RETURN_IF_ERROR(absl::OkStatus());
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<int>> MoveOnly() {
  SLUICE_ASSIGN_OR_RETURN(
      std::unique_ptr<int> value,
      absl::StatusOr<std::unique_ptr<int>>(std::make_unique<int>(3)));
  return value;
}

TEST_CASE("assigns the value or returns the first error", "[common]") {
  REQUIRE_OK_AND_ASSIGN(const int quarter, Quarter(12));
  CHECK(quarter == 3);
  CHECK_THAT(Quarter(3), StatusIs(absl::StatusCode::kInvalidArgument, "odd"));
  CHECK_THAT(Quarter(6), StatusIs(absl::StatusCode::kInvalidArgument, "odd"));
}

TEST_CASE("returns on error only", "[common]") {
  int reached = 0;
  CHECK_OK(CheckEven(2, &reached));
  CHECK(reached == 1);
  CHECK_THAT(CheckEven(1, &reached),
             StatusIs(absl::StatusCode::kInvalidArgument));
  CHECK(reached == 1);
}

TEST_CASE("values that only move are assigned", "[common]") {
  REQUIRE_OK_AND_ASSIGN(const std::unique_ptr<int> value, MoveOnly());
  CHECK(*value == 3);
}

TEST_CASE("Annotate adds context and keeps code and payloads", "[common]") {
  CHECK_OK(Annotate(absl::OkStatus(), "loading"));
  absl::Status status = absl::NotFoundError("tensor a");
  status.SetPayload("type", absl::Cord("payload"));
  const absl::Status annotated = Annotate(status, "loading");
  CHECK(annotated.message() == "loading: tensor a");
  CHECK(annotated.code() == absl::StatusCode::kNotFound);
  CHECK(annotated.GetPayload("type") == absl::Cord("payload"));
}

}  // namespace
}  // namespace sluice
