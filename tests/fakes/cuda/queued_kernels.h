#ifndef SLUICE_TESTS_FAKES_CUDA_QUEUED_KERNELS_H_
#define SLUICE_TESTS_FAKES_CUDA_QUEUED_KERNELS_H_

// What a fake runtime queues for copies and kernels: host loops (host_grid.h).

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "agent/cuda/cuda_runtime.h"

namespace sluice::agent::cuda {

// A runtime whose streams run functions in order.
class QueuedKernels : public CudaRuntime {
 public:
  absl::Status LoadKernels() override { return absl::OkStatus(); }
  absl::Status CopyRows(void* dst, int64_t dst_pitch, const void* src,
                        int64_t src_pitch, int64_t width, int64_t rows,
                        StreamHandle stream) override;
  absl::Status Fill(void* dst, uint8_t value, int64_t bytes,
                    StreamHandle stream) override;
  absl::Status CopyBoxes(const BoxBatch& batch, uint32_t max_blocks,
                         StreamHandle stream) override;
  absl::Status CastBoxes(const BoxBatch& batch, Element from, Element to,
                         uint32_t max_blocks, StreamHandle stream) override;
  absl::Status BlendBoxes(const BoxBatch& batch, Element from, Element to,
                          float eta, uint32_t max_blocks,
                          StreamHandle stream) override;
  absl::Status DigestBoxes(const BoxBatch& batch, DigestSlot* slots,
                           uint32_t max_blocks, StreamHandle stream) override;
  absl::Status Quantise(const QuantBatch& batch, Element plain,
                        uint32_t max_blocks, StreamHandle stream) override;
  absl::Status Dequantise(const QuantBatch& batch, Element plain,
                          uint32_t max_blocks, StreamHandle stream) override;
  absl::Status ReadPass(const void* data, int64_t bytes,
                        unsigned long long* sum, uint32_t max_blocks,
                        StreamHandle stream) override;

 protected:
  virtual absl::Status Queue(StreamHandle stream, const char* what,
                             std::function<void()> run) = 0;
};

}  // namespace sluice::agent::cuda

#endif  // SLUICE_TESTS_FAKES_CUDA_QUEUED_KERNELS_H_
