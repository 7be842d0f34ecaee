#ifndef SLUICE_BENCH_TRANSFER_CASES_H_
#define SLUICE_BENCH_TRANSFER_CASES_H_

// The parts of transfer_bench: the executor that agents run, and what the
// machine and UCX can do, each measured once per call.

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/line_processes.h"

namespace sluice::bench {

// What is moved between two processes.
enum class NetworkCase {
  kContiguous,  // whole rows: sent and received in place
  kStrided,     // half of each row: packed and unpacked
  kDigests,     // as kContiguous, digested at both ends
};

struct Rate {
  int64_t bytes = 0;
  double seconds = 0;
  double gb_per_s() const {
    return static_cast<double>(bytes) / seconds * 1e-9;
  }
};

// Pairs of processes, each process with a touched memory and an executor.
class NetworkPairs {
 public:
  // Memories have `bytes` each, half of which a strided case moves. Forks: to
  // be called before the first thread is made.
  // Errors: INTERNAL - no process, or one that cannot start its executor.
  static absl::StatusOr<NetworkPairs> Create(int pairs, int64_t bytes);

  // Moves `bytes` of all pairs at once, and verifies what arrived.
  // Errors: DATA_LOSS - it is not what was sent; INTERNAL - a process failed.
  absl::StatusOr<Rate> Run(NetworkCase what);

 private:
  NetworkPairs() = default;

  // Sender, receiver, sender, ...
  std::unique_ptr<LineProcesses> processes_ = std::make_unique<LineProcesses>();
  int64_t bytes_ = 0;
  uint64_t next_operation_ = 1;
};

// One end of a pair: serves its parent's lines until they end. Returns the
// process's exit code.
int RunNetworkPeer(bool sender, int index, int64_t bytes, int from_parent,
                   int to_parent);

// UCX's own tag-bandwidth test over TCP and loopback, sleeping, `pairs` at
// once: the sum of what they report. They start nearly but not exactly at the
// same time, so that the sum errs a little on the high side.
// Errors: NOT_FOUND - ucx_perftest is not installed; INTERNAL - it failed.
absl::StatusOr<Rate> RunPerftest(int pairs, int64_t message_bytes,
                                 int iterations);

// Pulls inside a node and plain copies, between two touched shared mappings.
class LocalCopies {
 public:
  static absl::StatusOr<LocalCopies> Create(int64_t bytes);
  ~LocalCopies();
  LocalCopies(LocalCopies&&) noexcept;
  LocalCopies& operator=(LocalCopies&&) = delete;

  // One thread each, all three.
  Rate Memcpy();
  Rate NonTemporal();
  // All of the memory. Digests off, verified. Errors: DATA_LOSS, and the
  // executor's.
  absl::StatusOr<Rate> Pull();
  // As Pull, of the first `row_bytes` of rows that are eight times as long (a
  // shard of eight of a matrix cut by columns) to rows that lie side by side.
  absl::StatusOr<Rate> PullRows(int64_t row_bytes);

 private:
  struct Impl;
  explicit LocalCopies(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::bench

#endif  // SLUICE_BENCH_TRANSFER_CASES_H_
