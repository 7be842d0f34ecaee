#include "tests/integration/gpu_memory.h"

#include "common/status_macros.h"

namespace sluice::testing {
namespace {

using agent::cuda::CudaDevice;
using agent::cuda::CudaEvent;
using agent::cuda::CudaStream;
using agent::cuda::EventKind;
using agent::cuda::IpcHandle;

std::string ToBytes(const IpcHandle& handle) {
  return std::string(handle.begin(), handle.end());
}

}  // namespace

absl::StatusOr<std::unique_ptr<GpuOfWorker>> GpuOfWorker::Open(
    agent::cuda::CudaRuntime& runtime, int device) {
  SLUICE_ASSIGN_OR_RETURN(auto gpu, CudaDevice::Open(&runtime, device));
  SLUICE_ASSIGN_OR_RETURN(CudaStream stream,
                          CudaStream::Create(runtime, device));
  SLUICE_ASSIGN_OR_RETURN(
      CudaEvent written,
      CudaEvent::Create(runtime, device, EventKind::kInterprocess));
  SLUICE_ASSIGN_OR_RETURN(
      CudaEvent read,
      CudaEvent::Create(runtime, device, EventKind::kInterprocess));
  return std::unique_ptr<GpuOfWorker>(
      new GpuOfWorker(runtime, device, std::move(gpu), std::move(stream),
                      std::move(written), std::move(read)));
}

absl::StatusOr<GpuOfWorker::Lent> GpuOfWorker::Allocate(int64_t bytes) {
  SLUICE_ASSIGN_OR_RETURN(auto memory, device_->AllocateArena(bytes, "lent"));
  SLUICE_ASSIGN_OR_RETURN(const auto range, memory->Share());
  SLUICE_ASSIGN_OR_RETURN(const IpcHandle event, written_.Export());
  Lent lent;
  lent.memory = std::move(memory);
  lent.bytes = {ToBytes(range.handle), range.offset_bytes, range.size_bytes,
                ToBytes(event)};
  return lent;
}

absl::Status GpuOfWorker::Write(const Lent& to,
                                const std::vector<std::byte>& content,
                                int64_t delay_ns) {
  SLUICE_RETURN_IF_ERROR(runtime_.Use(index_));
  const auto bytes = static_cast<int64_t>(content.size());
  // From memory of the device: a copy from the host's would wait.
  SLUICE_ASSIGN_OR_RETURN(auto staged, device_->AllocateArena(bytes, "staged"));
  SLUICE_RETURN_IF_ERROR(
      runtime_.Copy(staged->data(), content.data(), bytes, stream_.get()));
  SLUICE_RETURN_IF_ERROR(runtime_.Delay(delay_ns, stream_.get()));
  SLUICE_RETURN_IF_ERROR(
      runtime_.Copy(to.memory->data(), staged->data(), bytes, stream_.get()));
  SLUICE_RETURN_IF_ERROR(written_.Record(stream_));
  // Freed when the stream has come to its end.
  staged_ = std::move(staged);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::byte>> GpuOfWorker::Read(PinnedVersion& pin) {
  const DeviceBytes& bytes = *pin.device();
  SLUICE_ASSIGN_OR_RETURN(
      const auto memory,
      device_->AdoptRange(agent::DeviceRange{bytes.handle, bytes.offset_bytes,
                                             bytes.size_bytes, bytes.event}));
  SLUICE_ASSIGN_OR_RETURN(const CudaEvent written, Import(bytes.event));
  SLUICE_RETURN_IF_ERROR(written.HoldBack(stream_));
  std::vector<std::byte> out(static_cast<size_t>(memory->size()));
  SLUICE_RETURN_IF_ERROR(
      runtime_.Copy(out.data(), memory->data(), memory->size(), stream_.get()));
  SLUICE_RETURN_IF_ERROR(read_.Record(stream_));
  SLUICE_ASSIGN_OR_RETURN(const IpcHandle event, read_.Export());
  pin.SetReadEvent(ToBytes(event));
  return out;
}

absl::StatusOr<CudaEvent> GpuOfWorker::Import(const std::string& event) {
  SLUICE_ASSIGN_OR_RETURN(const IpcHandle handle, agent::cuda::ToHandle(event));
  return CudaEvent::Import(runtime_, index_, handle);
}

}  // namespace sluice::testing
