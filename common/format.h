#ifndef SLUICE_COMMON_FORMAT_H_
#define SLUICE_COMMON_FORMAT_H_

// Numbers for people: sizes, rates, durations, counts. Logs and JSON carry
// plain numbers instead.

#include <cstdint>
#include <string>

#include "absl/time/time.h"

namespace sluice {

// "0 B", "1023 B", "1.00 KiB", "12.3 MiB", "123 GiB": IEC units, three digits.
std::string HumanBytes(int64_t bytes);

// Bytes over time in decimal units, as networks are specified: "4.41 GB/s".
// "-" when no time passed.
std::string HumanRate(int64_t bytes, absl::Duration elapsed);

// "250 ns", "1.25 ms", "3.40 s", "2 m 05 s", "3 h 02 m"; "infinite".
std::string HumanDuration(absl::Duration duration);

// "1,234,567".
std::string HumanCount(int64_t count);

}  // namespace sluice

#endif  // SLUICE_COMMON_FORMAT_H_
