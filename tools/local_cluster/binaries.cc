#include "tools/local_cluster/binaries.h"

#include <unistd.h>

#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"

namespace sluice::local_cluster {
namespace {

namespace fs = std::filesystem;

// bazel-bin/tools/quickstart/worker/worker is four folders deep.
constexpr int kMaxLevels = 5;

bool IsProgram(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error) && ::access(path.c_str(), X_OK) == 0;
}

}  // namespace

absl::StatusOr<std::string> FindProgram(
    const std::vector<std::string>& candidates) {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  fs::path folder = self.parent_path();
  for (int level = 0; level < kMaxLevels && !folder.empty(); ++level) {
    for (const std::string& candidate : candidates) {
      if (IsProgram(folder / candidate)) return (folder / candidate).string();
    }
    if (folder == folder.root_path()) break;
    folder = folder.parent_path();
  }
  return absl::NotFoundError(
      absl::StrCat("no program ", absl::StrJoin(candidates, " or "),
                   " in the folders above ", self.string()));
}

absl::Status FindBinaries(Options& options) {
  if (options.coordinator_binary.empty()) {
    SLUICE_ASSIGN_OR_RETURN(
        options.coordinator_binary,
        FindProgram({"coordinator/coordinator", "sluice-coordinator"}));
  }
  if (options.agent_binary.empty()) {
    SLUICE_ASSIGN_OR_RETURN(options.agent_binary,
                            FindProgram({"agent/agent", "sluice-agent"}));
  }
  return absl::OkStatus();
}

}  // namespace sluice::local_cluster
