#include "common/convert_limits.h"

#include <algorithm>
#include <limits>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace sluice {
namespace {

constexpr size_t kShownBytes = 64;

std::string Shown(absl::string_view value) {
  const bool cut = value.size() > kShownBytes;
  return absl::StrCat("\"", absl::CHexEscape(value.substr(0, kShownBytes)),
                      cut ? "...\"" : "\"");
}

// Returns the length of the UTF-8 character that `text` begins with; 0 if it
// begins with none.
size_t Utf8Length(absl::string_view text) {
  const auto byte = [&text](size_t i) {
    return static_cast<unsigned char>(text[i]);
  };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xF0   ? 4
                        : lead >= 0xE0 ? 3
                        : lead >= 0xC2 ? 2
                                       : 0;
  if (length == 0 || lead > 0xF4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  // Overlong forms, surrogates, beyond the last code point.
  if ((lead == 0xE0 && byte(1) < 0xA0) || (lead == 0xED && byte(1) > 0x9F) ||
      (lead == 0xF0 && byte(1) < 0x90) || (lead == 0xF4 && byte(1) > 0x8F)) {
    return 0;
  }
  return length;
}

}  // namespace

absl::Status CheckName(absl::string_view field, absl::string_view value,
                       int64_t max_bytes) {
  if (value.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ": expected a name, found none"));
  }
  return CheckText(field, value, max_bytes);
}

absl::Status CheckText(absl::string_view field, absl::string_view value,
                       int64_t max_bytes) {
  if (static_cast<int64_t>(value.size()) > max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ": expected at most ", max_bytes, " bytes, found ",
                     value.size(), ": ", Shown(value)));
  }
  const bool control =
      std::any_of(value.begin(), value.end(),
                  [](unsigned char c) { return c < 0x20 || c == 0x7F; });
  if (control) {
    return absl::InvalidArgumentError(absl::StrCat(
        field, ": expected no control character, found ", Shown(value)));
  }
  return absl::OkStatus();
}

absl::Status CheckCount(absl::string_view field, int64_t count, int64_t max) {
  if (count <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": expected at most ", max, ", found ", count));
}

absl::Status CheckRange(absl::string_view field, int64_t value, int64_t min,
                        int64_t max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": expected ", min, " to ", max, ", found ", value));
}

absl::Status CheckNotNegative(absl::string_view field, int64_t value) {
  if (value >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": expected 0 or more, found ", value));
}

std::string SafeText(absl::string_view text, int64_t max_bytes) {
  constexpr absl::string_view kCut = "...";
  std::string out;
  const auto max = static_cast<size_t>(max_bytes);
  out.reserve(std::min(text.size(), max));
  while (!text.empty()) {
    const size_t length = Utf8Length(text);
    const size_t taken = std::max<size_t>(length, 1);
    if (out.size() + taken > max) {
      // Room for the mark, without cutting a character in two.
      while (!out.empty() &&
             (out.size() + kCut.size() > max ||
              (static_cast<unsigned char>(out.back()) & 0xC0) == 0x80)) {
        out.pop_back();
      }
      if (!out.empty() && static_cast<unsigned char>(out.back()) >= 0xC0) {
        out.pop_back();
      }
      return out.append(kCut.data(), kCut.size());
    }
    if (length == 0) {
      out.push_back('?');
    } else {
      out.append(text.data(), length);
    }
    text.remove_prefix(taken);
  }
  return out;
}

}  // namespace sluice
