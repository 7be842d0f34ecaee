#include "common/logging.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/mutex.h"

namespace sluice {
namespace {

struct Destination {
  LogOptions options;
  std::shared_ptr<spdlog::logger> logger;
};

std::shared_ptr<const Destination> MakeDestination(LogOptions options,
                                                   spdlog::sink_ptr sink) {
  auto destination = std::make_shared<Destination>();
  // Lines come complete from FormatLogLine.
  auto logger = std::make_shared<spdlog::logger>(options.name, std::move(sink));
  logger->set_pattern("%v");
  logger->set_level(spdlog::level::trace);
  // A killed process must not take its last lines with it; lines are few.
  logger->flush_on(spdlog::level::trace);
  destination->options = std::move(options);
  destination->logger = std::move(logger);
  return destination;
}

class State {
 public:
  State()
      : destination_(MakeDestination(
            LogOptions(), std::make_shared<spdlog::sinks::stderr_sink_mt>())) {}

  std::shared_ptr<const Destination> Get() const {
    MutexLock lock(mutex_);
    return destination_;
  }

  void Set(std::shared_ptr<const Destination> destination) {
    MutexLock lock(mutex_);
    destination_.swap(destination);
  }

 private:
  mutable Mutex mutex_;
  std::shared_ptr<const Destination> destination_ ABSL_GUARDED_BY(mutex_);
};

State& GlobalState() {
  // Never destroyed: threads may log while the process exits.
  static State& state = *new State();
  return state;
}

absl::string_view LevelName(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarn:
      return "warn";
    case LogLevel::kError:
      return "error";
    case LogLevel::kOff:
      return "off";
  }
  return "unknown";
}

std::string JsonString(absl::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const unsigned char byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20) {
      absl::StrAppendFormat(&out, "\\u%04x", byte);
    } else {
      out += c;
    }
  }
  out += '"';
  return out;
}

// A value as it is when one word, else quoted with C escapes.
std::string TextValue(absl::string_view text) {
  bool plain = !text.empty();
  for (const char c : text) {
    plain = plain && (absl::ascii_isgraph(static_cast<unsigned char>(c)) ||
                      static_cast<unsigned char>(c) >= 0x80);
    plain = plain && c != '"' && c != '=' && c != '\\';
  }
  if (plain) return std::string(text);
  return absl::StrCat("\"", absl::Utf8SafeCEscape(text), "\"");
}

void Log(LogLevel level, absl::string_view event, LogFields fields) {
  const std::shared_ptr<const Destination> destination = GlobalState().Get();
  const LogOptions& options = destination->options;
  if (level < options.level) return;
  const std::string line = FormatLogLine(options.format, absl::Now(), level,
                                         options.name, event, fields);
  // The level only decides about flushing here.
  destination->logger->log(spdlog::level::info,
                           spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace

absl::Status InitLogging(const LogOptions& options) {
  spdlog::sink_ptr sink;
  if (options.file.empty()) {
    sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  } else {
    // The only exception of spdlog that a caller can cause; it ends here.
    try {
      sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(options.file);
    } catch (const spdlog::spdlog_ex& error) {
      return absl::UnavailableError(
          absl::StrCat("log file ", options.file, ": ", error.what()));
    }
  }
  GlobalState().Set(MakeDestination(options, std::move(sink)));
  return absl::OkStatus();
}

absl::StatusOr<LogLevel> ParseLogLevel(absl::string_view text) {
  for (const LogLevel level :
       {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarn, LogLevel::kError,
        LogLevel::kOff}) {
    if (text == LevelName(level)) return level;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "log level: expected debug, info, warn, error or off, found '", text,
      "'"));
}

absl::StatusOr<LogFormat> ParseLogFormat(absl::string_view text) {
  if (text == "text") return LogFormat::kText;
  if (text == "json") return LogFormat::kJson;
  return absl::InvalidArgumentError(
      absl::StrCat("log format: expected text or json, found '", text, "'"));
}

void LogDebug(absl::string_view event, LogFields fields) {
  Log(LogLevel::kDebug, event, fields);
}
void LogInfo(absl::string_view event, LogFields fields) {
  Log(LogLevel::kInfo, event, fields);
}
void LogWarn(absl::string_view event, LogFields fields) {
  Log(LogLevel::kWarn, event, fields);
}
void LogError(absl::string_view event, LogFields fields) {
  Log(LogLevel::kError, event, fields);
}

std::string FormatLogLine(LogFormat format, absl::Time time, LogLevel level,
                          absl::string_view name, absl::string_view event,
                          LogFields fields) {
  const std::string stamp =
      absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone());
  std::string line;
  if (format == LogFormat::kText) {
    const char letter =
        absl::ascii_toupper(static_cast<unsigned char>(LevelName(level)[0]));
    line = absl::StrCat(stamp, " ", absl::string_view(&letter, 1), " ", name,
                        ": ", absl::Utf8SafeCEscape(event));
    for (const LogField& field : fields) {
      absl::StrAppend(&line, " ", field.key, "=", TextValue(field.text));
    }
    return line;
  }
  line = absl::StrCat("{\"time\":\"", stamp, "\",\"level\":\"",
                      LevelName(level), "\",\"name\":", JsonString(name),
                      ",\"event\":", JsonString(event));
  for (const LogField& field : fields) {
    absl::StrAppend(&line, ",", JsonString(field.key), ":",
                    field.quoted ? JsonString(field.text) : field.text);
  }
  return absl::StrCat(line, "}");
}

}  // namespace sluice
