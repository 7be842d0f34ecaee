#include "tests/fakes/cuda/queued_kernels.h"

#include <algorithm>
#include <cstring>

#include "tests/fakes/cuda/host_grid.h"

namespace sluice::agent::cuda {
namespace {

// Enough blocks for shares to differ, few enough to be quick.
constexpr uint32_t kMostBlocks = 7;

uint32_t Blocks(uint32_t work, uint32_t max_blocks) {
  return std::max(1u, std::min({work, max_blocks, kMostBlocks}));
}

}  // namespace

absl::Status QueuedKernels::CopyRows(void* dst, int64_t dst_pitch,
                                     const void* src, int64_t src_pitch,
                                     int64_t width, int64_t rows,
                                     StreamHandle stream) {
  return Queue(stream, "CopyRows", [=] {
    for (int64_t row = 0; row < rows; ++row) {
      std::memcpy(static_cast<char*>(dst) + row * dst_pitch,
                  static_cast<const char*>(src) + row * src_pitch,
                  static_cast<size_t>(width));
    }
  });
}

absl::Status QueuedKernels::Fill(void* dst, uint8_t value, int64_t bytes,
                                 StreamHandle stream) {
  return Queue(stream, "Fill",
               [=] { std::memset(dst, value, static_cast<size_t>(bytes)); });
}

absl::Status QueuedKernels::CopyBoxes(const BoxBatch& batch,
                                      uint32_t max_blocks,
                                      StreamHandle stream) {
  return Queue(stream, "CopyBoxes",
               [=] { HostCopy(batch, Blocks(batch.tiles, max_blocks)); });
}

absl::Status QueuedKernels::CastBoxes(const BoxBatch& batch, Element from,
                                      Element to, uint32_t max_blocks,
                                      StreamHandle stream) {
  return Queue(stream, "CastBoxes", [=] {
    HostCast(batch, from, to, Blocks(batch.tiles, max_blocks));
  });
}

absl::Status QueuedKernels::BlendBoxes(const BoxBatch& batch, Element from,
                                       Element to, float eta,
                                       uint32_t max_blocks,
                                       StreamHandle stream) {
  return Queue(stream, "BlendBoxes", [=] {
    HostBlend(batch, from, to, eta, Blocks(batch.tiles, max_blocks));
  });
}

absl::Status QueuedKernels::DigestBoxes(const BoxBatch& batch,
                                        DigestSlot* slots, uint32_t max_blocks,
                                        StreamHandle stream) {
  return Queue(stream, "DigestBoxes", [=] {
    HostDigest(batch, slots, Blocks(batch.tiles, max_blocks));
  });
}

absl::Status QueuedKernels::Quantise(const QuantBatch& batch, Element plain,
                                     uint32_t, StreamHandle stream) {
  return Queue(stream, "Quantise", [=] { HostQuantise(batch, plain); });
}

absl::Status QueuedKernels::Dequantise(const QuantBatch& batch, Element plain,
                                       uint32_t, StreamHandle stream) {
  return Queue(stream, "Dequantise", [=] { HostDequantise(batch, plain); });
}

absl::Status QueuedKernels::ReadPass(const void* data, int64_t bytes,
                                     unsigned long long* sum, uint32_t,
                                     StreamHandle stream) {
  return Queue(stream, "ReadPass", [=] {
    const auto* words = static_cast<const uint32_t*>(data);
    for (int64_t i = 0; i < bytes / 16 * 4; ++i) *sum += words[i];
  });
}

}  // namespace sluice::agent::cuda
