#ifndef SLUICE_AGENT_CUDA_CUDA_PIECE_MOVER_H_
#define SLUICE_AGENT_CUDA_CUDA_PIECE_MOVER_H_

// Moves pieces where a GPU is involved; what lies in memory of the host alone
// is the host mover's.
//
//   between places of the device (and pinned ones)  in place
//   device <-> message or memory of the host        long rows at once, the rest
//                                                   packed on the device and
//                                                   copied once
//
// Copy engines move long rows (piece_boxes.h), kernels all else. Host memory
// that is not pinned is reached through pinned memory. A place that casts is
// cast by its own kernel, to and from the piece's type; digests are made on the
// device, of the piece's type.
//
// Messages. StartPack and StartUnpack only queue: each movement has a workspace
// with a stream of its own, so one message is packed while another is unpacked
// and others are on their way. Two threads wait for the device in the order of
// queueing, one for what is packed and one for what is unpacked. Nor does
// BeginCopy wait; its caller does.

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "agent/cuda/cuda_runtime.h"
#include "agent/cuda/piece_call.h"
#include "agent/cuda/workspace.h"
#include "agent/executor/piece_mover.h"
#include "agent/executor/thread_pool.h"
#include "common/mutex.h"

namespace sluice::agent::cuda {

// Thread-safe. The runtime outlives it, and it all memory that it moves.
// Errors: those of the runtime; UNIMPLEMENTED - types that the kernels do not
// cast (integers, 8 bits); INVALID_ARGUMENT - elements to cast that do not lie
// at multiples of their size.
class CudaPieceMover final : public PieceMover {
 public:
  // `max_blocks`: blocks of threads of one launch, at most; 0 is one for each
  // multiprocessor.
  CudaPieceMover(CudaRuntime* runtime, int device, uint32_t max_blocks)
      : runtime_(runtime), device_(device), max_blocks_(max_blocks) {}

  absl::Status Pack(absl::Span<const PieceRange> ranges,
                    std::byte* packed) override;
  absl::Status Unpack(absl::Span<const PieceRange> ranges,
                      const std::byte* packed) override;
  void StartPack(absl::Span<const PieceRange> ranges, std::byte* packed,
                 Done done) override;
  void StartUnpack(absl::Span<const PieceRange> ranges, const std::byte* packed,
                   Done done) override;
  absl::Status Copy(absl::Span<const PieceRange> ranges) override;
  absl::StatusOr<std::unique_ptr<Copying>> BeginCopy(
      absl::Span<const PieceRange> ranges) override;
  absl::Status DigestOf(absl::Span<const PieceRange> ranges) override;
  std::byte* AllocateStaging(int64_t bytes) override;
  void FreeStaging(std::byte* memory) override;

 private:
  class CopyUnderWay;

  absl::StatusOr<std::unique_ptr<Workspace>> Take();
  void Return(std::unique_ptr<Workspace> workspace);

  // Lets `queue` queue a movement, which is settled if that fails.
  template <typename Queue>
  absl::StatusOr<std::unique_ptr<PieceCall>> Begin(const Queue& queue);
  // Waits for what was queued, if anything.
  absl::Status End(std::unique_ptr<PieceCall> call);
  template <typename Queue>
  absl::Status Run(const Queue& queue);

  // Queue; `last` is what is under way at the end, of which there is one at
  // most, also after an error.
  absl::Status BeginPack(absl::Span<const PieceRange> ranges, std::byte* packed,
                         std::unique_ptr<PieceCall>& last);
  absl::Status BeginUnpack(absl::Span<const PieceRange> ranges,
                           const std::byte* packed,
                           std::unique_ptr<PieceCall>& last);
  absl::Status EndAfter(absl::Status begun, std::unique_ptr<PieceCall> last);
  void EndLater(absl::Status begun, std::unique_ptr<PieceCall> last,
                ThreadPool& lane, Done done);

  CudaRuntime* const runtime_;
  const int device_;
  const uint32_t max_blocks_;
  HostPieceMover host_;
  Mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> free_ ABSL_GUARDED_BY(mutex_);
  // They wait for the device. End first: they give workspaces back.
  ThreadPool packs_{"gpu-pack", 1};
  ThreadPool unpacks_{"gpu-unpack", 1};
};

}  // namespace sluice::agent::cuda

#endif  // SLUICE_AGENT_CUDA_CUDA_PIECE_MOVER_H_
