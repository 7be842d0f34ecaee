#ifndef SLUICE_AGENT_CUDA_CUDA_DEVICE_H_
#define SLUICE_AGENT_CUDA_CUDA_DEVICE_H_

// The memory of one GPU: arenas of its own that other processes can map, and
// memory that other processes lend.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "agent/cuda/cuda_runtime.h"
#include "agent/cuda/handles.h"
#include "agent/device/device.h"
#include "agent/device/mapped_memory.h"
#include "agent/device/unique_fd.h"
#include "common/mutex.h"

namespace sluice::agent::cuda {

// How another process finds bytes of a GPU: the handle of their allocation, and
// where in it they lie.
struct SharedRange {
  IpcHandle handle{};
  int64_t offset_bytes = 0;
  int64_t size_bytes = 0;
};

// Returns how other processes find [memory, memory + bytes) of the current
// device; used by agents for their arenas and by workers for what they lend.
// Errors: INVALID_ARGUMENT - not in one allocation of the GPU;
// FAILED_PRECONDITION - the allocation cannot be exported (virtual memory, as
// PyTorch's expandable segments, or a pool), with what to set.
absl::StatusOr<SharedRange> ShareRange(CudaRuntime& runtime, const void* memory,
                                       int64_t bytes);

// Device memory: data() is an address of the GPU, for its kernels and copies
// only. Freed or unmapped when the last owner lets go, after the device has
// ended all that was queued on it.
class CudaMemory : public MappedMemory {
 public:
  // The GPU it lies on (or is mapped for).
  virtual int device() const = 0;
  // As ShareRange; memory of another process is shown by its owner's handle.
  virtual absl::StatusOr<SharedRange> Share() const = 0;
  MemorySpace space() const override { return MemorySpace::kDevice; }

  // Hand-over to others: after a writing was queued, those that are told of it
  // can wait for it. From others: IsHandedOver.
  virtual absl::Status AfterWriting(const CudaStream& stream) = 0;
  absl::StatusOr<bool> IsHandedOver() override;
  // Errors: also as CudaEvent::Import.
  absl::Status HoldBackFor(absl::string_view event,
                           std::weak_ptr<const void> reader) override;

 protected:
  // `lender`: the event that its lender records behind what it writes.
  CudaMemory(CudaRuntime* runtime, int device,
             std::optional<CudaEvent> lender = std::nullopt)
      : runtime_(runtime), index_(device), lender_(std::move(lender)) {}

 private:
  struct Read {
    CudaEvent over;
    std::weak_ptr<const void> reader;
  };
  // Forgets the reads that are over.
  void DropOverLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(reads_mutex_);

  CudaRuntime* const runtime_;
  const int index_;
  const std::optional<CudaEvent> lender_;
  Mutex reads_mutex_;
  std::vector<Read> reads_ ABSL_GUARDED_BY(reads_mutex_);
};

// Errors: INVALID_ARGUMENT - not of 64 bytes.
absl::StatusOr<IpcHandle> ToHandle(absl::string_view bytes);

// Thread-safe. The runtime outlives the device and all memory.
class CudaDevice final : public Device {
 public:
  // Errors: INVALID_ARGUMENT - there is no such GPU; FAILED_PRECONDITION - its
  // compute capability is below the kernels' (8.0).
  static absl::StatusOr<std::unique_ptr<CudaDevice>> Open(CudaRuntime* runtime,
                                                          int device);
  ~CudaDevice() override;

  std::string Kind() const override { return "cuda"; }
  const DeviceInfo& info() const { return info_; }

  // An arena, for other processes to map; its content is undefined.
  absl::StatusOr<std::shared_ptr<MappedMemory>> Allocate(
      int64_t bytes, absl::string_view label) override;
  // As Allocate, with its own type.
  absl::StatusOr<std::shared_ptr<CudaMemory>> AllocateArena(
      int64_t bytes, absl::string_view label);
  // Always INVALID_ARGUMENT: a descriptor is memory of the host.
  absl::StatusOr<std::shared_ptr<MappedMemory>> Adopt(
      UniqueFd descriptor) override;
  // Maps what another process lends; ranges of one allocation share a mapping.
  // Errors: INVALID_ARGUMENT - the handle is none, its process has ended or is
  // this one, or the range is not inside the allocation.
  absl::StatusOr<std::shared_ptr<CudaMemory>> AdoptRange(
      const SharedRange& range, absl::string_view event = {});
  absl::StatusOr<std::shared_ptr<MappedMemory>> AdoptRange(
      const DeviceRange& range) override;

 private:
  class Arena;
  class Import;
  class ImportedRange;

  CudaDevice(CudaRuntime* runtime, int device, DeviceInfo info);
  absl::StatusOr<std::shared_ptr<Import>> FindOrMap(const IpcHandle& handle)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  CudaRuntime* const runtime_;
  const int device_;
  const DeviceInfo info_;
  Mutex mutex_;
  // Mappings in use, by handle; entries of ended ones go with the next lookup.
  absl::flat_hash_map<std::string, std::weak_ptr<Import>> imports_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice::agent::cuda

#endif  // SLUICE_AGENT_CUDA_CUDA_DEVICE_H_
