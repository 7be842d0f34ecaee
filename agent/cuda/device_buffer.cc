#include "agent/cuda/device_buffer.h"

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace sluice::agent::cuda {

absl::StatusOr<DeviceBuffer> DeviceBuffer::Create(CudaRuntime& runtime,
                                                  int device, int64_t bytes) {
  if (bytes < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("buffer of ", bytes, " bytes: expected at least 1"));
  }
  SLUICE_RETURN_IF_ERROR(runtime.Use(device));
  SLUICE_ASSIGN_OR_RETURN(void* data, runtime.Allocate(bytes));
  return DeviceBuffer(runtime, device, data, bytes);
}

DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
  if (this != &other) {
    Reset();
    runtime_ = std::exchange(other.runtime_, nullptr);
    device_ = other.device_;
    data_ = other.data_;
    size_ = other.size_;
  }
  return *this;
}

void DeviceBuffer::Reset() {
  if (runtime_ == nullptr) return;
  absl::Status status = runtime_->Use(device_);
  status.Update(runtime_->Free(data_));  // waits for what is queued
  if (!status.ok()) LogWarn("GPU buffer not freed", {{"status", status}});
  runtime_ = nullptr;
}

absl::Status DeviceBuffer::Check(int64_t bytes) const {
  if (bytes >= 0 && bytes <= size_) return runtime_->Use(device_);
  return absl::InvalidArgumentError(absl::StrCat(
      bytes, " bytes of a buffer of ", size_, " bytes on the GPU"));
}

absl::Status DeviceBuffer::Upload(const void* from, int64_t bytes,
                                  const CudaStream& stream) const {
  SLUICE_RETURN_IF_ERROR(Check(bytes));
  if (bytes == 0) return absl::OkStatus();
  SLUICE_RETURN_IF_ERROR(runtime_->Copy(data_, from, bytes, stream.get()));
  return runtime_->Synchronize(stream.get());
}

absl::Status DeviceBuffer::Download(void* to, int64_t bytes,
                                    const CudaStream& stream) const {
  SLUICE_RETURN_IF_ERROR(Check(bytes));
  if (bytes == 0) return absl::OkStatus();
  SLUICE_RETURN_IF_ERROR(runtime_->Copy(to, data_, bytes, stream.get()));
  return runtime_->Synchronize(stream.get());
}

}  // namespace sluice::agent::cuda
