// How local parameters look on one agent: shape, and where each member lies.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/layout_resolve.h"
#include "common/status_macros.h"

namespace sluice {
namespace {

// What one member of a parameter brings.
struct MemberPlace {
  std::vector<LocalPiece> pieces;
  Shape extents;

  // Whether it takes no room: no element and no padding.
  bool empty() const {
    return std::find(extents.begin(), extents.end(), 0) != extents.end();
  }
};

// Strides of the logical dimensions of a region kept in `order`, and its shape
// in memory.
struct MemoryOrder {
  Shape shape;
  std::vector<int64_t> strides;
};

MemoryOrder InOrder(const Shape& logical, const std::vector<int>& order) {
  MemoryOrder out;
  if (order.empty()) return {logical, RowMajorStrides(logical)};
  for (const int d : order) {
    out.shape.push_back(logical[static_cast<size_t>(d)]);
  }
  const std::vector<int64_t> strides = RowMajorStrides(out.shape);
  out.strides.resize(order.size());
  for (size_t i = 0; i < order.size(); ++i) {
    out.strides[static_cast<size_t>(order[i])] = strides[i];
  }
  return out;
}

int64_t OffsetOf(const std::vector<int64_t>& at,
                 const std::vector<int64_t>& strides) {
  int64_t offset = 0;
  for (size_t d = 0; d < at.size(); ++d) offset += at[d] * strides[d];
  return offset;
}

// Lays members side by side along fuse_dim, group by group.
void PlaceFused(const std::vector<MemberPlace>& places,
                const std::vector<int64_t>& group_sizes, int64_t groups,
                size_t fuse_dim, const std::vector<int64_t>& strides,
                ParamShape& out) {
  int64_t next = 0;
  for (int64_t g = 0; g < groups; ++g) {
    for (size_t m = 0; m < places.size(); ++m) {
      if (places[m].empty()) continue;
      int64_t taken = groups > 1 ? 0 : places[m].extents[fuse_dim];
      for (const LocalPiece& piece : places[m].pieces) {
        Box box = piece.box;
        std::vector<int64_t> at = piece.at;
        if (groups > 1) {
          Interval& along = box.dim(static_cast<int>(fuse_dim));
          along = {std::max(along.lo, g * group_sizes[m]),
                   std::min(along.hi, (g + 1) * group_sizes[m])};
          taken = along.size();
          at[fuse_dim] = 0;
        }
        if (box.empty()) continue;
        at[fuse_dim] += next;
        out.views.push_back(
            {m, std::move(box), OffsetOf(at, strides), strides});
      }
      next += taken;
    }
  }
}

// Turns the first slice into `slots` of them along a new leading dimension.
void Stack(size_t slots, size_t members, ParamShape& out) {
  int64_t slice = 1;
  for (const int64_t extent : out.shape) slice *= extent;
  out.shape.insert(out.shape.begin(), static_cast<int64_t>(slots));
  const size_t views = out.views.size();
  out.views.reserve(views * slots);
  for (size_t s = 1; s < slots; ++s) {
    for (size_t v = 0; v < views; ++v) {
      ParamShape::MemberView view = out.views[v];
      view.member += s * members;
      view.offset += static_cast<int64_t>(s) * slice;
      out.views.push_back(std::move(view));
    }
  }
}

ParamShape FlatShape(const std::vector<ResolvedClass>& classes,
                     const ParamPattern& pattern, int64_t mesh_index) {
  const ResolvedClass& first = classes[static_cast<size_t>(pattern.classes[0])];
  ParamShape out;
  out.dtype = first.dtype;
  out.shape = {first.unit->On(mesh_index).range};
  for (size_t m = 0; m < pattern.classes.size(); ++m) {
    const ResolvedClass& c = classes[static_cast<size_t>(pattern.classes[m])];
    std::vector<int64_t> strides = RowMajorStrides(c.LocalShape(mesh_index));
    for (LocalPiece& piece : c.PiecesOn(mesh_index)) {
      out.views.push_back({m, std::move(piece.box), piece.at[0], strides});
    }
  }
  return out;
}

// 4 TiB: what an agent's 2^20 parameters need together does not overflow.
constexpr int64_t kMaxParamBytes = int64_t{1} << 42;

absl::StatusOr<std::optional<ParamShape>> CheckedSize(
    const ParamPattern& pattern, ParamShape shape) {
  const std::optional<int64_t> elements = NumElements(shape.shape);
  int64_t bytes = 0;
  if (elements.has_value() &&
      !__builtin_mul_overflow(*elements, ByteSize(shape.dtype), &bytes) &&
      bytes <= kMaxParamBytes) {
    return std::optional<ParamShape>(std::move(shape));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "local parameter \"", pattern.instances[0].name, "\" of shape [",
      absl::StrJoin(shape.shape, ","), "] is too large: expected at most ",
      kMaxParamBytes, " bytes"));
}

// Adds the extents of a fused member along `fuse_dim`; those along the others
// have to agree (returns the first that does not, else nullopt).
std::optional<size_t> AddExtents(const Shape& extents, size_t fuse_dim,
                                 std::optional<Shape>& whole) {
  if (!whole.has_value()) {
    whole = extents;
    return std::nullopt;
  }
  for (size_t d = 0; d < extents.size(); ++d) {
    if (d != fuse_dim && extents[d] != (*whole)[d]) return d;
  }
  (*whole)[fuse_dim] += extents[fuse_dim];
  return std::nullopt;
}

}  // namespace

absl::StatusOr<std::optional<ParamShape>> ResolvedLayout::ShapeOf(
    const ParamPattern& pattern, int64_t mesh_index) const {
  const auto class_at = [&](size_t m) -> const ResolvedClass& {
    return classes_[static_cast<size_t>(pattern.classes[m])];
  };
  const ResolvedClass& first = class_at(0);
  if (first.unit != nullptr) {
    ParamShape flat = FlatShape(classes_, pattern, mesh_index);
    if (flat.shape[0] == 0) return std::optional<ParamShape>();
    return CheckedSize(pattern, std::move(flat));
  }
  const bool fused = first.rule->fuse_index >= 0;
  const auto fuse_dim = static_cast<size_t>(first.rule->fuse_dim);
  const int64_t groups = std::max<int64_t>(first.rule->interleave, 1);
  const size_t members =
      pattern.classes.size() / std::max<size_t>(pattern.slots, 1);
  std::vector<MemberPlace> places;
  std::vector<int64_t> group_sizes;
  std::optional<Shape> whole;
  for (size_t m = 0; m < members; ++m) {
    const ResolvedClass& c = class_at(m);
    places.push_back({c.PiecesOn(mesh_index), c.LocalShape(mesh_index)});
    if (places.back().empty()) {
      group_sizes.push_back(0);
      continue;
    }
    const Shape& extents = places.back().extents;
    group_sizes.push_back(fused ? c.shape[fuse_dim] / groups : 0);
    if (const auto d = AddExtents(extents, fuse_dim, whole); d.has_value()) {
      return absl::InvalidArgumentError(
          absl::StrCat("local parameter \"", pattern.instances[0].name,
                       "\": fused members \"", first.rule->pattern, "\" and \"",
                       c.rule->pattern, "\" have ", (*whole)[*d], " and ",
                       extents[*d], " elements in dimension ", *d, " on rank ",
                       mesh_->ranks[static_cast<size_t>(mesh_index)].value()));
    }
  }
  if (!whole.has_value()) return std::optional<ParamShape>();
  ParamShape out;
  out.dtype = first.dtype;
  MemoryOrder order = InOrder(*whole, first.rule->dim_order);
  out.shape = std::move(order.shape);
  if (fused) {
    PlaceFused(places, group_sizes, groups, fuse_dim, order.strides, out);
  } else {
    for (LocalPiece& piece : places[0].pieces) {
      out.views.push_back({0, std::move(piece.box),
                           OffsetOf(piece.at, order.strides), order.strides});
    }
  }
  if (pattern.slots > 0) Stack(pattern.slots, members, out);
  return CheckedSize(pattern, std::move(out));
}

absl::StatusOr<RankLayout> ResolvedLayout::Expand(int64_t mesh_index) const {
  RankLayout out;
  for (const std::vector<ParamPattern>* patterns : PatternsOf(mesh_index)) {
    for (const ParamPattern& pattern : *patterns) {
      SLUICE_ASSIGN_OR_RETURN(const std::optional<ParamShape> shape,
                              ShapeOf(pattern, mesh_index));
      if (!shape.has_value()) continue;
      for (const ParamPattern::Instance& instance : pattern.instances) {
        const auto param = static_cast<int32_t>(out.params.size());
        out.params.push_back({instance.name, shape->dtype, shape->shape, 0});
        for (const ParamShape::MemberView& view : shape->views) {
          out.views.push_back({instance.members[view.member], view.box, param,
                               view.offset, view.strides});
        }
      }
    }
  }
  SortRankLayout(out);
  return out;
}

}  // namespace sluice
