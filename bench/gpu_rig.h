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
  bool beside_read = false;  // compared with a read pass instead of a copy
  double goal = 0;
  int64_t bytes = 0;  // read plus written by a launch
  std::function<absl::Status()> launch;
  std::function<absl::Status()> verify;
};

// A case that is made when its turn comes: what it needs is there no longer
// than it runs, and where it cannot be made the others are.
struct GpuCaseMaker {
  std::string name;
  bool kernel = true;  // measured with each number of blocks
  std::function<absl::StatusOr<GpuCase>()> make;
};

class GpuRig {
 public:
  static absl::StatusOr<std::unique_ptr<GpuRig>> Create(
      const GpuBenchOptions& options);

  const GpuBenchOptions& options() const { return options_; }
  agent::cuda::CudaRuntime& runtime() const { return *options_.runtime; }
  agent::cuda::StreamHandle stream() const { return stream_.get(); }
  // Of a launch of a case; of a read pass beside it.
  uint32_t max_blocks() const { return max_blocks_; }
  uint32_t most_blocks() const;
  void UseBlocks(int64_t for_each_multiprocessor);
  // Random bytes, on the GPU and on the host; and where cases write: twice
  // options().bytes.
  const agent::cuda::DeviceBuffer& source() const { return source_; }
  const HostBytes& source_bytes() const { return source_bytes_; }
  const agent::cuda::DeviceBuffer& target() const { return target_; }

  absl::StatusOr<HostBytes> Download(int64_t bytes) const;
  static constexpr uint8_t kPoison = 0xa5;
  absl::Status Poison() const;
  // Whether the GPU still takes work after an error.
  absl::Status Works() const;
  // Seconds of one launch.
  absl::StatusOr<double> Time(
      const std::function<absl::Status()>& launch) const;
  // Keeps the list's descriptors on the GPU and returns the batch of them.
  absl::StatusOr<agent::cuda::BoxBatch> Keep(const agent::cuda::BoxList& list);
  absl::StatusOr<const agent::cuda::DeviceBuffer*> Keep(
      agent::cuda::DeviceBuffer buffer);
  const agent::cuda::CudaStream& cuda_stream() const { return stream_; }

 private:
  GpuRig(const GpuBenchOptions& options, int64_t multiprocessors,
         agent::cuda::CudaStream stream, agent::cuda::CudaEvent start,
         agent::cuda::CudaEvent end, agent::cuda::DeviceBuffer source,
         agent::cuda::DeviceBuffer target, HostBytes source_bytes);

  const GpuBenchOptions options_;
  const int64_t multiprocessors_;
  uint32_t max_blocks_ = 1;
  agent::cuda::CudaStream stream_;
  agent::cuda::CudaEvent start_;
  agent::cuda::CudaEvent end_;
  agent::cuda::DeviceBuffer source_;
  agent::cuda::DeviceBuffer target_;
  HostBytes source_bytes_;
  std::vector<std::unique_ptr<agent::cuda::DeviceBuffer>> kept_;
};

// The cases of gpu_box_cases.cc and gpu_value_cases.cc.
void AddBoxCases(GpuRig& rig, std::vector<GpuCaseMaker>& cases);
void AddValueCases(GpuRig& rig, std::vector<GpuCaseMaker>& cases);

}  // namespace sluice::bench

#endif  // SLUICE_BENCH_GPU_RIG_H_
