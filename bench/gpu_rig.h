#ifndef SLUICE_BENCH_GPU_RIG_H_
#define SLUICE_BENCH_GPU_RIG_H_

// Memories, stream and events of a GPU bench, and what a case consists of.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/cuda/box_list.h"
#include "agent/cuda/cuda_runtime.h"
#include "agent/cuda/descriptors.h"
#include "agent/cuda/device_buffer.h"
#include "agent/cuda/handles.h"
#include "bench/gpu_cases.h"

namespace sluice::bench {

using HostBytes = std::vector<uint8_t>;

// A case: launch() is timed; before it the destination is poisoned, after it
// verify() looks at what a last launch has written.
struct GpuCase {
  std::string name;
  bool beside_read = false;  // compared with a read pass instead of a copy
  double goal = 0;
  int64_t bytes = 0;  // read plus written by a launch
  std::function<absl::Status()> launch;
  std::function<absl::Status()> verify;
};

class GpuRig {
 public:
  static absl::StatusOr<std::unique_ptr<GpuRig>> Create(
      const GpuBenchOptions& options);

  const GpuBenchOptions& options() const { return options_; }
  agent::cuda::CudaRuntime& runtime() const { return *options_.runtime; }
  agent::cuda::StreamHandle stream() const { return stream_.get(); }
  uint32_t max_blocks() const { return max_blocks_; }
  // Random bytes, on the GPU and on the host; and where cases write: twice
  // options().bytes.
  const agent::cuda::DeviceBuffer& source() const { return source_; }
  const HostBytes& source_bytes() const { return source_bytes_; }
  const agent::cuda::DeviceBuffer& target() const { return target_; }

  absl::StatusOr<HostBytes> Download(int64_t bytes) const;
  absl::Status Poison() const;
  // Seconds of one launch.
  absl::StatusOr<double> Time(
      const std::function<absl::Status()>& launch) const;
  // Keeps the list's descriptors on the GPU and returns the batch of them.
  absl::StatusOr<agent::cuda::BoxBatch> Keep(const agent::cuda::BoxList& list);
  absl::StatusOr<const agent::cuda::DeviceBuffer*> Keep(
      agent::cuda::DeviceBuffer buffer);
  const agent::cuda::CudaStream& cuda_stream() const { return stream_; }

 private:
  GpuRig(const GpuBenchOptions& options, uint32_t max_blocks,
         agent::cuda::CudaStream stream, agent::cuda::CudaEvent start,
         agent::cuda::CudaEvent end, agent::cuda::DeviceBuffer source,
         agent::cuda::DeviceBuffer target, HostBytes source_bytes);

  const GpuBenchOptions options_;
  const uint32_t max_blocks_;
  agent::cuda::CudaStream stream_;
  agent::cuda::CudaEvent start_;
  agent::cuda::CudaEvent end_;
  agent::cuda::DeviceBuffer source_;
  agent::cuda::DeviceBuffer target_;
  HostBytes source_bytes_;
  std::vector<std::unique_ptr<agent::cuda::DeviceBuffer>> kept_;
};

// The cases of gpu_box_cases.cc and gpu_value_cases.cc.
absl::Status AddBoxCases(GpuRig& rig, std::vector<GpuCase>& cases);
absl::Status AddValueCases(GpuRig& rig, std::vector<GpuCase>& cases);

}  // namespace sluice::bench

#endif  // SLUICE_BENCH_GPU_RIG_H_
