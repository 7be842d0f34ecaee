#ifndef SLUICE_AGENT_COPY_STRIDED_PLACE_H_
#define SLUICE_AGENT_COPY_STRIDED_PLACE_H_

// Where boxes of tensors lie in local memory.

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/box.h"
#include "common/dtype.h"
#include "common/model.h"

namespace sluice::agent {

// Where the first element of a box lies in a memory, and how far apart elements
// are: element lo + i lies at offset_bytes + sum_d i[d] * strides_bytes[d].
struct StridedPlace {
  int64_t offset_bytes = 0;
  std::vector<int64_t> strides_bytes;  // one per logical dimension

  friend bool operator==(const StridedPlace&, const StridedPlace&) = default;
};

// Returns where `piece` lies in the buffer that holds `param`.
// The parameter's element type counts, which need not be the tensor's.
// Errors: INVALID_ARGUMENT - ranks disagree, the piece is outside the view, or
// an element would lie outside the parameter.
absl::StatusOr<StridedPlace> PlaceInView(const TensorSpec& tensor,
                                         const Box& piece, const View& view,
                                         const LocalParam& param);

// Returns the place of a box that is stored alone, row-major, from `offset`.
StridedPlace DensePlace(const Box& box, DType dtype, int64_t offset_bytes = 0);

// Verifies that every element of `box` at `place` lies in [0, memory_bytes).
// Errors: INVALID_ARGUMENT - it does not, or the number of strides is wrong.
absl::Status CheckPlace(const StridedPlace& place, const Box& box, DType dtype,
                        int64_t memory_bytes);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_COPY_STRIDED_PLACE_H_
