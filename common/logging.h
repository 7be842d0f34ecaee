#ifndef SLUICE_COMMON_LOGGING_H_
#define SLUICE_COMMON_LOGGING_H_

// Logs of the daemons and tools: one line per event, with fields.
//
//   LogInfo("agent registered", {{"agent", name}, {"rank", rank}});
//
// writes   2026-03-01T12:00:00.123Z I coordinator: agent registered agent=a
// rank=0 or, in JSON,   {"time":"...","level":"info","name":"coordinator",
//                 "event":"agent registered","agent":"a","rank":0}
//
// Pure code does not log; it returns facts that its host logs. Thread-safe.

#include <cstdint>
#include <initializer_list>
#include <sstream>
#include <string>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace sluice {

enum class LogLevel { kDebug, kInfo, kWarn, kError, kOff };
enum class LogFormat { kText, kJson };

struct LogOptions {
  // The process, in every line: "coordinator", "agent-3".
  std::string name = "sluice";
  // Lines below it are dropped.
  LogLevel level = LogLevel::kInfo;
  LogFormat format = LogFormat::kText;
  // Appended to; empty: stderr.
  std::string file;
};

// Replaces the log's destination and format. Before the first call, lines go to
// stderr as text from kInfo on.
// Errors: UNAVAILABLE - the file cannot be opened.
absl::Status InitLogging(const LogOptions& options);

// "debug", "info", "warn", "error" or "off". Errors: INVALID_ARGUMENT.
absl::StatusOr<LogLevel> ParseLogLevel(absl::string_view text);

// "text" or "json". Errors: INVALID_ARGUMENT.
absl::StatusOr<LogFormat> ParseLogFormat(absl::string_view text);

// A key and a value of any type that is a number, bool, string, absl::Duration
// or absl::Time, or has operator<<.
struct LogField {
  template <typename T>
  LogField(absl::string_view field_key, const T& value)  // NOLINT
      : key(field_key) {
    if constexpr (std::is_same_v<T, bool>) {
      text = value ? "true" : "false";
      quoted = false;
    } else if constexpr (std::is_integral_v<T>) {
      text = absl::StrCat(+value);
      quoted = false;
    } else if constexpr (std::is_floating_point_v<T>) {
      // JSON knows neither infinity nor NaN: those are quoted.
      text = absl::StrCat(value);
      quoted = !(value - value == 0);
    } else if constexpr (std::is_convertible_v<const T&, absl::string_view>) {
      text = std::string(absl::string_view(value));
    } else if constexpr (std::is_same_v<T, absl::Duration>) {
      text = absl::FormatDuration(value);
    } else if constexpr (std::is_same_v<T, absl::Time>) {
      text = absl::FormatTime(value, absl::UTCTimeZone());
    } else {
      std::ostringstream out;
      out << value;
      text = out.str();
    }
  }

  absl::string_view key;
  std::string text;
  bool quoted = true;  // A string in JSON, not a number or a bool.
};

using LogFields = std::initializer_list<LogField>;

// For steps that only matter when something is searched.
void LogDebug(absl::string_view event, LogFields fields = {});
// For state transitions, once per plan or operation.
void LogInfo(absl::string_view event, LogFields fields = {});
// Something failed and is handled or retried.
void LogWarn(absl::string_view event, LogFields fields = {});
// Something failed and was given up.
void LogError(absl::string_view event, LogFields fields = {});

// The line without its newline, for any sink; exposed for tests.
std::string FormatLogLine(LogFormat format, absl::Time time, LogLevel level,
                          absl::string_view name, absl::string_view event,
                          LogFields fields);

}  // namespace sluice

#endif  // SLUICE_COMMON_LOGGING_H_
