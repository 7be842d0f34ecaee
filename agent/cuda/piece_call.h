#ifndef SLUICE_AGENT_CUDA_PIECE_CALL_H_
#define SLUICE_AGENT_CUDA_PIECE_CALL_H_

// One movement of ranges of pieces by the GPU: first queued, then waited for.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "agent/cuda/cuda_device.h"
#include "agent/cuda/cuda_runtime.h"
#include "agent/cuda/piece_boxes.h"
#include "agent/cuda/workspace.h"
#include "agent/executor/piece_mover.h"
#include "agent/executor_interface.h"
#include "common/digest_value.h"

namespace sluice::agent::cuda {

// Used by one thread at a time: one of the four movements, then Finish. After
// an error the workspace is to be settled. Errors: CudaPieceMover's.
class PieceCall {
 public:
  // The runtime outlives it.
  PieceCall(CudaRuntime& runtime, std::unique_ptr<Workspace> workspace)
      : runtime_(runtime), workspace_(std::move(workspace)), stages_(2) {}

  // Sources on the device -> `packed`, memory of the host.
  absl::Status Pack(absl::Span<const PieceRange> ranges, std::byte* packed);
  // `packed` -> those destinations that are on the device.
  absl::Status Unpack(absl::Span<const PieceRange> ranges,
                      const std::byte* packed);
  // Sources -> destinations, all within the GPU's reach.
  absl::Status Copy(absl::Span<const PieceRange> ranges);
  absl::Status DigestOf(absl::Span<const PieceRange> ranges);

  // Waits for what was queued, and adds to the ranges' digests.
  absl::Status Finish();

  Workspace& workspace() { return *workspace_; }
  // After Finish, or when settled.
  std::unique_ptr<Workspace> TakeWorkspace() { return std::move(workspace_); }

 private:
  void* ScratchMemory(int64_t offset) const {
    return reinterpret_cast<void*>(
        static_cast<uintptr_t>(scratch_ + static_cast<uint64_t>(offset)));
  }
  // Where the range's packed bytes lie in the scratch.
  Elements Image(absl::Span<const PieceRange> ranges,
                 const PieceRange& range) const;
  // Scratch for sources that are cast, if there are any.
  absl::Status ReserveImages(absl::Span<const PieceRange> ranges);
  // Lists the packing of one range; true if not by way of the scratch.
  absl::StatusOr<bool> AddPack(absl::Span<const PieceRange> ranges,
                               const PieceRange& range, std::byte* packed);
  // Lists the unpacking of a range by copy engines, if that can be done.
  absl::StatusOr<bool> AddDirectUnpack(const PieceRange& range,
                                       const std::byte* packed);
  // The source's type to the piece's, in the first stage.
  absl::Status AddCastTo(const PieceRange& range, const Elements& from,
                         const Elements& image);
  // From elements of type `held` to a place.
  absl::Status Add(const PieceRange& range, const Elements& from, DType held,
                   const BoundPlace& to, BoxStage& stage);
  absl::Status AddDigestOf(const PieceRange& range, const Elements& from,
                           BoxStage& stage);
  // Queues copies between the scratch and `packed` of the ranges that need it.
  template <typename CopyRun>
  static absl::Status ForScratch(absl::Span<const PieceRange> ranges,
                                 const std::vector<bool>& direct,
                                 const CopyRun& copy);
  // Notes the memory: its others can wait for what is queued.
  void Writes(const BoundPlace& place);
  absl::Status Queue();

  CudaRuntime& runtime_;
  std::unique_ptr<Workspace> workspace_;
  uint64_t scratch_ = 0;
  // What makes images of what is cast or packed, then what reads them.
  std::vector<BoxStage> stages_;
  std::vector<Digest*> digests_;  // by slot
  std::set<CudaMemory*> written_;
};

}  // namespace sluice::agent::cuda

#endif  // SLUICE_AGENT_CUDA_PIECE_CALL_H_
