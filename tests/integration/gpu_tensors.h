#ifndef SLUICE_TESTS_INTEGRATION_GPU_TENSORS_H_
#define SLUICE_TESTS_INTEGRATION_GPU_TENSORS_H_

// What a rank of a test gives to a reduce-scatter of GPUs: tensors that its
// worker has on a device, lent to its agent by CUDA IPC. Whoever does not wait
// for the worker's event reads them before they are written, and who looks at
// results before the agent's event finds old bytes.

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/cuda/cuda_runtime.h"
#include "agent/cuda/handles.h"
#include "client/cpp/reduce_group.h"
#include "proto/sluice/v1/tensor.pb.h"
#include "tests/integration/reduce_tensors.h"

namespace sluice::testing {

// A worker's GPU and its stream; the runtime outlives it and all tensors.
class WorkerGpu {
 public:
  static absl::StatusOr<WorkerGpu> Open(agent::cuda::CudaRuntime& runtime,
                                        int device);

  agent::cuda::CudaRuntime& runtime() { return *runtime_; }
  const agent::cuda::CudaStream& stream() const { return stream_; }
  const agent::cuda::CudaEvent& event() const { return event_; }
  // Makes it the thread's device.
  absl::Status Use() { return runtime_->Use(device_); }
  // What a worker tells of memory of this device, [memory, memory + bytes).
  absl::StatusOr<GpuMemory> Describe(const void* memory, int64_t bytes);

 private:
  WorkerGpu(agent::cuda::CudaRuntime& runtime, int device,
            agent::cuda::CudaStream stream, agent::cuda::CudaEvent event)
      : runtime_(&runtime),
        device_(device),
        stream_(std::move(stream)),
        event_(std::move(event)) {}

  agent::cuda::CudaRuntime* runtime_;
  int device_;
  agent::cuda::CudaStream stream_;
  agent::cuda::CudaEvent event_;  // exported
};

// The tensors of one reduce-scatter on one rank, one after the other.
class GpuTensors {
 public:
  // Everything outlives it. Fails the test where it cannot be made.
  GpuTensors(WorkerGpu& gpu, ReduceGroup& group, v1::DType dtype,
             int64_t numel);
  ~GpuTensors();
  GpuTensors(const GpuTensors&) = delete;
  GpuTensors& operator=(const GpuTensors&) = delete;

  // Queues what Tensors::Fill writes behind a kernel that takes `delay_ns`.
  // Returns at once.
  void Fill(int rank, int64_t delay_ns = 0);
  std::vector<SharedTensor> Inputs() const;
  SharedTensor Output() const { return Tensor(host_->members); }
  // As Tensors::IsReduced, of what lies on the device behind the agent's event.
  bool IsReduced(int self, int64_t divisor = 1);

 private:
  SharedTensor Tensor(int64_t index) const;

  WorkerGpu& gpu_;
  ReduceGroup& group_;
  // As they are on the host, in pinned memory.
  std::optional<Tensors> host_;
  int64_t bytes_ = 0;
  void* pinned_ = nullptr;
  void* device_ = nullptr;
  std::shared_ptr<SharedBytes> lent_;
};

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_INTEGRATION_GPU_TENSORS_H_
