#ifndef SLUICE_AGENT_COLLECTIVE_REDUCE_KERNELS_H_
#define SLUICE_AGENT_COLLECTIVE_REDUCE_KERNELS_H_

// Sums of many inputs in one pass, in loops that the compiler makes vectors of.
//
// Elements are added in the order of the inputs, each in the accumulator's
// type: F32 for F32, BF16 and F16, F64 for F64, I32 (wrapping) for I32. A
// result is rounded once, from the accumulator to the element's type, to even.
// So the result depends on the inputs and their order alone.

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "agent/copy/copy_kernels.h"
#include "common/dtype.h"

namespace sluice::agent {

// Whether sums of this type are made.
bool CanReduce(DType dtype);

// Size of one accumulator in bytes. Requires CanReduce.
int64_t AccumulatorBytes(DType dtype);

// One input of a reduction.
struct ReduceInput {
  const std::byte* data = nullptr;
  // Whether it holds accumulators (a partial sum) instead of elements.
  bool accumulators = false;
};

struct Reduction {
  DType dtype = DType::kUnspecified;
  int64_t elements = 0;
  // The sum is divided by this (towards zero for I32); 1 for a sum.
  int32_t divisor = 1;
  // Elements of the dtype; may be the same memory as one input of elements.
  std::byte* out = nullptr;
  // Whether `out` takes accumulators, undivided: a partial sum.
  bool out_accumulators = false;
  // Whether stores go past the caches: for a result that is not read next.
  bool streaming = false;
};

// Requires CanReduce, at least one input, and memory aligned to its elements.
void Reduce(copy_internal::Isa isa, const Reduction& reduction,
            absl::Span<const ReduceInput> inputs);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_COLLECTIVE_REDUCE_KERNELS_H_
