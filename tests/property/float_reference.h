#ifndef SLUICE_TESTS_PROPERTY_FLOAT_REFERENCE_H_
#define SLUICE_TESTS_PROPERTY_FLOAT_REFERENCE_H_

// What a conversion between element types must give, by arithmetic on doubles.
// Shares nothing with the conversions it judges.

#include "common/dtype.h"

namespace sluice::testing {

// Returns the value that an element of `dtype` has after `value` was written to
// it: the nearest it can have, ties to the even one; beyond the largest
// infinity, or the largest where there is none (F8_E4M3). NaN stays NaN, and
// types that are no floats keep everything.
double RoundedTo(DType dtype, double value);

// Whether two values are the same: NaN is NaN, and 0 is not -0.
bool SameValue(double a, double b);

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_PROPERTY_FLOAT_REFERENCE_H_
