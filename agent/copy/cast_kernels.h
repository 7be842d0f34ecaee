#ifndef SLUICE_AGENT_COPY_CAST_KERNELS_H_
#define SLUICE_AGENT_COPY_CAST_KERNELS_H_

// Element types cast into each other: F64, F32, F16 and BF16, from each to each
// other one, in loops that the compiler makes vectors of.
//
// A value that the other type lacks is rounded to the nearest one, to even in
// a tie; beyond the largest finite one to infinity. One rounding: F64 to a type
// of 16 bits does not pass through a rounded F32. Zeros keep their sign. A NaN
// stays a NaN, with its sign and as much of its payload, from the top, as the
// type has room for (its highest bit is set if nothing of it is left). So a
// value widened and cast back has the same bits, NaNs included.

#include <cstddef>
#include <cstdint>

#include "agent/copy/copy_kernels.h"
#include "common/dtype.h"

namespace sluice::agent::copy_internal {

// Casts `n` elements; element i lies i * stride bytes after the first, at any
// alignment. Strides may be negative; source and destination do not overlap.
using CastFunction = void (*)(int64_t n, const std::byte* src,
                              int64_t src_stride, std::byte* dst,
                              int64_t dst_stride);

// Returns the cast between two different types; null if there is none.
CastFunction FindCast(Isa isa, DType from, DType to);

}  // namespace sluice::agent::copy_internal

#endif  // SLUICE_AGENT_COPY_CAST_KERNELS_H_
