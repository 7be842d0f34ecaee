#include "agent/cuda/handles.h"

#include "common/logging.h"
#include "common/status_macros.h"

namespace sluice::agent::cuda {
namespace {

// A destructor has nobody to tell.
void WarnIfFailed(const absl::Status& status) {
  if (!status.ok()) LogWarn("CUDA handle not ended", {{"status", status}});
}

}  // namespace

absl::StatusOr<CudaStream> CudaStream::Create(CudaRuntime& runtime,
                                              int device) {
  SLUICE_RETURN_IF_ERROR(runtime.Use(device));
  SLUICE_ASSIGN_OR_RETURN(StreamHandle stream, runtime.CreateStream());
  return CudaStream(runtime, device, stream);
}

CudaStream& CudaStream::operator=(CudaStream&& other) noexcept {
  if (this != &other) {
    Reset();
    runtime_ = std::exchange(other.runtime_, nullptr);
    device_ = other.device_;
    stream_ = other.stream_;
  }
  return *this;
}

void CudaStream::Reset() {
  if (runtime_ == nullptr) return;
  WarnIfFailed(runtime_->Use(device_));
  WarnIfFailed(runtime_->DestroyStream(stream_));
  runtime_ = nullptr;
}

absl::StatusOr<CudaEvent> CudaEvent::Create(CudaRuntime& runtime, int device,
                                            EventKind kind) {
  SLUICE_RETURN_IF_ERROR(runtime.Use(device));
  SLUICE_ASSIGN_OR_RETURN(EventHandle event, runtime.CreateEvent(kind));
  return CudaEvent(runtime, device, event);
}

absl::StatusOr<CudaEvent> CudaEvent::Import(CudaRuntime& runtime, int device,
                                            const IpcHandle& handle) {
  SLUICE_RETURN_IF_ERROR(runtime.Use(device));
  SLUICE_ASSIGN_OR_RETURN(EventHandle event, runtime.ImportEvent(handle));
  return CudaEvent(runtime, device, event);
}

CudaEvent& CudaEvent::operator=(CudaEvent&& other) noexcept {
  if (this != &other) {
    Reset();
    runtime_ = std::exchange(other.runtime_, nullptr);
    device_ = other.device_;
    event_ = other.event_;
  }
  return *this;
}

void CudaEvent::Reset() {
  if (runtime_ == nullptr) return;
  WarnIfFailed(runtime_->Use(device_));
  WarnIfFailed(runtime_->DestroyEvent(event_));
  runtime_ = nullptr;
}

absl::StatusOr<IpcHandle> CudaEvent::Export() const {
  SLUICE_RETURN_IF_ERROR(runtime_->Use(device_));
  return runtime_->ExportEvent(event_);
}

absl::Status CudaEvent::Record(const CudaStream& stream) const {
  SLUICE_RETURN_IF_ERROR(runtime_->Use(device_));
  return runtime_->Record(event_, stream.get());
}

absl::Status CudaEvent::HoldBack(const CudaStream& stream) const {
  SLUICE_RETURN_IF_ERROR(runtime_->Use(device_));
  return runtime_->Wait(stream.get(), event_);
}

absl::StatusOr<bool> CudaEvent::IsDone() const {
  SLUICE_RETURN_IF_ERROR(runtime_->Use(device_));
  return runtime_->IsDone(event_);
}

}  // namespace sluice::agent::cuda
