#include "common/format.h"

#include <catch2/catch.hpp>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>

#include "absl/time/time.h"

namespace sluice {
namespace {

TEST_CASE("bytes are written with IEC units and three digits", "[common]") {
  const auto [bytes, text] = GENERATE(table<int64_t, std::string>({
      {0, "0 B"},
      {1023, "1023 B"},
      {1024, "1.00 KiB"},
      {10 * 1024, "10.0 KiB"},
      {(int64_t{1} << 20) - 1, "1.00 MiB"},  // 1023.999 KiB rounds to 1024
      {int64_t{1536} << 20, "1.50 GiB"},
      {int64_t{300} << 30, "300 GiB"},
      {std::numeric_limits<int64_t>::max(), "8.00 EiB"},
      {-1, "-1 B"},
      {-2048, "-2.00 KiB"},
      {std::numeric_limits<int64_t>::min(), "-8.00 EiB"},
  }));
  CAPTURE(bytes);
  CHECK(HumanBytes(bytes) == text);
}

TEST_CASE("rates have decimal units", "[common]") {
  CHECK(HumanRate(4'410'000'000, absl::Seconds(1)) == "4.41 GB/s");
  CHECK(HumanRate(500, absl::Seconds(1)) == "500 B/s");
  CHECK(HumanRate(1000, absl::Milliseconds(500)) == "2.00 kB/s");
  CHECK(HumanRate(1, absl::ZeroDuration()) == "-");
  CHECK(HumanRate(5, absl::InfiniteDuration()) == "0.00 B/s");
}

TEST_CASE("durations choose their unit", "[common]") {
  const auto [duration, text] = GENERATE(table<absl::Duration, std::string>({
      {absl::ZeroDuration(), "0 ns"},
      {absl::Nanoseconds(250), "250 ns"},
      {absl::Microseconds(3), "3.00 us"},
      {absl::Microseconds(1250), "1.25 ms"},
      {absl::Microseconds(999'999), "1.00 s"},  // 999.999 ms rounds up
      {absl::Milliseconds(3400), "3.40 s"},
      {absl::Seconds(125), "2 m 05 s"},
      {absl::Seconds(3 * 3600 + 125), "3 h 02 m"},
      {absl::InfiniteDuration(), "infinite"},
      {-absl::InfiniteDuration(), "-infinite"},
      {-absl::Seconds(2), "-2.00 s"},
  }));
  CAPTURE(text);
  CHECK(HumanDuration(duration) == text);
}

TEST_CASE("counts are grouped by thousands", "[common]") {
  CHECK(HumanCount(0) == "0");
  CHECK(HumanCount(999) == "999");
  CHECK(HumanCount(1000) == "1,000");
  CHECK(HumanCount(1'234'567) == "1,234,567");
  CHECK(HumanCount(-999) == "-999");
  CHECK(HumanCount(-1000) == "-1,000");
}

}  // namespace
}  // namespace sluice
