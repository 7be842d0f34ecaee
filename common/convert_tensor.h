#ifndef SLUICE_COMMON_CONVERT_TENSOR_H_
#define SLUICE_COMMON_CONVERT_TENSOR_H_

// proto/sluice/v1/tensor.proto <-> common/{dtype,box,model,plan}.h. FromProto
// is where tensors from the wire are checked: what it returns is well formed by
// itself and no number in it overflows. Whether a layout makes sense is
// CheckLayout's question.
//
// Errors of every FromProto: INVALID_ARGUMENT - names the field by its path
// ("tensors[3]: name: ..."), what was expected and what was found.

#include "absl/status/statusor.h"
#include "common/box.h"
#include "common/dtype.h"
#include "common/model.h"
#include "common/plan.h"
#include "proto/sluice/v1/tensor.pb.h"

namespace sluice {

v1::DType ToProto(DType dtype);
v1::Box ToProto(const Box& box);
v1::TensorSpec ToProto(const TensorSpec& spec);
v1::ModelSpec ToProto(const ModelSpec& model);
v1::LocalParam ToProto(const LocalParam& param);
v1::View ToProto(const View& view);
v1::RankLayout ToProto(const RankLayout& layout);
v1::SampleEntry ToProto(const SampleEntry& entry);

// Unspecified and unknown types are refused.
absl::StatusOr<DType> FromProto(v1::DType proto);
// At most kMaxDims dimensions, 0 <= lo <= hi, the number of elements fits.
absl::StatusOr<Box> FromProto(const v1::Box& proto);
// Names are checked for length, shapes for sign and overflow.
absl::StatusOr<TensorSpec> FromProto(const v1::TensorSpec& proto);
// Also ModelSpec::Validate. Aliases come sorted by alias.
absl::StatusOr<ModelSpec> FromProto(const v1::ModelSpec& proto);
absl::StatusOr<LocalParam> FromProto(const v1::LocalParam& proto);
// One stride >= 0 per dimension; the last element's place does not overflow.
absl::StatusOr<View> FromProto(const v1::View& proto);
// Also: every view's parameter exists.
absl::StatusOr<RankLayout> FromProto(const v1::RankLayout& proto);
absl::StatusOr<SampleEntry> FromProto(const v1::SampleEntry& proto);

}  // namespace sluice

#endif  // SLUICE_COMMON_CONVERT_TENSOR_H_
