#include "tests/gpu/quickstart_check.h"

#include <stdlib.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/status_macros.h"
#include "tools/local_cluster/binaries.h"
#include "tools/local_cluster/process.h"

namespace sluice::gpu_tests {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr absl::Duration kPatience = absl::Minutes(5);
// load, two syncs, three patterns of a redistribution.
constexpr size_t kOperations = 6;
constexpr size_t kQuotedBytes = 2000;

// A folder of its own, removed with all it holds; short, for sockets lie in it.
class Folder {
 public:
  Folder() { made_ = ::mkdtemp(path_) != nullptr; }
  ~Folder() {
    std::error_code ignored;
    if (made_) fs::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  bool made() const { return made_; }
  std::string operator/(const std::string& name) const {
    return absl::StrCat(path_, "/", name);
  }

 private:
  char path_[20] = "/tmp/sluice-XXXXXX";
  bool made_ = false;
};

std::string ReadAll(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

absl::StatusOr<std::vector<std::string>> CommandLine(
    const QuickstartSettings& settings, const Folder& folder) {
  std::string program = settings.quickstart_binary;
  if (program.empty()) {
    SLUICE_ASSIGN_OR_RETURN(program,
                            local_cluster::FindProgram(
                                {"tools/quickstart/quickstart", "quickstart"}));
  }
  std::vector<std::string> words = {program,
                                    "--quiet",
                                    "--nodes=2",
                                    "--agents-per-node=2",
                                    "--samples=32",
                                    "--device=" + settings.device,
                                    "--checkpoint=" + folder / "checkpoint",
                                    "--state-dir=" + folder / "state",
                                    "--json=" + folder / "out.json"};
  const std::pair<const char*, const std::string&> programs[] = {
      {"--coordinator-binary=", settings.coordinator_binary},
      {"--agent-binary=", settings.agent_binary},
      {"--worker-binary=", settings.worker_binary}};
  for (const auto& [flag, path] : programs) {
    if (!path.empty()) words.push_back(flag + path);
  }
  return words;
}

absl::Status CheckReport(const std::string& text) {
  const Json report = Json::parse(text, nullptr, false);
  if (!report.is_object() || !report.contains("operations")) {
    return absl::InternalError("the quickstart wrote no report");
  }
  if (report["operations"].size() != kOperations) {
    return absl::InternalError(
        absl::StrCat("the quickstart reports ", report["operations"].size(),
                     " operations, expected ", kOperations));
  }
  for (const Json& operation : report["operations"]) {
    if (operation.value("verified", false) &&
        operation.value("verified_bytes", int64_t{0}) > 0) {
      continue;
    }
    return absl::DataLossError(absl::StrCat(operation.value("name", "?"),
                                            " of the quickstart is not "
                                            "verified"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckQuickstart(const QuickstartSettings& settings) {
  const Folder folder;
  if (!folder.made())
    return absl::InternalError("cannot make a folder in /tmp");
  SLUICE_RETURN_IF_ERROR(
      GenerateCheckpoint(settings.checkpoint, folder / "checkpoint").status());
  SLUICE_ASSIGN_OR_RETURN(const std::vector<std::string> words,
                          CommandLine(settings, folder));
  local_cluster::SpawnOptions spawn;
  spawn.die_with_parent = true;
  const std::string log = folder / "log";
  SLUICE_ASSIGN_OR_RETURN(const local_cluster::Process process,
                          local_cluster::Spawn(words, log, spawn));
  const absl::StatusOr<int> code =
      local_cluster::WaitForExit(process, kPatience);
  if (!code.ok()) {
    // Its daemons end with it.
    local_cluster::Stop(process, absl::Seconds(10)).IgnoreError();
    return Annotate(code.status(), "the quickstart");
  }
  if (*code != 0) {
    std::string said = ReadAll(log);
    if (said.size() > kQuotedBytes) said.erase(0, said.size() - kQuotedBytes);
    return absl::InternalError(
        absl::StrCat("the quickstart ended with ", *code, ": ", said));
  }
  return CheckReport(ReadAll(folder / "out.json"));
}

}  // namespace sluice::gpu_tests
