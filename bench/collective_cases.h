#ifndef SLUICE_BENCH_COLLECTIVE_CASES_H_
#define SLUICE_BENCH_COLLECTIVE_CASES_H_

// Collectives between processes of one node: agents' groups, gloo's, and what
// the machine can copy.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/collective/collective.h"
#include "bench/transfer_cases.h"

namespace sluice::bench {

// One case: what all members do, on buffers of float32.
struct CollectiveCase {
  agent::CollectiveKind kind = agent::CollectiveKind::kBroadcast;
  std::string name;
  std::string gloo;  // what gloo does instead
  // Of the whole buffer of one member (of the root, where there is one).
  int64_t bytes = 0;
  // Least ratio of gloo's time to ours.
  double goal = 0;

  // Bytes that a copy would move for as much reading and writing: each piece
  // once where it goes, half of what a reduce-scatter reads and writes.
  int64_t copied_bytes(int members) const;
};
std::vector<CollectiveCase> CollectiveCases();

// A member process: serves "CASE ROUND" lines until they end. `directory` is a
// folder for the members' sockets. Returns its exit code.
int RunCollectiveMember(const std::string& directory, int self, int members,
                        int from_parent, int to_parent);

// Becomes a process of torch.distributed with gloo that serves the same lines.
// Returns if that cannot be started.
int RunGlooMember(int port, int self, int members, int from_parent,
                  int to_parent);
// Whether the system's Python has torch.distributed with gloo; if not, why.
absl::Status FindGloo();

// How long one case took on all members, beside the same by gloo (empty if it
// cannot be had) and the machine's copies, by round.
struct CollectiveFigures {
  CollectiveCase what;
  int64_t copied_bytes = 0;
  std::vector<double> seconds;
  std::vector<double> gloo_seconds;
  std::vector<double> copy_gb_per_s;
};

// Runs all cases in turns, verified. Forks: to be called before the first
// thread is made. `no_gloo` says why gloo is left out, or nothing.
absl::StatusOr<std::vector<CollectiveFigures>> MeasureCollectives(
    int members, int repeats, std::string& no_gloo);

// Copies by as many threads as there are processors, each between two touched
// buffers: the better of libc's memcpy and a non-temporal loop.
class MachineCopies {
 public:
  static absl::StatusOr<std::unique_ptr<MachineCopies>> Create(int64_t bytes);
  ~MachineCopies();
  Rate Run();

 private:
  struct Impl;
  explicit MachineCopies(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::bench

#endif  // SLUICE_BENCH_COLLECTIVE_CASES_H_
