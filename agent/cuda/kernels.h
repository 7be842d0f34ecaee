#ifndef SLUICE_AGENT_CUDA_KERNELS_H_
#define SLUICE_AGENT_CUDA_KERNELS_H_

// Launches of the kernels: queued on a stream (a cudaStream_t), on the device
// that is current. The batch's descriptors lie in memory that the device reads
// and stay until the kernel has ended. Each returns a cudaError_t as a number;
// 0 is success. An empty batch launches nothing. What kernels compute is in
// kernel_math.h and quant_math.h.
//
// `max_blocks` bounds the blocks of kBlockThreads threads of one launch, and so
// the share of the device that it takes beside others (8 fill a
// multiprocessor); at least 1.
//
// Only where CUDA was found; the rest of the tree uses cuda_runtime.h.

#include <cstdint>

#include "agent/cuda/descriptors.h"

namespace sluice::agent::cuda {

using StreamHandle = void*;

int LaunchCopy(const BoxBatch& batch, uint32_t max_blocks, StreamHandle stream);
int LaunchCast(const BoxBatch& batch, Element from, Element to,
               uint32_t max_blocks, StreamHandle stream);
int LaunchBlend(const BoxBatch& batch, Element from, Element to, float eta,
                uint32_t max_blocks, StreamHandle stream);
// Adds to slots[box.slot] of each box.
int LaunchDigest(const BoxBatch& batch, DigestSlot* slots, uint32_t max_blocks,
                 StreamHandle stream);
// Writes scales and quantised elements.
int LaunchQuantise(const QuantBatch& batch, Element plain, uint32_t max_blocks,
                   StreamHandle stream);
// Reads them, writes plain elements.
int LaunchDequantise(const QuantBatch& batch, Element plain,
                     uint32_t max_blocks, StreamHandle stream);
// Reads 16-byte groups of words and adds the words to `sum`: the measure of a
// read pass.
int LaunchReadPass(const void* data, uint64_t bytes, unsigned long long* sum,
                   uint32_t max_blocks, StreamHandle stream);
// Loads all kernels. Left to its first launch, the driver may wait for what
// runs, such as a collective whose peer waits for that launch.
int PreloadKernels();
// Keeps one thread busy for so long, then ends: for tests of hand-overs.
int LaunchDelay(uint64_t nanoseconds, StreamHandle stream);

}  // namespace sluice::agent::cuda

#endif  // SLUICE_AGENT_CUDA_KERNELS_H_
