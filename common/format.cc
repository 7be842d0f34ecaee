#include "common/format.h"

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"

namespace sluice {
namespace {

// Three significant digits for 0 <= value; more where the integer part has
// more.
std::string ThreeDigits(double value) {
  // 9.995 already prints as 10.0: choose by the rounded value.
  if (value < 9.995) return absl::StrFormat("%.2f", value);
  if (value < 99.95) return absl::StrFormat("%.1f", value);
  return absl::StrFormat("%.0f", value);
}

// Scales `value` by `base` until it prints below it, and adds the unit.
template <size_t N>
std::string Scaled(double value, double base,
                   const std::array<const char*, N>& units) {
  size_t unit = 0;
  while (unit + 1 < N && std::round(value) >= base) {
    value /= base;
    ++unit;
  }
  return absl::StrCat(ThreeDigits(value), " ", units[unit]);
}

}  // namespace

std::string HumanBytes(int64_t bytes) {
  if (bytes < 0) {
    // Negating the smallest integer would overflow; as a double it is exact.
    return absl::StrCat(
        "-", bytes > -1024 ? absl::StrCat(-bytes, " B")
                           : Scaled(-static_cast<double>(bytes) / 1024, 1024,
                                    std::array{"KiB", "MiB", "GiB", "TiB",
                                               "PiB", "EiB"}));
  }
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  return Scaled(static_cast<double>(bytes) / 1024, 1024,
                std::array{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"});
}

std::string HumanRate(int64_t bytes, absl::Duration elapsed) {
  const double seconds = absl::ToDoubleSeconds(elapsed);
  if (!(seconds > 0)) return "-";
  return Scaled(static_cast<double>(bytes) / seconds, 1000,
                std::array{"B/s", "kB/s", "MB/s", "GB/s", "TB/s"});
}

std::string HumanDuration(absl::Duration duration) {
  if (duration < absl::ZeroDuration()) {
    return absl::StrCat("-", HumanDuration(-duration));
  }
  if (duration == absl::InfiniteDuration()) return "infinite";
  if (duration < absl::Microseconds(1)) {
    return absl::StrCat(absl::ToInt64Nanoseconds(duration), " ns");
  }
  if (duration < absl::Seconds(1)) {
    return Scaled(absl::ToDoubleMicroseconds(duration), 1000,
                  std::array{"us", "ms", "s"});
  }
  if (duration < absl::Seconds(60)) {
    return absl::StrCat(ThreeDigits(absl::ToDoubleSeconds(duration)), " s");
  }
  const int64_t seconds = absl::ToInt64Seconds(duration);
  if (seconds < 3600) {
    return absl::StrFormat("%d m %02d s", seconds / 60, seconds % 60);
  }
  return absl::StrFormat("%d h %02d m", seconds / 3600, seconds / 60 % 60);
}

std::string HumanCount(int64_t count) {
  std::string text = absl::StrCat(count);
  const size_t first = count < 0 ? 1 : 0;
  for (size_t i = text.size(); i > first + 3;) {
    i -= 3;
    text.insert(i, ",");
  }
  return text;
}

}  // namespace sluice
