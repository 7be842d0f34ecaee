#ifndef SLUICE_AGENT_CUDA_CUDA_RUNTIME_H_
#define SLUICE_AGENT_CUDA_CUDA_RUNTIME_H_

// The seam to the CUDA runtime and to our kernels: everything that touches a
// GPU goes through it, so that life-cycles are tested on a machine without one
// (tests/fakes/cuda). Made by LoadCudaRuntime (load_cuda_runtime.h).
//
// Pointers are addresses in unified addressing; memory of the device is never
// read through them by the host. Errors are those of cuda_status.h. Work that
// is queued on a stream may report an earlier failure of that stream's device.
//
// Thread-safe. A thread calls Use(device) before anything that concerns a
// device: the current one belongs to the thread.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/cuda/descriptors.h"

namespace sluice::agent::cuda {

using StreamHandle = void*;  // cudaStream_t
using EventHandle = void*;   // cudaEvent_t

// What travels between processes for them to share memory or events.
inline constexpr size_t kIpcHandleBytes = 64;
using IpcHandle = std::array<char, kIpcHandleBytes>;

struct DeviceInfo {
  std::string name;
  int major = 0;  // compute capability
  int minor = 0;
  int multiprocessors = 0;
  int64_t memory_bytes = 0;
  std::string pci_bus_id;  // "0000:3b:00.0"
};

struct MemoryBounds {
  void* base = nullptr;
  int64_t bytes = 0;
};

enum class EventKind {
  kPlain,         // order only
  kTimed,         // Elapsed may be asked
  kInterprocess,  // can be exported
};

class CudaRuntime {
 public:
  virtual ~CudaRuntime() = default;

  // `tell` is called once, with the error after which every call fails
  // (IsContextLost), on the thread that meets it. To be set before any call.
  void OnContextLost(std::function<void(const absl::Status&)> tell) {
    tell_lost_ = std::move(tell);
  }

  // ---- Devices
  virtual absl::StatusOr<int> DeviceCount() = 0;
  // As in cudaRuntimeGetVersion: 13000 is 13.0.
  virtual absl::StatusOr<int> RuntimeVersion() = 0;
  // The newest CUDA that the driver knows; 0 without one.
  virtual absl::StatusOr<int> DriverVersion() = 0;
  virtual absl::StatusOr<DeviceInfo> Describe(int device) = 0;
  virtual absl::Status Use(int device) = 0;
  // Whether `device` can read the memory of `peer` without the host.
  virtual absl::StatusOr<bool> CanAccessPeer(int device, int peer) = 0;
  // Whether contexts on the device are shared by MPS, the server that lets
  // kernels of several processes run at once.
  virtual absl::StatusOr<bool> UsesMps(int device) = 0;
  // Bytes of the device that all processes use; makes no context.
  // UNIMPLEMENTED where the driver's management library is not found.
  virtual absl::StatusOr<int64_t> MemoryInUse(int device) = 0;
  // Gets every kernel ready, so that no launch has to wait for what runs.
  virtual absl::Status LoadKernels() = 0;
  // Waits until all that was queued on the current device has ended.
  virtual absl::Status SynchronizeDevice() = 0;

  // ---- Memory of the current device, and pinned memory of the host
  virtual absl::StatusOr<void*> Allocate(int64_t bytes) = 0;
  virtual absl::Status Free(void* memory) = 0;
  virtual absl::StatusOr<void*> AllocatePinned(int64_t bytes) = 0;
  virtual absl::Status FreePinned(void* memory) = 0;
  // Pins memory of the host that this process has mapped, until Unpin, which
  // comes before it is unmapped.
  virtual absl::Status Pin(void* memory, int64_t bytes) = 0;
  virtual absl::Status Unpin(void* memory) = 0;
  // The allocation that a device address lies in.
  virtual absl::StatusOr<MemoryBounds> BoundsOf(const void* address) = 0;

  // ---- Memory and events of other processes
  // `base` is an allocation's first byte. INVALID_ARGUMENT also for memory that
  // cannot be exported.
  virtual absl::StatusOr<IpcHandle> ExportMemory(void* base) = 0;
  // Maps another process's allocation; not one of this process.
  virtual absl::StatusOr<void*> ImportMemory(const IpcHandle& handle) = 0;
  virtual absl::Status CloseImported(void* base) = 0;
  virtual absl::StatusOr<IpcHandle> ExportEvent(EventHandle event) = 0;
  virtual absl::StatusOr<EventHandle> ImportEvent(const IpcHandle& handle) = 0;

  // ---- Streams and events
  virtual absl::StatusOr<StreamHandle> CreateStream() = 0;
  virtual absl::Status DestroyStream(StreamHandle stream) = 0;
  virtual absl::Status Synchronize(StreamHandle stream) = 0;
  virtual absl::StatusOr<EventHandle> CreateEvent(EventKind kind) = 0;
  virtual absl::Status DestroyEvent(EventHandle event) = 0;
  virtual absl::Status Record(EventHandle event, StreamHandle stream) = 0;
  // What is queued on the stream from now on waits for the event's last Record.
  virtual absl::Status Wait(StreamHandle stream, EventHandle event) = 0;
  // Whether the event's last Record has been reached.
  virtual absl::StatusOr<bool> IsDone(EventHandle event) = 0;
  virtual absl::StatusOr<double> ElapsedSeconds(EventHandle from,
                                                EventHandle to) = 0;

  // ---- Copies, queued; between any two memories
  virtual absl::Status Copy(void* dst, const void* src, int64_t bytes,
                            StreamHandle stream) = 0;
  // Rows of `width` bytes by the copy engines.
  virtual absl::Status CopyRows(void* dst, int64_t dst_pitch, const void* src,
                                int64_t src_pitch, int64_t width, int64_t rows,
                                StreamHandle stream) = 0;
  virtual absl::Status Fill(void* dst, uint8_t value, int64_t bytes,
                            StreamHandle stream) = 0;

  // ---- Kernels, queued; see kernels.h
  virtual absl::Status CopyBoxes(const BoxBatch& batch, uint32_t max_blocks,
                                 StreamHandle stream) = 0;
  virtual absl::Status CastBoxes(const BoxBatch& batch, Element from,
                                 Element to, uint32_t max_blocks,
                                 StreamHandle stream) = 0;
  virtual absl::Status BlendBoxes(const BoxBatch& batch, Element from,
                                  Element to, float eta, uint32_t max_blocks,
                                  StreamHandle stream) = 0;
  virtual absl::Status DigestBoxes(const BoxBatch& batch, DigestSlot* slots,
                                   uint32_t max_blocks,
                                   StreamHandle stream) = 0;
  virtual absl::Status Quantise(const QuantBatch& batch, Element plain,
                                uint32_t max_blocks, StreamHandle stream) = 0;
  virtual absl::Status Dequantise(const QuantBatch& batch, Element plain,
                                  uint32_t max_blocks, StreamHandle stream) = 0;
  virtual absl::Status ReadPass(const void* data, int64_t bytes,
                                unsigned long long* sum, uint32_t max_blocks,
                                StreamHandle stream) = 0;
  virtual absl::Status Delay(int64_t nanoseconds, StreamHandle stream) = 0;

 protected:
  void TellLost(const absl::Status& status) {
    if (tell_lost_ && !told_lost_.exchange(true)) tell_lost_(status);
  }

 private:
  std::function<void(const absl::Status&)> tell_lost_;
  std::atomic<bool> told_lost_ = false;
};

}  // namespace sluice::agent::cuda

#endif  // SLUICE_AGENT_CUDA_CUDA_RUNTIME_H_
