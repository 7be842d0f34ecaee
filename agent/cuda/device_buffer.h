#ifndef SLUICE_AGENT_CUDA_DEVICE_BUFFER_H_
#define SLUICE_AGENT_CUDA_DEVICE_BUFFER_H_

// Plain device memory with one owner, filled from and read into host memory:
// for descriptors, sums and whatever else is small or not hurried.

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/cuda/cuda_runtime.h"
#include "agent/cuda/handles.h"

namespace sluice::agent::cuda {

// The runtime outlives it. Not thread-safe.
class DeviceBuffer {
 public:
  // Errors: INVALID_ARGUMENT - bytes below 1; RESOURCE_EXHAUSTED.
  static absl::StatusOr<DeviceBuffer> Create(CudaRuntime& runtime, int device,
                                             int64_t bytes);
  DeviceBuffer(DeviceBuffer&& other) noexcept
      : runtime_(std::exchange(other.runtime_, nullptr)),
        device_(other.device_),
        data_(other.data_),
        size_(other.size_) {}
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept;
  ~DeviceBuffer() { Reset(); }

  std::byte* data() const { return static_cast<std::byte*>(data_); }
  uint64_t address() const { return reinterpret_cast<uintptr_t>(data_); }
  int64_t size() const { return size_; }

  // Copies between the buffer's first bytes and the host, behind what is queued
  // on the stream; returns when done.
  // Errors: INVALID_ARGUMENT - more bytes than the buffer has.
  absl::Status Upload(const void* from, int64_t bytes,
                      const CudaStream& stream) const;
  absl::Status Download(void* to, int64_t bytes,
                        const CudaStream& stream) const;

 private:
  DeviceBuffer(CudaRuntime& runtime, int device, void* data, int64_t size)
      : runtime_(&runtime), device_(device), data_(data), size_(size) {}
  absl::Status Check(int64_t bytes) const;
  void Reset();

  CudaRuntime* runtime_;  // null: empty
  int device_;
  void* data_;
  int64_t size_;
};

// Returns a buffer with the values; one byte where there are none.
template <typename T>
absl::StatusOr<DeviceBuffer> UploadAll(CudaRuntime& runtime, int device,
                                       const std::vector<T>& values,
                                       const CudaStream& stream) {
  const auto bytes = static_cast<int64_t>(values.size() * sizeof(T));
  absl::StatusOr<DeviceBuffer> buffer =
      DeviceBuffer::Create(runtime, device, bytes == 0 ? 1 : bytes);
  if (!buffer.ok()) return buffer;
  const absl::Status uploaded = buffer->Upload(values.data(), bytes, stream);
  if (!uploaded.ok()) return uploaded;
  return buffer;
}

}  // namespace sluice::agent::cuda

#endif  // SLUICE_AGENT_CUDA_DEVICE_BUFFER_H_
