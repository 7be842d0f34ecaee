#include "common/flags.h"

#include <catch2/catch.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_dir.h"

namespace sluice {
namespace {

using testing::StatusIs;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

struct Options {
  std::string listen = "127.0.0.1:7070";
  bool insecure = false;
  int64_t agents = 8;
  absl::Duration lease = absl::Seconds(10);
  std::vector<std::string> roots;
  int64_t staging = 64 << 20;
  std::string log_level = "info";
};

absl::StatusOr<Flags::Action> Parse(std::vector<const char*> arguments,
                                    Options& options) {
  Flags flags("sluice-test", "A test.");
  flags.Add("listen", &options.listen, "address");
  flags.Add("insecure", &options.insecure, "allow");
  flags.Add("agents", &options.agents, "number", 1, 100);
  flags.Add("lease", &options.lease, "lease", absl::Seconds(1),
            absl::Seconds(300));
  flags.Add("root", &options.roots, "roots");
  flags.AddBytes("staging", &options.staging, "memory");
  flags.AddParsed(
      "log-level", options.log_level,
      [&options](absl::string_view text) -> absl::Status {
        if (text != "info" && text != "debug") {
          return absl::InvalidArgumentError("no such level");
        }
        options.log_level = std::string(text);
        return absl::OkStatus();
      },
      "level");
  arguments.insert(arguments.begin(), "sluice-test");
  return flags.Parse(static_cast<int>(arguments.size()), arguments.data());
}

TEST_CASE("without flags the variables keep their defaults", "[flags]") {
  Options options;
  REQUIRE_OK(Parse({}, options));
  CHECK(options.listen == "127.0.0.1:7070");
  CHECK_FALSE(options.insecure);
  CHECK(options.lease == absl::Seconds(10));
}

TEST_CASE("flags set variables of every type", "[flags]") {
  Options options;
  REQUIRE_OK(Parse({"--listen=[::1]:0", "--insecure", "--agents", "3",
                    "--lease", "1m30s", "--root", "/a", "--root=/b",
                    "--staging", "1.5MiB", "--log-level", "debug"},
                   options));
  CHECK(options.listen == "[::1]:0");
  CHECK(options.insecure);
  CHECK(options.agents == 3);
  CHECK(options.lease == absl::Seconds(90));
  CHECK(options.roots == std::vector<std::string>{"/a", "/b"});
  CHECK(options.staging == 1536 * 1024);
  CHECK(options.log_level == "debug");
}

TEST_CASE("a flag wins over the file, the file over the default", "[flags]") {
  const testing::TestDir dir;
  const std::string path = dir.Write("sluice.toml",
                                     "listen = \"127.0.0.1:1\"\n"
                                     "insecure = true\n"
                                     "agents = 5\n"
                                     "root = [\"/x\", \"/y\"]\n"
                                     "[log]\n"
                                     "level = \"debug\"\n");
  Options options;
  REQUIRE_OK(Parse({"--config", path.c_str(), "--agents=6", "--insecure=false"},
                   options));
  CHECK(options.listen == "127.0.0.1:1");
  CHECK(options.agents == 6);
  CHECK_FALSE(options.insecure);
  CHECK(options.roots == std::vector<std::string>{"/x", "/y"});
  CHECK(options.log_level == "debug");
  CHECK(options.lease == absl::Seconds(10));
}

TEST_CASE("an unknown flag is refused with the nearest name", "[flags]") {
  Options options;
  CHECK_THAT(Parse({"--leese=3s"}, options), StatusIs(kInvalid, "\"lease\""));
  CHECK_THAT(Parse({"--quite-another-thing"}, options),
             StatusIs(kInvalid, "--quite-another-thing"));
  CHECK_THAT(Parse({"file"}, options), StatusIs(kInvalid, "file"));
}

TEST_CASE("a bad file is refused with its line", "[flags]") {
  const testing::TestDir dir;
  Options options;
  const auto parse = [&](const char* content) {
    const std::string path = dir.Write("bad.toml", content);
    return Parse({"--config", path.c_str()}, options);
  };
  CHECK_THAT(parse("\nlog_levle = \"info\"\n"),
             StatusIs(kInvalid, "bad.toml:2: log-levle"));
  CHECK_THAT(parse("log_levle = 1"), StatusIs(kInvalid, "\"log-level\""));
  CHECK_THAT(parse("agents = \n"), StatusIs(kInvalid, "bad.toml:1"));
  CHECK_THAT(parse("lease = \"soon\"\n"), StatusIs(kInvalid, "lease"));
  CHECK_THAT(parse("agents = [1]\n"), StatusIs(kInvalid, "agents"));
  CHECK_THAT(Parse({"--config", "/no/such/file"}, options),
             StatusIs(absl::StatusCode::kNotFound, "/no/such/file"));
}

TEST_CASE("values out of range are refused by name", "[flags]") {
  Options options;
  CHECK_THAT(Parse({"--agents=0"}, options), StatusIs(kInvalid, "agents"));
  CHECK_THAT(Parse({"--agents=x"}, options), StatusIs(kInvalid, "agents"));
  CHECK_THAT(Parse({"--lease=10"}, options), StatusIs(kInvalid, "lease"));
  CHECK_THAT(Parse({"--lease=1h"}, options), StatusIs(kInvalid, "lease"));
  CHECK_THAT(Parse({"--log-level=all"}, options),
             StatusIs(kInvalid, "log-level"));
  CHECK_THAT(Parse({"--lease"}, options), StatusIs(kInvalid, "lease"));
}

TEST_CASE("bytes are parsed in both kinds of units", "[flags]") {
  const auto [text, bytes] = GENERATE(table<std::string, int64_t>({
      {"0", 0},
      {"4096", 4096},
      {"9223372036854775807", INT64_MAX},
      {"64MiB", 64 << 20},
      {"1.5 GB", 1500000000},
      {"2 KiB", 2048},
      {"7B", 7},
  }));
  CAPTURE(text);
  REQUIRE_OK_AND_ASSIGN(const int64_t parsed, ParseBytes(text));
  CHECK(parsed == bytes);
}

TEST_CASE("what is no number of bytes is refused", "[flags]") {
  const std::string text =
      GENERATE("", "MiB", "-1", "-1MiB", "nan", "1e30GiB", "12 parsecs", "1ki");
  CAPTURE(text);
  CHECK_THAT(ParseBytes(text), StatusIs(kInvalid, text));
}

}  // namespace
}  // namespace sluice
