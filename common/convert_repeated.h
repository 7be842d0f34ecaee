#ifndef SLUICE_COMMON_CONVERT_REPEATED_H_
#define SLUICE_COMMON_CONVERT_REPEATED_H_

// Repeated fields, for the convert_* libraries. ToProto of an element is found
// by its type; FromProto is not (generated types live in sluice::v1, where no
// overload is), so it is passed in.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/convert_limits.h"
#include "common/status_macros.h"

namespace sluice {

// Appends ToProto(value) of each.
template <typename T, typename Repeated>
void AppendProtos(const std::vector<T>& values, Repeated& repeated) {
  repeated.Reserve(static_cast<int>(values.size()));
  for (const T& value : values) *repeated.Add() = ToProto(value);
}

// Appends parse(element) of each to `values`. Errors: INVALID_ARGUMENT - more
// than `max` of them, or one is bad: "field[index]: ...".
template <typename Repeated, typename T, typename Parse>
absl::Status ParseRepeated(absl::string_view field, const Repeated& repeated,
                           int64_t max, Parse parse, std::vector<T>& values) {
  SLUICE_RETURN_IF_ERROR(CheckCount(field, repeated.size(), max));
  values.reserve(static_cast<size_t>(repeated.size()));
  for (int i = 0; i < repeated.size(); ++i) {
    auto value = parse(repeated.Get(i));
    if (!value.ok()) {
      return Annotate(value.status(), absl::StrCat(field, "[", i, "]"));
    }
    values.push_back(*std::move(value));
  }
  return absl::OkStatus();
}

// Appends texts of at most `max_bytes` each that may not be empty. Errors: as
// ParseRepeated.
template <typename Repeated>
absl::Status ParseNames(absl::string_view field, const Repeated& repeated,
                        int64_t max, int64_t max_bytes,
                        std::vector<std::string>& values) {
  SLUICE_RETURN_IF_ERROR(CheckCount(field, repeated.size(), max));
  values.reserve(static_cast<size_t>(repeated.size()));
  for (int i = 0; i < repeated.size(); ++i) {
    SLUICE_RETURN_IF_ERROR(CheckName(absl::StrCat(field, "[", i, "]"),
                                     repeated.Get(i), max_bytes));
    values.push_back(repeated.Get(i));
  }
  return absl::OkStatus();
}

}  // namespace sluice

#endif  // SLUICE_COMMON_CONVERT_REPEATED_H_
