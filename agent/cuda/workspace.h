#ifndef SLUICE_AGENT_CUDA_WORKSPACE_H_
#define SLUICE_AGENT_CUDA_WORKSPACE_H_

// What one thread needs to run lists of boxes on a GPU: a stream, and memory of
// the device and of the host that grows with what is asked for.

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/cuda/box_list.h"
#include "agent/cuda/cuda_runtime.h"
#include "agent/cuda/descriptors.h"
#include "agent/cuda/device_buffer.h"
#include "agent/cuda/handles.h"
#include "agent/cuda/piece_boxes.h"
#include "common/digest_value.h"

namespace sluice::agent::cuda {

// Pinned memory of the host with one owner. The runtime outlives it.
class PinnedBuffer {
 public:
  static absl::StatusOr<PinnedBuffer> Create(CudaRuntime& runtime, int device,
                                             int64_t bytes);
  PinnedBuffer(PinnedBuffer&& other) noexcept
      : runtime_(std::exchange(other.runtime_, nullptr)),
        device_(other.device_),
        data_(other.data_),
        size_(other.size_) {}
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept;
  ~PinnedBuffer() { Reset(); }

  std::byte* data() const { return static_cast<std::byte*>(data_); }
  int64_t size() const { return size_; }

 private:
  PinnedBuffer(CudaRuntime& runtime, int device, void* data, int64_t size)
      : runtime_(&runtime), device_(device), data_(data), size_(size) {}
  void Reset();

  CudaRuntime* runtime_;  // null: empty
  int device_;
  void* data_;
  int64_t size_;
};

// Boxes that may run in any order, or at once.
struct BoxStage {
  std::vector<RowCopy> rows;  // by copy engines
  BoxList copies = BoxList::ForCopies();
  std::map<std::pair<Element, Element>, BoxList> casts;
  BoxList digests = BoxList::ForDigests();

  BoxList& CastsFor(Element from, Element to) {
    return casts.try_emplace({from, to}, BoxList::ForElements()).first->second;
  }
};

// Used by one thread at a time. After an error, Settle().
class Workspace {
 public:
  // At most `max_blocks` blocks of threads at a time.
  static absl::StatusOr<Workspace> Create(CudaRuntime& runtime, int device,
                                          uint32_t max_blocks);

  const CudaStream& stream() const { return stream_; }
  // Address of at least `bytes` bytes of the device, or of pinned memory, whose
  // content is undefined; until the next call of the same function.
  absl::StatusOr<uint64_t> Scratch(int64_t bytes);
  absl::StatusOr<std::byte*> Bounce(int64_t bytes);

  // Queues the stages, one after the other. Digests are added up in slots
  // [0, num_slots), which Finish returns. Once between two Finish.
  absl::Status Queue(const std::vector<BoxStage>& stages, size_t num_slots);
  // Waits for what was queued.
  absl::StatusOr<std::vector<Digest>> Finish();
  // Waits, whatever comes of it.
  void Settle();

 private:
  Workspace(CudaRuntime& runtime, int device, uint32_t max_blocks,
            CudaStream stream)
      : runtime_(&runtime),
        device_(device),
        max_blocks_(max_blocks),
        stream_(std::move(stream)) {}

  absl::Status Upload(const std::vector<BoxStage>& stages);
  absl::Status CopyRows(const RowCopy& copy);
  absl::Status Launch(const BoxStage& stage, const BoxDescriptor*& at);

  CudaRuntime* runtime_;
  int device_;
  uint32_t max_blocks_;
  size_t num_slots_ = 0;
  std::optional<DeviceBuffer> scratch_, lists_, slots_;
  std::optional<PinnedBuffer> bounce_, pinned_lists_, pinned_slots_;
  CudaStream stream_;  // ends first
};

}  // namespace sluice::agent::cuda

#endif  // SLUICE_AGENT_CUDA_WORKSPACE_H_
