#ifndef SLUICE_TESTS_FAKES_CUDA_HOST_GRID_H_
#define SLUICE_TESTS_FAKES_CUDA_HOST_GRID_H_

// Kernels on the host: every (block, thread) of a launch is visited, one after
// the other, and does what kernel_math.h and quant_math.h say.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "agent/copy/cast_math.h"
#include "agent/copy/digest_keys.h"
#include "agent/cuda/descriptors.h"
#include "agent/cuda/kernel_math.h"
#include "agent/cuda/quant_math.h"

namespace sluice::agent::cuda {

// Calls visit(position) for all threads of `blocks` blocks, the last block and
// thread first: nothing may hang on their order.
template <typename Visit>
void ForGrid(uint32_t blocks, const Visit& visit) {
  for (uint32_t block = blocks; block-- > 0;) {
    for (uint32_t thread = kBlockThreads; thread-- > 0;) {
      visit(ThreadPosition{block, blocks, thread});
    }
  }
}

// Calls visit(T{}) with the type of an element, which is not F64: the kernels
// have none that blends or quantises it.
template <typename Visit>
void WithNarrow(Element element, const Visit& visit) {
  switch (element) {
    case Element::kF64:
      std::abort();
    case Element::kF32:
      return visit(copy_internal::F32{});
    case Element::kBF16:
      return visit(copy_internal::BF16{});
    case Element::kF16:
      return visit(copy_internal::F16{});
  }
}

// With F64 too.
template <typename Visit>
void WithElement(Element element, const Visit& visit) {
  if (element == Element::kF64) return visit(copy_internal::F64{});
  WithNarrow(element, visit);
}

inline void HostCopy(const BoxBatch& batch, uint32_t blocks) {
  ForGrid(blocks, [&](const ThreadPosition& at) { CopyThread(batch, at); });
}

inline void HostCast(const BoxBatch& batch, Element from, Element to,
                     uint32_t blocks) {
  WithElement(from, [&](auto source) {
    WithElement(to, [&](auto target) {
      using From = decltype(source);
      using To = decltype(target);
      ForGrid(blocks, [&](const ThreadPosition& at) {
        ElementThread<From, To>(batch, at, CastElement<From, To>{});
      });
    });
  });
}

inline void HostBlend(const BoxBatch& batch, Element from, Element to,
                      float eta, uint32_t blocks) {
  WithNarrow(from, [&](auto source) {
    WithNarrow(to, [&](auto target) {
      using From = decltype(source);
      using To = decltype(target);
      const BlendElement<From, To> blend{eta, 1.0f - eta};
      ForGrid(blocks, [&](const ThreadPosition& at) {
        ElementThread<From, To>(batch, at, blend);
      });
    });
  });
}

inline void HostDigest(const BoxBatch& batch, DigestSlot* slots,
                       uint32_t blocks) {
  const auto sink = [slots](uint32_t slot, const DigestSums& sums) {
    slots[slot].lane0 += sums.lane0;
    slots[slot].lane1 += sums.lane1;
  };
  ForGrid(blocks, [&](const ThreadPosition& at) {
    DigestThread(batch, digest_internal::kKeys, at, sink);
  });
}

inline void HostQuantise(const QuantBatch& batch, Element plain) {
  WithNarrow(plain, [&](auto element) {
    using Plain = decltype(element);
    for (uint32_t b = 0; b < batch.blocks; ++b) {
      const QuantBlock block = LocateBlock(batch, b, sizeof(Plain));
      std::vector<BlockQuantiser<Plain>> threads(kBlockThreads);
      uint32_t amax = 0;
      for (uint32_t t = 0; t < kBlockThreads; ++t) {
        amax = std::max(amax, threads[t].Amax(block, t));
      }
      const float scale = ScaleInv(amax);
      Store(block.scale, Group<float, 1, alignof(float)>{{scale}});
      for (uint32_t t = 0; t < kBlockThreads; ++t) {
        threads[t].Encode(block, scale, t);
      }
    }
  });
}

inline void HostDequantise(const QuantBatch& batch, Element plain) {
  WithNarrow(plain, [&](auto element) {
    using Plain = decltype(element);
    for (uint32_t b = 0; b < batch.blocks; ++b) {
      const QuantBlock block = LocateBlock(batch, b, sizeof(Plain));
      for (uint32_t t = 0; t < kBlockThreads; ++t) {
        DequantiseBlock<Plain>(block, t);
      }
    }
  });
}

}  // namespace sluice::agent::cuda

#endif  // SLUICE_TESTS_FAKES_CUDA_HOST_GRID_H_
