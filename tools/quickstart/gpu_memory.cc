#include "tools/quickstart/gpu_memory.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/status_macros.h"

namespace sluice::quickstart {
namespace {

using agent::cuda::CudaDevice;
using agent::cuda::CudaEvent;
using agent::cuda::CudaMemory;
using agent::cuda::CudaRuntime;
using agent::cuda::CudaStream;
using agent::cuda::EventKind;
using agent::cuda::IpcHandle;
using agent::cuda::SharedRange;

std::string ToBytes(const IpcHandle& handle) {
  return std::string(handle.begin(), handle.end());
}

// An event of an agent that has died is never reached.
constexpr absl::Duration kPatience = absl::Seconds(30);
constexpr absl::Duration kPause = absl::Microseconds(200);

absl::Status AwaitHandOver(CudaMemory& memory) {
  const absl::Time limit = absl::Now() + kPatience;
  while (true) {
    SLUICE_ASSIGN_OR_RETURN(const bool there, memory.IsHandedOver());
    if (there) return absl::OkStatus();
    if (absl::Now() > limit) {
      return absl::DeadlineExceededError(absl::StrCat(
          "the agent's GPU has not ended in ", absl::FormatDuration(kPatience),
          " what it wrote to the version that was pinned"));
    }
    absl::SleepFor(kPause);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<GpuWeights>> GpuWeights::Allocate(
    CudaRuntime& runtime, int device, int64_t bytes) {
  SLUICE_ASSIGN_OR_RETURN(const auto gpu, CudaDevice::Open(&runtime, device));
  SLUICE_ASSIGN_OR_RETURN(auto memory, gpu->AllocateArena(bytes, "weights"));
  SLUICE_ASSIGN_OR_RETURN(CudaStream stream,
                          CudaStream::Create(runtime, device));
  SLUICE_ASSIGN_OR_RETURN(
      CudaEvent written,
      CudaEvent::Create(runtime, device, EventKind::kInterprocess));
  SLUICE_ASSIGN_OR_RETURN(const SharedRange range, memory->Share());
  SLUICE_ASSIGN_OR_RETURN(const IpcHandle event, written.Export());
  DeviceBytes lent = {ToBytes(range.handle), range.offset_bytes,
                      range.size_bytes, ToBytes(event)};
  return std::unique_ptr<GpuWeights>(
      new GpuWeights(runtime, device, std::move(memory), std::move(stream),
                     std::move(written), std::move(lent)));
}

absl::Status GpuWeights::Update(
    const std::function<absl::Status(std::byte* data, int64_t bytes)>& change) {
  SLUICE_RETURN_IF_ERROR(runtime_.Use(device_));
  std::vector<std::byte> copy(static_cast<size_t>(size()));
  SLUICE_RETURN_IF_ERROR(
      runtime_.Copy(copy.data(), memory_->data(), size(), stream_.get()));
  SLUICE_RETURN_IF_ERROR(runtime_.Synchronize(stream_.get()));
  SLUICE_RETURN_IF_ERROR(change(copy.data(), size()));
  // Memory that is not pinned has been read when the call returns.
  SLUICE_RETURN_IF_ERROR(
      runtime_.Copy(memory_->data(), copy.data(), size(), stream_.get()));
  return written_.Record(stream_);
}

absl::StatusOr<std::vector<std::byte>> ReadGpu(CudaRuntime& runtime, int device,
                                               const DeviceBytes& held) {
  SLUICE_ASSIGN_OR_RETURN(const auto gpu, CudaDevice::Open(&runtime, device));
  SLUICE_ASSIGN_OR_RETURN(const IpcHandle handle,
                          agent::cuda::ToHandle(held.handle));
  SLUICE_ASSIGN_OR_RETURN(
      const std::shared_ptr<CudaMemory> memory,
      gpu->AdoptRange(SharedRange{handle, held.offset_bytes, held.size_bytes},
                      held.event));
  SLUICE_RETURN_IF_ERROR(runtime.Use(device));
  SLUICE_ASSIGN_OR_RETURN(const CudaStream stream,
                          CudaStream::Create(runtime, device));
  SLUICE_RETURN_IF_ERROR(AwaitHandOver(*memory));
  std::vector<std::byte> out(static_cast<size_t>(held.size_bytes));
  SLUICE_RETURN_IF_ERROR(
      runtime.Copy(out.data(), memory->data(), held.size_bytes, stream.get()));
  SLUICE_RETURN_IF_ERROR(runtime.Synchronize(stream.get()));
  return out;
}

}  // namespace sluice::quickstart
