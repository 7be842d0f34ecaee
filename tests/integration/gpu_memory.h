#ifndef SLUICE_TESTS_INTEGRATION_GPU_MEMORY_H_
#define SLUICE_TESTS_INTEGRATION_GPU_MEMORY_H_

// A worker's side of memory on a GPU: what it lends, what it reads of pins,
// with the events that hand it over.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/cuda/cuda_device.h"
#include "agent/cuda/cuda_runtime.h"
#include "agent/cuda/handles.h"
#include "client/cpp/worker.h"

namespace sluice::testing {

// One GPU as a process has it; the runtime outlives it. Not thread-safe.
class GpuOfWorker {
 public:
  static absl::StatusOr<std::unique_ptr<GpuOfWorker>> Open(
      agent::cuda::CudaRuntime& runtime, int device = 0);

  // Memory of this process, with an event of its own, to be lent.
  struct Lent {
    std::shared_ptr<agent::MappedMemory> memory;
    DeviceBytes bytes;
  };
  absl::StatusOr<Lent> Allocate(int64_t bytes);
  // Queues a kernel that takes `delay_ns`, then the writing of `content`, then
  // the event's record. Returns at once.
  absl::Status Write(const Lent& to, const std::vector<std::byte>& content,
                     int64_t delay_ns);

  // Maps a pin's memory, waits for its event on the stream, and copies it.
  absl::StatusOr<std::vector<std::byte>> Read(PinnedVersion& pin);

 private:
  GpuOfWorker(agent::cuda::CudaRuntime& runtime, int index,
              std::unique_ptr<agent::cuda::CudaDevice> device,
              agent::cuda::CudaStream stream, agent::cuda::CudaEvent written,
              agent::cuda::CudaEvent read)
      : runtime_(runtime),
        index_(index),
        device_(std::move(device)),
        stream_(std::move(stream)),
        written_(std::move(written)),
        read_(std::move(read)) {}

  absl::StatusOr<agent::cuda::CudaEvent> Import(const std::string& event);

  agent::cuda::CudaRuntime& runtime_;
  const int index_;
  std::unique_ptr<agent::cuda::CudaDevice> device_;
  agent::cuda::CudaStream stream_;
  agent::cuda::CudaEvent written_, read_;
  std::shared_ptr<agent::MappedMemory> staged_;  // of the last Write
};

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_INTEGRATION_GPU_MEMORY_H_
