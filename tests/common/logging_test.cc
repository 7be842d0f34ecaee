#include "common/logging.h"

#include <catch2/catch.hpp>
#include <limits>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_dir.h"

namespace sluice {
namespace {

using ::sluice::testing::StatusIs;

struct Printable {
  friend std::ostream& operator<<(std::ostream& out, const Printable&) {
    return out << "[0,4)";
  }
};

const absl::Time kTime = absl::FromUnixMillis(1'500);

std::string Text(absl::string_view event, LogFields fields) {
  return FormatLogLine(LogFormat::kText, kTime, LogLevel::kInfo, "agent-3",
                       event, fields);
}

TEST_CASE("a text line is time, level, name, event and fields", "[common]") {
  const std::string name = "a1";
  CHECK(Text("registered", {{"agent", name},
                            {"rank", 3},
                            {"ready", true},
                            {"box", Printable()},
                            {"took", absl::Milliseconds(2)}}) ==
        "1970-01-01T00:00:01.500Z I agent-3: registered agent=a1 rank=3 "
        "ready=true box=[0,4) took=2ms");
}

TEST_CASE("text values that are not one word are quoted", "[common]") {
  CHECK_THAT(Text("x", {{"k", "two words"}}),
             Catch::EndsWith("k=\"two words\""));
  CHECK_THAT(Text("x", {{"k", ""}}), Catch::EndsWith("k=\"\""));
  CHECK_THAT(Text("x", {{"k", "a=b"}}), Catch::EndsWith("k=\"a=b\""));
  // A value cannot forge a line of its own.
  CHECK_THAT(Text("x", {{"k", "a\nb"}}), Catch::EndsWith("k=\"a\\nb\""));
}

TEST_CASE("a JSON line keeps types and survives any text", "[common]") {
  const std::string nasty = "quote \" back \\ newline \n bell \x07 e\xC3\xA9";
  const std::string line =
      FormatLogLine(LogFormat::kJson, kTime, LogLevel::kWarn, "c", "e",
                    {{"text", nasty},
                     {"number", -5},
                     {"small", int8_t{7}},
                     {"half", 0.5},
                     {"nan", std::numeric_limits<double>::quiet_NaN()},
                     {"flag", false}});
  CHECK_THAT(line, !Catch::Contains("\n"));
  const nlohmann::json parsed = nlohmann::json::parse(line);
  CHECK(parsed["time"] == "1970-01-01T00:00:01.500Z");
  CHECK(parsed["level"] == "warn");
  CHECK(parsed["text"] == nasty);
  CHECK(parsed["number"] == -5);
  CHECK(parsed["small"] == 7);
  CHECK(parsed["half"] == 0.5);
  CHECK(parsed["nan"].is_string());
  CHECK(parsed["flag"] == false);
}

TEST_CASE("levels and formats are parsed or refused", "[common]") {
  CHECK(ParseLogLevel("warn").value() == LogLevel::kWarn);
  CHECK(ParseLogFormat("json").value() == LogFormat::kJson);
  CHECK_THAT(ParseLogLevel("loud"),
             StatusIs(absl::StatusCode::kInvalidArgument, "loud"));
  CHECK_THAT(ParseLogFormat("xml"),
             StatusIs(absl::StatusCode::kInvalidArgument, "xml"));
}

TEST_CASE("lines below the level are dropped, others are in the file at once",
          "[common]") {
  const testing::TestDir dir;
  LogOptions options;
  options.level = LogLevel::kWarn;
  options.file = dir.File("log");
  REQUIRE_OK(InitLogging(options));
  LogInfo("dropped");
  LogWarn("kept", {{"n", 1}});
  LogError("kept too");
  const std::string text = testing::ReadFile(options.file);
  CHECK_THAT(text, !Catch::Contains("dropped"));
  CHECK_THAT(text, Catch::Contains("kept n=1\n"));
  CHECK_THAT(text, Catch::Contains("kept too\n"));
  REQUIRE_OK(InitLogging(LogOptions()));
}

TEST_CASE("a log file that cannot be opened is an error", "[common]") {
  const testing::TestDir dir;
  LogOptions options;
  // The parent is a file.
  options.file = dir.Write("plain", "") + "/log";
  CHECK_THAT(InitLogging(options),
             StatusIs(absl::StatusCode::kUnavailable, options.file));
}

TEST_CASE("threads log whole lines while the destination changes", "[common]") {
  const testing::TestDir dir;
  LogOptions options;
  options.file = dir.File("log");
  REQUIRE_OK(InitLogging(options));
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < 100; ++i) LogInfo("line", {{"thread", t}, {"i", i}});
    });
  }
  // The same file again: every line still lands in it.
  REQUIRE_OK(InitLogging(options));
  for (std::thread& thread : threads) thread.join();
  REQUIRE_OK(InitLogging(LogOptions()));
  const std::vector<std::string> lines =
      absl::StrSplit(testing::ReadFile(options.file), '\n', absl::SkipEmpty());
  CHECK(lines.size() == 400);
  for (const std::string& line : lines) {
    REQUIRE_THAT(line, Catch::Contains("line thread="));
  }
}

}  // namespace
}  // namespace sluice
