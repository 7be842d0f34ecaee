#ifndef SLUICE_TESTS_GPU_CHECK_TOOLS_H_
#define SLUICE_TESTS_GPU_CHECK_TOOLS_H_

// What checks share: one stream, random memory, comparisons.

#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "agent/cuda/box_list.h"
#include "agent/cuda/cuda_runtime.h"
#include "agent/cuda/descriptors.h"
#include "agent/cuda/device_buffer.h"
#include "agent/cuda/handles.h"
#include "tests/gpu/checks.h"

namespace sluice::gpu_tests {

using Bytes = std::vector<uint8_t>;

class Bench {
 public:
  static absl::StatusOr<Bench> Create(const Settings& settings);

  agent::cuda::CudaRuntime& runtime() const { return *settings_.runtime; }
  int device() const { return settings_.device; }
  const agent::cuda::CudaStream& stream() const { return stream_; }
  std::mt19937_64& random() { return random_; }
  uint32_t max_blocks() const { return max_blocks_; }

  int64_t Below(int64_t limit) {
    return static_cast<int64_t>(random_() % static_cast<uint64_t>(limit));
  }
  Bytes RandomBytes(int64_t size);
  // Random bits with zeros, infinities, NaNs and numbers of a weight's size.
  Bytes RandomElements(agent::cuda::Element element, int64_t count);
  absl::StatusOr<agent::cuda::DeviceBuffer> Upload(const Bytes& bytes) {
    return agent::cuda::UploadAll(runtime(), settings_.device, bytes, stream_);
  }
  absl::StatusOr<agent::cuda::DeviceBuffer> Upload(
      const agent::cuda::BoxList& list) {
    return agent::cuda::UploadAll(runtime(), settings_.device, list.boxes(),
                                  stream_);
  }
  absl::StatusOr<Bytes> Download(const agent::cuda::DeviceBuffer& buffer);

 private:
  Bench(const Settings& settings, agent::cuda::CudaStream stream,
        uint32_t max_blocks)
      : settings_(settings),
        stream_(std::move(stream)),
        random_(settings.seed),
        max_blocks_(max_blocks) {}

  Settings settings_;
  agent::cuda::CudaStream stream_;
  std::mt19937_64 random_;
  uint32_t max_blocks_;
};

// The batch of a list whose descriptors lie in `boxes`.
agent::cuda::BoxBatch BatchOf(const agent::cuda::BoxList& list,
                              const agent::cuda::DeviceBuffer& boxes);

// Those that are blended, quantised and dequantised; casts are of F64 too.
inline constexpr agent::cuda::Element kNarrowElements[] = {
    agent::cuda::Element::kF32, agent::cuda::Element::kBF16,
    agent::cuda::Element::kF16};

// An element in memory, in double precision, and back with one rounding; the
// signs and the top of the payloads of NaNs are kept.
double ToDouble(agent::cuda::Element element, const uint8_t* at);
void FromDouble(agent::cuda::Element element, double value, uint8_t* at);

// DATA_LOSS with the first byte that differs.
absl::Status CheckEqual(const Bytes& expected, const Bytes& found,
                        absl::string_view what);

}  // namespace sluice::gpu_tests

#endif  // SLUICE_TESTS_GPU_CHECK_TOOLS_H_
