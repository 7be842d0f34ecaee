#ifndef SLUICE_TESTS_SUPPORT_STATUS_MATCHERS_H_
#define SLUICE_TESTS_SUPPORT_STATUS_MATCHERS_H_

// Catch2 matchers and macros for absl::Status and absl::StatusOr.
//
//   CHECK_THAT(core.Drop(id), IsOk());
//   CHECK_THAT(ParseBox("["), StatusIs(absl::StatusCode::kInvalidArgument));
//   REQUIRE_OK_AND_ASSIGN(const Box box, ParseBox("[0,4)"));
//
// Name no more of a message than an id: StatusIs(code, "agent-3").

#include <catch2/catch.hpp>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace sluice::testing {

inline const absl::Status& StatusOf(const absl::Status& status) {
  return status;
}
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

class IsOk {
 public:
  template <typename T>
  bool match(const T& result) const {
    return result.ok();
  }
  std::string toString() const { return "is OK"; }
};

class StatusIs {
 public:
  explicit StatusIs(absl::StatusCode code, absl::string_view substring = "")
      : code_(code), substring_(substring) {}

  template <typename T>
  bool match(const T& result) const {
    const absl::Status& status = StatusOf(result);
    return status.code() == code_ &&
           absl::StrContains(status.message(), substring_);
  }

  std::string toString() const {
    return absl::StrCat("is ", absl::StatusCodeToString(code_),
                        substring_.empty() ? "" : " with ", substring_);
  }

 private:
  absl::StatusCode code_;
  std::string substring_;
};

}  // namespace sluice::testing

namespace Catch {

template <>
struct StringMaker<absl::Status> {
  static std::string convert(const absl::Status& status) {
    return status.ToString();
  }
};

template <typename T>
struct StringMaker<absl::StatusOr<T>> {
  static std::string convert(const absl::StatusOr<T>& result) {
    return result.ok() ? "OK with a value" : result.status().ToString();
  }
};

}  // namespace Catch

#define CHECK_OK(expr) CHECK_THAT((expr), ::sluice::testing::IsOk())
#define REQUIRE_OK(expr) REQUIRE_THAT((expr), ::sluice::testing::IsOk())

// Ends the test case when `expr`, a StatusOr, is an error; else assigns.
#define REQUIRE_OK_AND_ASSIGN(lhs, ...)                                      \
  SLUICE_REQUIRE_OK_IMPL_(SLUICE_MATCHERS_CONCAT_(sluice_result_, __LINE__), \
                          lhs, __VA_ARGS__)
#define SLUICE_REQUIRE_OK_IMPL_(result, lhs, ...)  \
  auto result = (__VA_ARGS__);                     \
  REQUIRE_THAT(result, ::sluice::testing::IsOk()); \
  lhs = *std::move(result)
#define SLUICE_MATCHERS_CONCAT_(a, b) SLUICE_MATCHERS_CONCAT_IMPL_(a, b)
#define SLUICE_MATCHERS_CONCAT_IMPL_(a, b) a##b

#endif  // SLUICE_TESTS_SUPPORT_STATUS_MATCHERS_H_
