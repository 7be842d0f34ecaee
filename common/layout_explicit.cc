// Explicit views: what a rule would make right by construction is checked here.

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "common/dtype_conversion.h"
#include "common/layout_resolve.h"
#include "common/status_macros.h"

namespace sluice {
namespace {

absl::Status CheckParams(const RankLayout& given, absl::string_view where) {
  absl::flat_hash_set<std::string> names;
  int64_t total = 0;
  for (const LocalParam& param : given.params) {
    if (param.name.empty() || !names.insert(param.name).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": local parameter \"", param.name,
                       "\" has no name or one that is taken"));
    }
    const std::optional<int64_t> elements = NumElements(param.shape);
    int64_t bytes = 0;
    if (ByteSize(param.dtype) == 0 || !elements.has_value() ||
        __builtin_mul_overflow(*elements, ByteSize(param.dtype), &bytes) ||
        __builtin_add_overflow(bytes, kParamAlignment, &bytes) ||
        __builtin_add_overflow(total, bytes, &total)) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": local parameter \"", param.name,
                       "\": dtype is unknown, or shape negative or too large"));
    }
  }
  return absl::OkStatus();
}

// Whether all addresses of the view lie in [0, limit).
bool LiesInside(const View& view, int64_t limit) {
  __int128 lowest = view.offset;
  __int128 highest = view.offset;
  for (int d = 0; d < view.box.rank(); ++d) {
    const __int128 reach = static_cast<__int128>(view.box.dim(d).size() - 1) *
                           view.strides[static_cast<size_t>(d)];
    (reach < 0 ? lowest : highest) += reach;
  }
  return lowest >= 0 && highest < limit;
}

absl::Status CheckView(const ModelSpec& model, const RankLayout& given,
                       const View& view, absl::string_view where) {
  if (view.tensor.value() < 0 ||
      static_cast<size_t>(view.tensor.value()) >= model.tensors.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": view of tensor number ", view.tensor.value(),
                     ": expected below ", model.tensors.size()));
  }
  const TensorSpec& tensor = model.tensor(view.tensor);
  const auto bad = [&](absl::string_view why) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": view ", view.box.ToString(), " of tensor \"",
                     tensor.name, "\": ", why));
  };
  if (!view.box.FitsIn(tensor.shape) || view.box.empty()) {
    return bad(absl::StrCat("is empty or outside of ",
                            Box::Whole(tensor.shape).ToString()));
  }
  if (view.param < 0 ||
      static_cast<size_t>(view.param) >= given.params.size()) {
    return bad(absl::StrCat("parameter number ", view.param,
                            ": expected below ", given.params.size()));
  }
  const LocalParam& param = given.params[static_cast<size_t>(view.param)];
  if (view.strides.size() != tensor.shape.size()) {
    return bad(absl::StrCat("has ", view.strides.size(), " strides: expected ",
                            tensor.shape.size()));
  }
  if (!Convertible(tensor.dtype, param.dtype)) {
    return bad(absl::StrCat("parameter \"", param.name, "\" has dtype ",
                            DTypeName(param.dtype),
                            ": there is no conversion from the tensor's, ",
                            DTypeName(tensor.dtype)));
  }
  if (!LiesInside(view, *NumElements(param.shape))) {
    return bad(absl::StrCat("reaches outside of parameter \"", param.name,
                            "\" with ", *NumElements(param.shape),
                            " elements"));
  }
  return absl::OkStatus();
}

}  // namespace

void SortRankLayout(RankLayout& layout) {
  std::vector<int32_t> order(layout.params.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&layout](int32_t a, int32_t b) {
    return layout.params[static_cast<size_t>(a)].name <
           layout.params[static_cast<size_t>(b)].name;
  });
  std::vector<int32_t> place(order.size());
  std::vector<LocalParam> params;
  params.reserve(order.size());
  for (size_t i = 0; i < order.size(); ++i) {
    place[static_cast<size_t>(order[i])] = static_cast<int32_t>(i);
    params.push_back(std::move(layout.params[static_cast<size_t>(order[i])]));
  }
  layout.params = std::move(params);
  for (View& view : layout.views) {
    view.param = place[static_cast<size_t>(view.param)];
  }
  std::sort(layout.views.begin(), layout.views.end(),
            [](const View& a, const View& b) {
              if (a.tensor != b.tensor) return a.tensor < b.tensor;
              if (a.box != b.box) return a.box < b.box;
              return a.param < b.param;
            });
  PackParams(layout);
}

absl::StatusOr<RankLayout> NormalizeExplicit(const ModelSpec& model,
                                             const RankLayout& given,
                                             absl::string_view where) {
  SLUICE_RETURN_IF_ERROR(CheckParams(given, where));
  for (const View& view : given.views) {
    SLUICE_RETURN_IF_ERROR(CheckView(model, given, view, where));
  }
  RankLayout out = given;
  SortRankLayout(out);
  return out;
}

}  // namespace sluice
