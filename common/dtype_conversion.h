#ifndef SLUICE_COMMON_DTYPE_CONVERSION_H_
#define SLUICE_COMMON_DTYPE_CONVERSION_H_

// Which element types a tensor may be converted between on its way from one
// placement to another, and in which of the two it travels.

#include "common/dtype.h"

namespace sluice {

// Whether elements of `from` can be delivered as elements of `to`: a type to
// itself; F64, F32, BF16 and F16 to each other; F32, BF16 and F16 to and from
// F8_E4M3. False if one is unspecified.
bool Convertible(DType from, DType to);

// Whether the conversion is a quantisation, or undoes one: of one of the two,
// elements are worth something only with the scale of their block.
bool Quantises(DType from, DType to);

// Returns the type in which elements cross the wire: the smaller of the two;
// `to` where both are equally large. Who holds the other one converts.
// Requires Convertible(from, to).
DType WireDType(DType from, DType to);

}  // namespace sluice

#endif  // SLUICE_COMMON_DTYPE_CONVERSION_H_
