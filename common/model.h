#ifndef SLUICE_COMMON_MODEL_H_
#define SLUICE_COMMON_MODEL_H_

// A model as logical tensors, and what one agent holds of it: local parameters
// (memory) and views (which part of a logical tensor lies where in them).

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "common/box.h"
#include "common/dtype.h"
#include "common/ids.h"

namespace sluice {

// A logical tensor: canonical name as in the Hugging Face checkpoint.
struct TensorSpec {
  std::string name;
  DType dtype = DType::kUnspecified;
  Shape shape;
  // Not empty: the tensor is quantised, and the elements of one block of this
  // shape share a scale. A shard that cuts a block is worth a warning.
  Shape block = {};

  int64_t num_elements() const { return Box::Whole(shape).num_elements(); }
  int64_t num_bytes() const { return num_elements() * ByteSize(dtype); }
  friend bool operator==(const TensorSpec&, const TensorSpec&) = default;
};

struct ModelSpec {
  std::string name;
  // Position in this list is the TensorIndex. Names are unique.
  std::vector<TensorSpec> tensors;
  // (alias, canonical name): tied weights. An alias is no tensor of its own.
  std::vector<std::pair<std::string, std::string>> aliases;

  const TensorSpec& tensor(TensorIndex index) const {
    return tensors[static_cast<size_t>(index.value())];
  }
  int64_t num_bytes() const;

  // Errors: INVALID_ARGUMENT - no name, no tensor, a duplicate or empty tensor
  // name, an unspecified dtype, a negative or overflowing shape (all
  // together at most 2^60 bytes), a block of
  // another number of dimensions or with a size below 1, an alias of a tensor
  // that does not exist. Each names the tensor.
  absl::Status Validate() const;

  friend bool operator==(const ModelSpec&, const ModelSpec&) = default;
};

// One local parameter of a placement on one agent: row-major, contiguous.
struct LocalParam {
  std::string name;
  DType dtype = DType::kUnspecified;
  Shape shape;
  // Byte offset in the placement's one buffer on this agent (all parameters of
  // a placement are packed into one buffer; 256-byte aligned). See PackParams.
  int64_t offset_bytes = 0;

  int64_t num_bytes() const {
    return Box::Whole(shape).num_elements() * ByteSize(dtype);
  }
  friend bool operator==(const LocalParam&, const LocalParam&) = default;
};

// What one local parameter holds of one logical tensor: element e (absolute
// logical coordinates) of `box` lies at parameter element
//   offset + sum_d (e[d] - box.lo[d]) * strides[d].
struct View {
  TensorIndex tensor;
  Box box;
  int32_t param = 0;  // index into RankLayout::params
  int64_t offset = 0;
  std::vector<int64_t> strides;  // one per logical dimension, in elements

  friend bool operator==(const View&, const View&) = default;
};

// Everything one agent holds of a placement. Views are sorted by
// (tensor, box); parameters by name.
struct RankLayout {
  std::vector<LocalParam> params;
  std::vector<View> views;
  // Size of the one buffer that holds all parameters.
  int64_t buffer_bytes = 0;

  friend bool operator==(const RankLayout&, const RankLayout&) = default;
};

inline constexpr int64_t kParamAlignment = 256;

// Assigns offset_bytes to each parameter in order and sets buffer_bytes.
void PackParams(RankLayout& layout);

}  // namespace sluice

#endif  // SLUICE_COMMON_MODEL_H_
