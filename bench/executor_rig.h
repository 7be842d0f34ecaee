#ifndef SLUICE_BENCH_EXECUTOR_RIG_H_
#define SLUICE_BENCH_EXECUTOR_RIG_H_

// An executor with its callbacks, and transfers of one tensor to run on it.

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/device/mapped_memory.h"
#include "agent/executor_interface.h"
#include "common/clock.h"

namespace sluice::bench {

using Memory = std::shared_ptr<agent::MappedMemory>;

// Shared memory of which every page was written.
absl::StatusOr<Memory> TouchedMemory(int64_t bytes);

// Word i of a memory's pattern.
inline uint64_t PatternWord(uint64_t seed, int64_t i) {
  return (static_cast<uint64_t>(i) + seed) * 0x9e3779b97f4a7c15ull;
}
void FillPattern(agent::MappedMemory& memory, uint64_t seed);

// Rows of one tensor as both sides hold them: of each the first `bytes` bytes
// move. The default is a tensor of rows that lie side by side.
struct Rows {
  int64_t bytes = 8192;
  int64_t from_pitch = 8192;  // from a row's start to the next one's
  int64_t to_pitch = 8192;
};
// What a strided network case moves: half of each row, packed and unpacked.
inline constexpr Rows kHalfRows = {.bytes = 4096};

// A transfer of a memory of `bytes` bytes as one tensor from `source` to
// `destination`, with the places of whichever memory is given. The pitches
// divide the bytes.
agent::ExecutionRequest OneTensorRequest(OperationId operation, Rank self,
                                         Rank source, Rank destination,
                                         LinkClass link, const Rows& rows,
                                         int64_t bytes, const Memory& from,
                                         const Memory& to);

class ExecutorRig {
 public:
  static absl::StatusOr<std::unique_ptr<ExecutorRig>> Create(
      int worker_threads, agent::PeerDirectory& peers);

  agent::TransferExecutor& executor() { return *executor_; }
  // Waits for the end of what was started.
  absl::Status Wait();

 private:
  ExecutorRig() = default;

  SystemClock clock_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<absl::Status> ended_;
  std::unique_ptr<agent::TransferExecutor> executor_;
};

}  // namespace sluice::bench

#endif  // SLUICE_BENCH_EXECUTOR_RIG_H_
