// The parent's side of the pairs.

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "bench/lines.h"
#include "bench/transfer_cases.h"
#include "common/status_macros.h"

namespace sluice::bench {
namespace {

// For one step of all processes; the executors give up before.
constexpr absl::Duration kPatience = absl::Minutes(2);
// For their ends, once told.
constexpr absl::Duration kEndPatience = absl::Seconds(10);

}  // namespace

absl::Status NetworkPairs::Fork(bool sender, int index) {
  int down[2], up[2];
  if (pipe2(down, O_CLOEXEC) != 0 || pipe2(up, O_CLOEXEC) != 0) {
    return absl::InternalError("no pipe");
  }
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return absl::InternalError("no process");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    // The ends of the others: a peer ends when its parent's end closes.
    for (const Peer& other : peers_) {
      close(other.to);
      close(other.from);
    }
    close(down[1]);
    close(up[0]);
    _exit(RunNetworkPeer(sender, index, bytes_, down[0], up[1]));
  }
  close(down[0]);
  close(up[1]);
  peers_.push_back({pid, down[1], up[0]});
  return absl::OkStatus();
}

absl::StatusOr<NetworkPairs> NetworkPairs::Create(int pairs, int64_t bytes) {
  // A peer that ended is an error of writing to it, not the end of this.
  signal(SIGPIPE, SIG_IGN);
  NetworkPairs all;
  all.bytes_ = bytes;
  for (int i = 0; i < 2 * pairs; ++i) {
    SLUICE_RETURN_IF_ERROR(all.Fork(/*sender=*/i % 2 == 0, i / 2));
  }
  const absl::Time deadline = all.clock_.Now() + kPatience;
  std::vector<std::string> addresses;
  for (const Peer& peer : all.peers_) {
    SLUICE_ASSIGN_OR_RETURN(addresses.emplace_back(),
                            ReadLine(peer.from, all.clock_, deadline));
  }
  for (size_t i = 0; i < all.peers_.size(); ++i) {
    SLUICE_RETURN_IF_ERROR(WriteLine(all.peers_[i].to, addresses[i ^ 1]));
  }
  SLUICE_RETURN_IF_ERROR(all.Expect("up"));
  return all;
}

NetworkPairs::~NetworkPairs() {
  for (const Peer& peer : peers_) {
    close(peer.to);
    close(peer.from);
  }
  const absl::Time deadline = clock_.Now() + kEndPatience;
  for (const Peer& peer : peers_) AwaitEnd(peer.pid, clock_, deadline);
}

absl::Status NetworkPairs::Tell(absl::string_view line) {
  for (const Peer& peer : peers_) {
    SLUICE_RETURN_IF_ERROR(WriteLine(peer.to, line));
  }
  return absl::OkStatus();
}

absl::Status NetworkPairs::Expect(absl::string_view line) {
  const absl::Time deadline = clock_.Now() + kPatience;
  for (const Peer& peer : peers_) {
    SLUICE_ASSIGN_OR_RETURN(const std::string found,
                            ReadLine(peer.from, clock_, deadline));
    if (found == line) continue;
    if (found == "bad") {
      return absl::DataLossError("what arrived is not what was sent");
    }
    return absl::InternalError(
        absl::StrCat("a peer: expected ", line, ", found ", found));
  }
  return absl::OkStatus();
}

absl::StatusOr<Rate> NetworkPairs::Run(NetworkCase what) {
  SLUICE_RETURN_IF_ERROR(
      Tell(absl::StrCat(static_cast<int>(what), " ", next_operation_++)));
  SLUICE_RETURN_IF_ERROR(Expect("ready"));
  const absl::Time start = clock_.Now();
  SLUICE_RETURN_IF_ERROR(Tell("go"));
  SLUICE_RETURN_IF_ERROR(Expect("done"));
  const double seconds = absl::ToDoubleSeconds(clock_.Now() - start);
  SLUICE_RETURN_IF_ERROR(Tell("check"));
  SLUICE_RETURN_IF_ERROR(Expect("good"));
  const int64_t each = what == NetworkCase::kStrided ? bytes_ / 2 : bytes_;
  return Rate{each * static_cast<int64_t>(peers_.size() / 2), seconds};
}

}  // namespace sluice::bench
