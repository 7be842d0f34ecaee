#ifndef SLUICE_TOOLS_CHECKPOINT_GENERATOR_VALUES_H_
#define SLUICE_TOOLS_CHECKPOINT_GENERATOR_VALUES_H_

// Values of generated tensors. Each element is a function of (seed, tensor
// name, flat index) alone, so that any part of a checkpoint can be computed
// without the rest, in any order, by anyone.
//
//   key      = mix(seed + s), then for each byte c of the name
//              key = mix(key ^ c) + s;  s = 0x9e3779b97f4a7c15
//   block b  = mix(key + (b + 1) * s)      64 random bits
//   element  = its share of a block's bits, low bits first: with w bytes an
//              element, element i is share i mod (8/w) of block i div (8/w)
//
// For floating types the share's top exponent bits are replaced, so that every
// value is finite, normal, of either sign and between 2^-10 and 2^-2 in size.
// Integers are the share itself.

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/dtype.h"

namespace sluice {

uint64_t TensorKey(uint64_t seed, absl::string_view tensor_name);

// Whether FillValues knows the type: BF16, F16, F32 and the integers.
bool HasValues(DType dtype);

// Writes elements [first, first + n) of the tensor, little-endian, where n is
// bytes.size() / ByteSize(dtype). HasValues(dtype).
void FillValues(uint64_t key, DType dtype, int64_t first,
                absl::Span<uint8_t> bytes);

}  // namespace sluice

#endif  // SLUICE_TOOLS_CHECKPOINT_GENERATOR_VALUES_H_
