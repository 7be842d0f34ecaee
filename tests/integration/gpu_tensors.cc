#include "tests/integration/gpu_tensors.h"

#include <algorithm>
#include <cstddef>
#include <string>

#include "agent/cuda/cuda_device.h"
#include "common/status_macros.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {
namespace {

namespace cuda = agent::cuda;

class PinnedBytes final : public SharedBytes {
 public:
  PinnedBytes(void* data, int64_t size) : data_(data), size_(size) {}
  std::byte* data() const override { return static_cast<std::byte*>(data_); }
  int64_t size() const override { return size_; }

 private:
  void* const data_;
  const int64_t size_;
};

std::string BytesOf(const cuda::IpcHandle& handle) {
  return std::string(handle.begin(), handle.end());
}

}  // namespace

absl::StatusOr<WorkerGpu> WorkerGpu::Open(cuda::CudaRuntime& runtime,
                                          int device) {
  SLUICE_ASSIGN_OR_RETURN(auto stream,
                          cuda::CudaStream::Create(runtime, device));
  SLUICE_ASSIGN_OR_RETURN(
      auto event,
      cuda::CudaEvent::Create(runtime, device, cuda::EventKind::kInterprocess));
  return WorkerGpu(runtime, device, std::move(stream), std::move(event));
}

absl::StatusOr<GpuMemory> WorkerGpu::Describe(const void* memory,
                                              int64_t bytes) {
  SLUICE_RETURN_IF_ERROR(Use());
  SLUICE_ASSIGN_OR_RETURN(const cuda::SharedRange range,
                          cuda::ShareRange(*runtime_, memory, bytes));
  SLUICE_ASSIGN_OR_RETURN(const cuda::DeviceInfo info,
                          runtime_->Describe(device_));
  SLUICE_ASSIGN_OR_RETURN(const cuda::IpcHandle event, event_.Export());
  return GpuMemory{BytesOf(range.handle), range.offset_bytes, range.size_bytes,
                   info.pci_bus_id, BytesOf(event)};
}

GpuTensors::GpuTensors(WorkerGpu& gpu, ReduceGroup& group, v1::DType dtype,
                       int64_t numel)
    : gpu_(gpu), group_(group) {
  const auto members = static_cast<int64_t>(group.members().size());
  bytes_ = (members + 1) * numel * ElementBytes(dtype);
  REQUIRE_OK(gpu_.Use());
  REQUIRE_OK_AND_ASSIGN(pinned_, gpu_.runtime().AllocatePinned(bytes_));
  REQUIRE_OK_AND_ASSIGN(device_, gpu_.runtime().Allocate(bytes_));
  host_ = Tensors{dtype, numel, members,
                  std::make_shared<PinnedBytes>(pinned_, bytes_)};
  REQUIRE_OK_AND_ASSIGN(const GpuMemory memory, gpu_.Describe(device_, bytes_));
  REQUIRE_OK_AND_ASSIGN(lent_, group.LendGpu(memory));
}

GpuTensors::~GpuTensors() {
  // Of a group that is over it was taken already.
  (void)group_.Release(lent_);
  (void)gpu_.Use();
  (void)gpu_.runtime().Free(device_);
  (void)gpu_.runtime().FreePinned(pinned_);
}

void GpuTensors::Fill(int rank, int64_t delay_ns) {
  std::fill_n(host_->memory->data(), bytes_, std::byte{0x55});
  host_->Fill(rank);
  REQUIRE_OK(gpu_.Use());
  if (delay_ns > 0) {
    REQUIRE_OK(gpu_.runtime().Delay(delay_ns, gpu_.stream().get()));
  }
  REQUIRE_OK(
      gpu_.runtime().Copy(device_, pinned_, bytes_, gpu_.stream().get()));
  REQUIRE_OK(gpu_.event().Record(gpu_.stream()));
}

SharedTensor GpuTensors::Tensor(int64_t index) const {
  return {lent_,
          index * host_->numel * ElementBytes(host_->dtype),
          {host_->numel},
          host_->dtype};
}

std::vector<SharedTensor> GpuTensors::Inputs() const {
  std::vector<SharedTensor> inputs;
  for (int64_t m = 0; m < host_->members; ++m) inputs.push_back(Tensor(m));
  return inputs;
}

bool GpuTensors::IsReduced(int self, int64_t divisor) {
  REQUIRE_OK(gpu_.Use());
  cuda::IpcHandle handle{};
  REQUIRE(group_.ready_event().size() == handle.size());
  std::copy(group_.ready_event().begin(), group_.ready_event().end(),
            handle.begin());
  REQUIRE_OK_AND_ASSIGN(const cuda::EventHandle ready,
                        gpu_.runtime().ImportEvent(handle));
  REQUIRE_OK(gpu_.runtime().Wait(gpu_.stream().get(), ready));
  REQUIRE_OK(
      gpu_.runtime().Copy(pinned_, device_, bytes_, gpu_.stream().get()));
  REQUIRE_OK(gpu_.runtime().Synchronize(gpu_.stream().get()));
  REQUIRE_OK(gpu_.runtime().DestroyEvent(ready));
  return host_->IsReduced(self, divisor);
}

}  // namespace sluice::testing
