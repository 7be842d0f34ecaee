// All cases in turns, of ours, of gloo, and of plain copies.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/device/unique_fd.h"
#include "bench/collective_cases.h"
#include "bench/line_processes.h"
#include "common/status_macros.h"

namespace sluice::bench {
namespace {

constexpr int64_t kCopyBytes = int64_t{128} << 20;

// A folder with a short name, for sockets.
class SocketFolder {
 public:
  SocketFolder() {
    if (mkdtemp(path_) == nullptr) path_[0] = '\0';
  }
  ~SocketFolder() {
    std::error_code ignored;
    if (path_[0] != '\0') std::filesystem::remove_all(path_, ignored);
  }
  SocketFolder(const SocketFolder&) = delete;
  SocketFolder& operator=(const SocketFolder&) = delete;
  std::string path() const { return path_; }

 private:
  char path_[32] = "/tmp/slbench.XXXXXX";
};

// A port that nobody uses now.
absl::StatusOr<int> FreePort() {
  const agent::UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* raw = reinterpret_cast<sockaddr*>(&address);
  if (!fd.valid() || bind(fd.get(), raw, size) != 0 ||
      getsockname(fd.get(), raw, &size) != 0) {
    return absl::UnavailableError("no port on loopback");
  }
  return static_cast<int>(ntohs(address.sin_port));
}

absl::Status StartMembers(LineProcesses& processes, int members,
                          const std::string& directory) {
  for (int m = 0; m < members; ++m) {
    SLUICE_RETURN_IF_ERROR(processes.Fork([=](int from, int to) {
      return RunCollectiveMember(directory, m, members, from, to);
    }));
  }
  return processes.Expect("up");
}

absl::Status StartGloo(LineProcesses& processes, int members) {
  SLUICE_ASSIGN_OR_RETURN(const int port, FreePort());
  for (int m = 0; m < members; ++m) {
    SLUICE_RETURN_IF_ERROR(processes.Fork([=](int from, int to) {
      return RunGlooMember(port, m, members, from, to);
    }));
  }
  return processes.Expect("up");
}

}  // namespace

absl::StatusOr<std::vector<CollectiveFigures>> MeasureCollectives(
    int members, int repeats, std::string& no_gloo) {
  const SocketFolder folder;
  LineProcesses ours, gloo;
  SLUICE_RETURN_IF_ERROR(StartMembers(ours, members, folder.path()));
  const absl::Status found = FindGloo();
  no_gloo = std::string(found.message());
  if (found.ok()) SLUICE_RETURN_IF_ERROR(StartGloo(gloo, members));
  SLUICE_ASSIGN_OR_RETURN(const auto copies, MachineCopies::Create(kCopyBytes));
  std::vector<CollectiveFigures> all;
  for (CollectiveCase& c : CollectiveCases()) {
    CollectiveFigures& figures = all.emplace_back();
    figures.what = std::move(c);
    figures.copied_bytes = figures.what.copied_bytes(members);
  }
  // The first round makes mappings and connections, and is not counted.
  for (int round = 0; round <= repeats; ++round) {
    for (size_t i = 0; i < all.size(); ++i) {
      CollectiveFigures& figures = all[i];
      const double copy = copies->Run().gb_per_s();
      SLUICE_ASSIGN_OR_RETURN(const double seconds,
                              ours.Time(absl::StrCat(i, " ", round)));
      double gloo_seconds = 0;
      if (found.ok()) {
        SLUICE_ASSIGN_OR_RETURN(
            gloo_seconds,
            gloo.Time(absl::StrCat(figures.what.gloo, " ", round)));
      }
      if (round == 0) continue;
      figures.seconds.push_back(seconds);
      figures.copy_gb_per_s.push_back(copy);
      if (found.ok()) figures.gloo_seconds.push_back(gloo_seconds);
    }
  }
  return all;
}

}  // namespace sluice::bench
