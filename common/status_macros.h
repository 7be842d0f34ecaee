#ifndef SLUICE_COMMON_STATUS_MACROS_H_
#define SLUICE_COMMON_STATUS_MACROS_H_

// Passing errors up: this Abseil has no status macros of its own.
//
//   SLUICE_RETURN_IF_ERROR(Open(path));
//   SLUICE_ASSIGN_OR_RETURN(const Box box, ParseBox(text));
//
// Annotate() says on the way up what was being done.

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace sluice {

// Returns `status` with "context: " before its message; code and payloads stay.
// OK stays OK.
inline absl::Status Annotate(const absl::Status& status,
                             absl::string_view context) {
  if (status.ok()) return status;
  absl::Status annotated(status.code(),
                         absl::StrCat(context, ": ", status.message()));
  status.ForEachPayload(
      [&annotated](absl::string_view url, const absl::Cord& payload) {
        annotated.SetPayload(url, payload);
      });
  return annotated;
}

namespace status_macros_internal {

inline absl::Status ToStatus(absl::Status status) { return status; }

template <typename T>
absl::Status ToStatus(const absl::StatusOr<T>& result) {
  return result.status();
}

}  // namespace status_macros_internal
}  // namespace sluice

// Returns from the enclosing function, which returns Status or StatusOr, when
// `expr` (Status or StatusOr) is not OK.
#define SLUICE_RETURN_IF_ERROR(expr)                            \
  do {                                                          \
    if (absl::Status sluice_status_ =                           \
            ::sluice::status_macros_internal::ToStatus((expr)); \
        !sluice_status_.ok()) {                                 \
      return sluice_status_;                                    \
    }                                                           \
  } while (false)

// Assigns the value of `expr` (StatusOr) to `lhs`, a variable or a declaration,
// or returns its error. Two statements: not for an unbraced `if`. A type with a
// comma in `lhs` goes into parentheses or an alias.
#define SLUICE_ASSIGN_OR_RETURN(lhs, ...) \
  SLUICE_ASSIGN_OR_RETURN_IMPL_(          \
      SLUICE_STATUS_CONCAT_(sluice_result_, __LINE__), lhs, __VA_ARGS__)

#define SLUICE_ASSIGN_OR_RETURN_IMPL_(result, lhs, ...) \
  auto result = (__VA_ARGS__);                          \
  if (!result.ok()) return std::move(result).status();  \
  lhs = *std::move(result)

#define SLUICE_STATUS_CONCAT_(a, b) SLUICE_STATUS_CONCAT_IMPL_(a, b)
#define SLUICE_STATUS_CONCAT_IMPL_(a, b) a##b

#endif  // SLUICE_COMMON_STATUS_MACROS_H_
