#include "common/convert_tensor.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/convert_limits.h"
#include "common/convert_repeated.h"
#include "common/status_macros.h"

namespace sluice {
namespace {

// Checks a shape of elements of `dtype`: dimensions, signs, bytes.
absl::Status CheckShape(const Shape& shape, DType dtype) {
  SLUICE_RETURN_IF_ERROR(
      CheckCount("shape", static_cast<int64_t>(shape.size()), kMaxDims));
  for (const int64_t size : shape) {
    SLUICE_RETURN_IF_ERROR(CheckNotNegative("shape", size));
  }
  const std::optional<int64_t> elements = NumElements(shape);
  int64_t bytes = 0;
  if (!elements.has_value() ||
      __builtin_mul_overflow(*elements, ByteSize(dtype), &bytes)) {
    return absl::InvalidArgumentError(
        "shape: expected fewer than 2^63 bytes, found more");
  }
  return absl::OkStatus();
}

constexpr auto kParse = [](const auto& proto) { return FromProto(proto); };

template <typename Repeated>
Shape ShapeOf(const Repeated& sizes) {
  return Shape(sizes.begin(), sizes.end());
}

}  // namespace

v1::DType ToProto(DType dtype) { return static_cast<v1::DType>(dtype); }

v1::Box ToProto(const Box& box) {
  v1::Box proto;
  for (const Interval& dim : box.dims()) {
    proto.add_lo(dim.lo);
    proto.add_hi(dim.hi);
  }
  return proto;
}

v1::TensorSpec ToProto(const TensorSpec& spec) {
  v1::TensorSpec proto;
  proto.set_name(spec.name);
  proto.set_dtype(ToProto(spec.dtype));
  proto.mutable_shape()->Add(spec.shape.begin(), spec.shape.end());
  proto.mutable_block()->Add(spec.block.begin(), spec.block.end());
  return proto;
}

v1::ModelSpec ToProto(const ModelSpec& model) {
  v1::ModelSpec proto;
  proto.set_name(model.name);
  AppendProtos(model.tensors, *proto.mutable_tensors());
  for (const auto& [alias, canonical] : model.aliases) {
    (*proto.mutable_aliases())[alias] = canonical;
  }
  return proto;
}

v1::LocalParam ToProto(const LocalParam& param) {
  v1::LocalParam proto;
  proto.set_name(param.name);
  proto.set_dtype(ToProto(param.dtype));
  proto.mutable_shape()->Add(param.shape.begin(), param.shape.end());
  proto.set_offset_bytes(param.offset_bytes);
  return proto;
}

v1::View ToProto(const View& view) {
  v1::View proto;
  proto.set_tensor(view.tensor.value());
  *proto.mutable_box() = ToProto(view.box);
  proto.set_param(view.param);
  proto.set_offset(view.offset);
  proto.mutable_strides()->Add(view.strides.begin(), view.strides.end());
  return proto;
}

v1::RankLayout ToProto(const RankLayout& layout) {
  v1::RankLayout proto;
  AppendProtos(layout.params, *proto.mutable_params());
  AppendProtos(layout.views, *proto.mutable_views());
  proto.set_buffer_bytes(layout.buffer_bytes);
  return proto;
}

v1::SampleEntry ToProto(const SampleEntry& entry) {
  v1::SampleEntry proto;
  proto.set_sample_id(entry.sample_id);
  proto.set_key(entry.key);
  proto.set_dtype(ToProto(entry.dtype));
  proto.mutable_sequence_lengths()->Add(entry.sequence_lengths.begin(),
                                        entry.sequence_lengths.end());
  proto.mutable_trailing_shape()->Add(entry.trailing_shape.begin(),
                                      entry.trailing_shape.end());
  return proto;
}

absl::StatusOr<DType> FromProto(v1::DType proto) {
  const auto dtype = static_cast<DType>(proto);
  if (!v1::DType_IsValid(proto) || ByteSize(dtype) == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("dtype: expected a known element type, found ",
                     static_cast<int>(proto)));
  }
  return dtype;
}

absl::StatusOr<Box> FromProto(const v1::Box& proto) {
  if (proto.lo_size() != proto.hi_size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("box: expected as many upper as lower corners, found ",
                     proto.hi_size(), " and ", proto.lo_size()));
  }
  SLUICE_RETURN_IF_ERROR(
      CheckCount("box dimensions", proto.lo_size(), kMaxDims));
  std::vector<Interval> dims;
  dims.reserve(static_cast<size_t>(proto.lo_size()));
  for (int d = 0; d < proto.lo_size(); ++d) {
    const Interval dim{proto.lo(d), proto.hi(d)};
    if (dim.lo < 0 || dim.hi < dim.lo) {
      return absl::InvalidArgumentError(absl::StrCat(
          "box: dimension ", d, ": expected 0 <= lo <= hi, found [", dim.lo,
          ",", dim.hi, ")"));
    }
    dims.push_back(dim);
  }
  Box box(std::move(dims));
  if (!NumElements(box.shape()).has_value()) {
    return absl::InvalidArgumentError(
        "box: expected fewer than 2^63 elements, found more");
  }
  return box;
}

absl::StatusOr<TensorSpec> FromProto(const v1::TensorSpec& proto) {
  TensorSpec spec;
  SLUICE_RETURN_IF_ERROR(CheckName("name", proto.name(), kMaxTensorNameBytes));
  spec.name = proto.name();
  // The name is what people look for in the messages below.
  const auto named = [&spec](const absl::Status& status) {
    return Annotate(status, absl::StrCat("tensor \"", spec.name, "\""));
  };
  const absl::StatusOr<DType> dtype = FromProto(proto.dtype());
  if (!dtype.ok()) return named(dtype.status());
  spec.dtype = *dtype;
  spec.shape = ShapeOf(proto.shape());
  SLUICE_RETURN_IF_ERROR(named(CheckShape(spec.shape, spec.dtype)));
  SLUICE_RETURN_IF_ERROR(
      named(CheckCount("block", proto.block_size(), kMaxDims)));
  spec.block = ShapeOf(proto.block());
  return spec;
}

absl::StatusOr<ModelSpec> FromProto(const v1::ModelSpec& proto) {
  ModelSpec model;
  SLUICE_RETURN_IF_ERROR(CheckName("name", proto.name(), kMaxModelNameBytes));
  model.name = proto.name();
  SLUICE_RETURN_IF_ERROR(ParseRepeated("tensors", proto.tensors(), kMaxTensors,
                                       kParse, model.tensors));
  SLUICE_RETURN_IF_ERROR(CheckCount(
      "aliases", static_cast<int64_t>(proto.aliases().size()), kMaxTensors));
  for (const auto& [alias, canonical] : proto.aliases()) {
    SLUICE_RETURN_IF_ERROR(CheckName("aliases", alias, kMaxTensorNameBytes));
    model.aliases.emplace_back(alias, canonical);
  }
  // A proto map has no order; the model's bytes must be the same each time.
  std::sort(model.aliases.begin(), model.aliases.end());
  SLUICE_RETURN_IF_ERROR(model.Validate());
  return model;
}

absl::StatusOr<LocalParam> FromProto(const v1::LocalParam& proto) {
  LocalParam param;
  SLUICE_RETURN_IF_ERROR(CheckName("name", proto.name(), kMaxTensorNameBytes));
  param.name = proto.name();
  SLUICE_ASSIGN_OR_RETURN(param.dtype, FromProto(proto.dtype()));
  param.shape = ShapeOf(proto.shape());
  SLUICE_RETURN_IF_ERROR(CheckShape(param.shape, param.dtype));
  SLUICE_RETURN_IF_ERROR(
      CheckNotNegative("offset_bytes", proto.offset_bytes()));
  param.offset_bytes = proto.offset_bytes();
  return param;
}

absl::StatusOr<View> FromProto(const v1::View& proto) {
  View view;
  SLUICE_RETURN_IF_ERROR(
      CheckRange("tensor", proto.tensor(), 0, kMaxTensors - 1));
  view.tensor = TensorIndex(proto.tensor());
  SLUICE_ASSIGN_OR_RETURN(view.box, FromProto(proto.box()));
  SLUICE_RETURN_IF_ERROR(CheckRange("param", proto.param(), 0, kMaxParams - 1));
  view.param = proto.param();
  SLUICE_RETURN_IF_ERROR(CheckNotNegative("offset", proto.offset()));
  view.offset = proto.offset();
  if (proto.strides_size() != view.box.rank()) {
    return absl::InvalidArgumentError(
        absl::StrCat("strides: expected one per dimension (", view.box.rank(),
                     "), found ", proto.strides_size()));
  }
  int64_t last = view.offset;
  for (int d = 0; d < view.box.rank(); ++d) {
    const int64_t stride = proto.strides(d);
    SLUICE_RETURN_IF_ERROR(CheckNotNegative("strides", stride));
    const int64_t steps = std::max<int64_t>(view.box.dim(d).size(), 1) - 1;
    int64_t reach = 0;
    if (__builtin_mul_overflow(steps, stride, &reach) ||
        __builtin_add_overflow(last, reach, &last)) {
      return absl::InvalidArgumentError(
          "strides: expected places below 2^63, found an overflow");
    }
    view.strides.push_back(stride);
  }
  return view;
}

absl::StatusOr<RankLayout> FromProto(const v1::RankLayout& proto) {
  RankLayout layout;
  SLUICE_RETURN_IF_ERROR(ParseRepeated("params", proto.params(), kMaxParams,
                                       kParse, layout.params));
  SLUICE_RETURN_IF_ERROR(
      ParseRepeated("views", proto.views(), kMaxViews, kParse, layout.views));
  for (size_t i = 0; i < layout.views.size(); ++i) {
    SLUICE_RETURN_IF_ERROR(
        CheckRange(absl::StrCat("views[", i, "]: param"), layout.views[i].param,
                   0, static_cast<int64_t>(layout.params.size()) - 1));
  }
  SLUICE_RETURN_IF_ERROR(
      CheckNotNegative("buffer_bytes", proto.buffer_bytes()));
  layout.buffer_bytes = proto.buffer_bytes();
  return layout;
}

absl::StatusOr<SampleEntry> FromProto(const v1::SampleEntry& proto) {
  SampleEntry entry;
  SLUICE_RETURN_IF_ERROR(
      CheckName("sample_id", proto.sample_id(), kMaxSampleIdBytes));
  entry.sample_id = proto.sample_id();
  SLUICE_RETURN_IF_ERROR(CheckName("key", proto.key(), kMaxKeyBytes));
  entry.key = proto.key();
  const auto named = [&entry](const absl::Status& status) {
    return Annotate(status, absl::StrCat("sample \"", entry.sample_id,
                                         "\" key \"", entry.key, "\""));
  };
  const absl::StatusOr<DType> dtype = FromProto(proto.dtype());
  if (!dtype.ok()) return named(dtype.status());
  entry.dtype = *dtype;
  SLUICE_RETURN_IF_ERROR(named(CheckCount(
      "sequence_lengths", proto.sequence_lengths_size(), kMaxSequences)));
  int64_t rows = 0;
  for (const int64_t length : proto.sequence_lengths()) {
    SLUICE_RETURN_IF_ERROR(named(CheckNotNegative("sequence_lengths", length)));
    if (__builtin_add_overflow(rows, length, &rows)) {
      return named(absl::InvalidArgumentError(
          "sequence_lengths: expected a sum below 2^63, found more"));
    }
  }
  entry.sequence_lengths = ShapeOf(proto.sequence_lengths());
  entry.trailing_shape = ShapeOf(proto.trailing_shape());
  Shape whole = entry.trailing_shape;
  whole.insert(whole.begin(), rows);
  SLUICE_RETURN_IF_ERROR(named(CheckShape(whole, entry.dtype)));
  return entry;
}

}  // namespace sluice
