#include "bench/proc_usage.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace sluice::bench {
namespace {

namespace fs = std::filesystem;

absl::Status NoProcess(pid_t pid) {
  return absl::NotFoundError(absl::StrCat("no process ", pid));
}

}  // namespace

absl::StatusOr<absl::Duration> CpuTime(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::string line;
  if (!std::getline(file, line)) return NoProcess(pid);
  // The command (field 2) is in parentheses and may hold anything.
  std::istringstream rest(line.substr(line.rfind(')') + 1));
  std::string skipped;
  for (int field = 3; field <= 13; ++field) rest >> skipped;
  int64_t user_ticks = 0, system_ticks = 0;
  rest >> user_ticks >> system_ticks;
  return absl::Seconds(user_ticks + system_ticks) / ::sysconf(_SC_CLK_TCK);
}

absl::StatusOr<MemoryUsage> ReadMemoryUsage(
    pid_t pid, const std::vector<std::string>& excluded) {
  MemoryUsage usage;
  std::ifstream status(absl::StrCat("/proc/", pid, "/status"));
  std::string line;
  bool found = false;
  while (std::getline(status, line)) {
    if (!absl::StartsWith(line, "RssAnon:")) continue;
    usage.anonymous_bytes = std::stoll(line.substr(8)) * 1024;
    found = true;
  }
  if (!found) return NoProcess(pid);
  std::set<ino_t> seen;
  std::error_code error;
  for (const auto& entry :
       fs::directory_iterator(absl::StrCat("/proc/", pid, "/fd"), error)) {
    const std::string name = fs::read_symlink(entry.path(), error).string();
    struct stat about {};
    if (!absl::StrContains(name, "memfd:") ||
        std::any_of(excluded.begin(), excluded.end(),
                    [&](const std::string& word) {
                      return absl::StrContains(name, word);
                    }) ||
        ::stat(entry.path().c_str(), &about) != 0 ||
        !seen.insert(about.st_ino).second) {
      continue;
    }
    usage.other_file_bytes += static_cast<int64_t>(about.st_blocks) * 512;
  }
  return usage;
}

}  // namespace sluice::bench
