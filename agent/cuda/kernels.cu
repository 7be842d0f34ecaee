// The kernels: each thread calls its function of kernel_math.h or quant_math.h.
// What threads do together (sums, the largest magnitude of a block) is here.

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "agent/copy/cast_math.h"
#include "agent/copy/digest_keys.h"
#include "agent/cuda/descriptors.h"
#include "agent/cuda/kernel_math.h"
#include "agent/cuda/kernels.h"
#include "agent/cuda/quant_math.h"

namespace sluice::agent::cuda {
namespace {

using copy_internal::BF16;
using copy_internal::F16;
using copy_internal::F32;
using copy_internal::F64;
using digest_internal::KeyTable;

constexpr uint32_t kAllLanes = 0xffffffff;

__device__ const KeyTable kDeviceKeys = digest_internal::MakeKeyTable();

__device__ ThreadPosition Position() {
  return {blockIdx.x, gridDim.x, threadIdx.x};
}

__global__ void __launch_bounds__(kBlockThreads) CopyKernel(BoxBatch batch) {
  CopyThread(batch, Position());
}

template <typename From, typename To>
__global__ void __launch_bounds__(kBlockThreads) CastKernel(BoxBatch batch) {
  ElementThread<From, To>(batch, Position(), CastElement<From, To>{});
}

template <typename From, typename To>
__global__ void __launch_bounds__(kBlockThreads)
    BlendKernel(BoxBatch batch, BlendElement<From, To> blend) {
  ElementThread<From, To>(batch, Position(), blend);
}

// The sum over a warp; of all lanes in lane 0.
__device__ unsigned long long WarpSum(unsigned long long value) {
  for (int apart = kWarpThreads / 2; apart > 0; apart /= 2) {
    value += __shfl_down_sync(kAllLanes, value, apart);
  }
  return value;
}

// Adds what a warp has to a tensor's digest.
struct DigestSink {
  __device__ void operator()(uint32_t slot, const DigestSums& sums) const {
    const unsigned long long lane0 = WarpSum(sums.lane0);
    const unsigned long long lane1 = WarpSum(sums.lane1);
    if (threadIdx.x % kWarpThreads == 0) {
      atomicAdd(&slots[slot].lane0, lane0);
      atomicAdd(&slots[slot].lane1, lane1);
    }
  }
  DigestSlot* slots;
};

__global__ void __launch_bounds__(kBlockThreads)
    DigestKernel(BoxBatch batch, DigestSlot* slots) {
  __shared__ KeyTable keys;
  for (int lane = 0; lane < digest_internal::kLanes; ++lane) {
    for (uint32_t i = threadIdx.x; i < digest_internal::kBlockWords;
         i += kBlockThreads) {
      keys.lane[lane][i] = kDeviceKeys.lane[lane][i];
    }
  }
  __syncthreads();
  DigestThread(batch, keys, Position(), DigestSink{slots});
}

// The largest value that a thread of the block has; all threads get it.
__device__ uint32_t BlockMax(uint32_t value) {
  __shared__ uint32_t warps[kBlockThreads / kWarpThreads];
  const uint32_t mine = __reduce_max_sync(kAllLanes, value);
  __syncthreads();  // what was there has been read
  if (threadIdx.x % kWarpThreads == 0) {
    warps[threadIdx.x / kWarpThreads] = mine;
  }
  __syncthreads();
  uint32_t most = 0;
  for (const uint32_t warp : warps) most = warp > most ? warp : most;
  return most;
}

template <typename Plain>
__global__ void __launch_bounds__(kBlockThreads)
    QuantiseKernel(QuantBatch batch) {
  for (uint32_t b = blockIdx.x; b < batch.blocks; b += gridDim.x) {
    const QuantBlock block = LocateBlock(batch, b, sizeof(Plain));
    BlockQuantiser<Plain> quantiser;
    const float scale = ScaleInv(BlockMax(quantiser.Amax(block, threadIdx.x)));
    if (threadIdx.x == 0) {
      Store(block.scale, Group<float, 1, alignof(float)>{{scale}});
    }
    quantiser.Encode(block, scale, threadIdx.x);
  }
}

template <typename Plain>
__global__ void __launch_bounds__(kBlockThreads)
    DequantiseKernel(QuantBatch batch) {
  for (uint32_t b = blockIdx.x; b < batch.blocks; b += gridDim.x) {
    DequantiseBlock<Plain>(LocateBlock(batch, b, sizeof(Plain)), threadIdx.x);
  }
}

__device__ unsigned long long WordSum(const uint4& words) {
  return (uint64_t{words.x} + words.y) + (uint64_t{words.z} + words.w);
}

__global__ void __launch_bounds__(kBlockThreads)
    ReadPassKernel(const uint4* words, uint64_t count,
                   unsigned long long* sum) {
  unsigned long long total = 0;
  const uint64_t stride = uint64_t{gridDim.x} * kBlockThreads;
  uint64_t at = uint64_t{blockIdx.x} * kBlockThreads + threadIdx.x;
  for (; at + 3 * stride < count; at += 4 * stride) {
    uint4 loaded[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) loaded[i] = words[at + i * stride];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      total += WordSum(loaded[i]);
    }
  }
  for (; at < count; at += stride) {
    total += WordSum(words[at]);
  }
  total = WarpSum(total);
  if (threadIdx.x % kWarpThreads == 0) atomicAdd(sum, total);
}

__device__ uint64_t NowNanoseconds() {
  uint64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}

__global__ void DelayKernel(uint64_t nanoseconds) {
  const uint64_t start = NowNanoseconds();
  while (NowNanoseconds() - start < nanoseconds) __nanosleep(10000);
}

uint32_t Blocks(uint64_t work, uint32_t max_blocks) {
  return static_cast<uint32_t>(
      std::min<uint64_t>(work, std::max<uint32_t>(max_blocks, 1)));
}

cudaStream_t Stream(StreamHandle stream) {
  return static_cast<cudaStream_t>(stream);
}

// The launch's own error, taken away so that the next call does not see it.
int Launched() { return static_cast<int>(cudaGetLastError()); }

// Calls launch(T{}) with a type below F64.
template <typename Launch>
int WithNarrow(Element element, const Launch& launch) {
  switch (element) {
    case Element::kF64:
      break;
    case Element::kF32:
      return launch(F32{});
    case Element::kBF16:
      return launch(BF16{});
    case Element::kF16:
      return launch(F16{});
  }
  return static_cast<int>(cudaErrorInvalidValue);
}

// Calls launch(T{}) with any type.
template <typename Launch>
int WithElement(Element element, const Launch& launch) {
  if (element == Element::kF64) return launch(F64{});
  return WithNarrow(element, launch);
}

template <typename Kernel>
int Load(Kernel* kernel) {
  cudaFuncAttributes ignored;
  return static_cast<int>(cudaFuncGetAttributes(&ignored, kernel));
}

template <typename T>
int LoadNarrow() {
  for (const int code : {Load(QuantiseKernel<T>), Load(DequantiseKernel<T>),
                         Load(BlendKernel<T, F32>), Load(BlendKernel<T, BF16>),
                         Load(BlendKernel<T, F16>)}) {
    if (code != 0) return code;
  }
  return 0;
}

template <typename T>
int LoadCasts() {
  for (const int code : {Load(CastKernel<T, F64>), Load(CastKernel<T, F32>),
                         Load(CastKernel<T, BF16>), Load(CastKernel<T, F16>)}) {
    if (code != 0) return code;
  }
  return 0;
}

}  // namespace

int PreloadKernels() {
  for (const int code :
       {Load(CopyKernel), Load(DigestKernel), Load(ReadPassKernel),
        Load(DelayKernel), LoadCasts<F64>(), LoadCasts<F32>(),
        LoadCasts<BF16>(), LoadCasts<F16>(), LoadNarrow<F32>(),
        LoadNarrow<BF16>(), LoadNarrow<F16>()}) {
    if (code != 0) {
      static_cast<void>(cudaGetLastError());
      return code;
    }
  }
  return 0;
}

int LaunchCopy(const BoxBatch& batch, uint32_t max_blocks,
               StreamHandle stream) {
  if (batch.tiles == 0) return 0;
  CopyKernel<<<Blocks(batch.tiles, max_blocks), kBlockThreads, 0,
               Stream(stream)>>>(batch);
  return Launched();
}

int LaunchCast(const BoxBatch& batch, Element from, Element to,
               uint32_t max_blocks, StreamHandle stream) {
  if (batch.tiles == 0) return 0;
  return WithElement(from, [&](auto source) {
    return WithElement(to, [&](auto target) {
      CastKernel<decltype(source), decltype(target)>
          <<<Blocks(batch.tiles, max_blocks), kBlockThreads, 0,
             Stream(stream)>>>(batch);
      return Launched();
    });
  });
}

int LaunchBlend(const BoxBatch& batch, Element from, Element to, float eta,
                uint32_t max_blocks, StreamHandle stream) {
  if (batch.tiles == 0) return 0;
  return WithNarrow(from, [&](auto source) {
    return WithNarrow(to, [&](auto target) {
      using From = decltype(source);
      using To = decltype(target);
      BlendKernel<From, To>
          <<<Blocks(batch.tiles, max_blocks), kBlockThreads, 0,
             Stream(stream)>>>(batch, BlendElement<From, To>{eta, 1.0f - eta});
      return Launched();
    });
  });
}

int LaunchDigest(const BoxBatch& batch, DigestSlot* slots, uint32_t max_blocks,
                 StreamHandle stream) {
  if (batch.tiles == 0) return 0;
  DigestKernel<<<Blocks(batch.tiles, max_blocks), kBlockThreads, 0,
                 Stream(stream)>>>(batch, slots);
  return Launched();
}

int LaunchQuantise(const QuantBatch& batch, Element plain, uint32_t max_blocks,
                   StreamHandle stream) {
  if (batch.blocks == 0) return 0;
  return WithNarrow(plain, [&](auto element) {
    QuantiseKernel<decltype(element)>
        <<<Blocks(batch.blocks, max_blocks), kBlockThreads, 0,
           Stream(stream)>>>(batch);
    return Launched();
  });
}

int LaunchDequantise(const QuantBatch& batch, Element plain,
                     uint32_t max_blocks, StreamHandle stream) {
  if (batch.blocks == 0) return 0;
  return WithNarrow(plain, [&](auto element) {
    DequantiseKernel<decltype(element)>
        <<<Blocks(batch.blocks, max_blocks), kBlockThreads, 0,
           Stream(stream)>>>(batch);
    return Launched();
  });
}

int LaunchReadPass(const void* data, uint64_t bytes, unsigned long long* sum,
                   uint32_t max_blocks, StreamHandle stream) {
  const uint64_t words = bytes / sizeof(uint4);
  if (words == 0) return 0;
  ReadPassKernel<<<Blocks((words + kBlockThreads - 1) / kBlockThreads,
                          max_blocks),
                   kBlockThreads, 0, Stream(stream)>>>(
      static_cast<const uint4*>(data), words, sum);
  return Launched();
}

int LaunchDelay(uint64_t nanoseconds, StreamHandle stream) {
  DelayKernel<<<1, 1, 0, Stream(stream)>>>(nanoseconds);
  return Launched();
}

}  // namespace sluice::agent::cuda
