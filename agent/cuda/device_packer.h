#ifndef SLUICE_AGENT_CUDA_DEVICE_PACKER_H_
#define SLUICE_AGENT_CUDA_DEVICE_PACKER_H_

// Packs to memory of the GPU instead of the host's: messages that go from GPU
// to GPU. What lies in memory of the host passes through pinned memory.

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "agent/cuda/cuda_piece_mover.h"
#include "agent/cuda/cuda_runtime.h"
#include "agent/executor/piece_mover.h"

namespace sluice::agent::cuda {

// Thread-safe. `packed` is what AllocateStaging gave, which is null where the
// GPU's memory is full: host memory does not do. Errors: as CudaPieceMover.
class DevicePacker final : public PieceMover {
 public:
  // Both outlive it; `mover` is one of that device.
  DevicePacker(CudaPieceMover& mover, CudaRuntime& runtime, int device)
      : mover_(mover), runtime_(runtime), device_(device) {}

  absl::Status Pack(absl::Span<const PieceRange> ranges,
                    std::byte* packed) override;
  absl::Status Unpack(absl::Span<const PieceRange> ranges,
                      const std::byte* packed) override;
  // Do not wait where all is the GPU's.
  void StartPack(absl::Span<const PieceRange> ranges, std::byte* packed,
                 Done done) override;
  void StartUnpack(absl::Span<const PieceRange> ranges, const std::byte* packed,
                   Done done) override;
  absl::Status Copy(absl::Span<const PieceRange> ranges) override {
    return mover_.Copy(ranges);
  }
  absl::StatusOr<std::unique_ptr<Copying>> BeginCopy(
      absl::Span<const PieceRange> ranges) override {
    return mover_.BeginCopy(ranges);
  }
  absl::Status DigestOf(absl::Span<const PieceRange> ranges) override {
    return mover_.DigestOf(ranges);
  }
  std::byte* AllocateStaging(int64_t bytes) override;
  void FreeStaging(std::byte* memory) override;

 private:
  // From `from` to `to`, one of which is pinned; waits for it.
  absl::Status Pass(std::byte* to, const std::byte* from, int64_t bytes);

  CudaPieceMover& mover_;
  CudaRuntime& runtime_;
  const int device_;
};

}  // namespace sluice::agent::cuda

#endif  // SLUICE_AGENT_CUDA_DEVICE_PACKER_H_
