#include "common/layout.h"

#include <algorithm>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "common/layout_resolve.h"
#include "common/status_macros.h"

namespace sluice {
namespace {

absl::Status CheckExplicitCount(const Layout& layout, const Mesh& mesh) {
  if (static_cast<int64_t>(layout.explicit_ranks.size()) == mesh.size()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "layout \"", layout.name, "\" gives explicit views for ",
      layout.explicit_ranks.size(), " agents: expected ", mesh.size()));
}

absl::StatusOr<RankLayout> ExpandExplicit(const ModelSpec& model,
                                          const Layout& layout,
                                          const Mesh& mesh, int64_t index) {
  const auto i = static_cast<size_t>(index);
  return NormalizeExplicit(model, layout.explicit_ranks[i],
                           absl::StrCat("layout \"", layout.name, "\", rank ",
                                        mesh.ranks[i].value()));
}

// Tensors of equal dtype, shape and boxes on every agent.
absl::StatusOr<std::vector<TensorClass>> ClassifyExplicit(
    const ModelSpec& model, const Layout& layout, const Mesh& mesh) {
  SLUICE_RETURN_IF_ERROR(CheckExplicitCount(layout, mesh));
  const auto num_ranks = static_cast<size_t>(mesh.size());
  std::vector<std::vector<std::vector<Box>>> boxes(
      model.tensors.size(), std::vector<std::vector<Box>>(num_ranks));
  for (size_t i = 0; i < num_ranks; ++i) {
    SLUICE_ASSIGN_OR_RETURN(
        const RankLayout rank,
        ExpandExplicit(model, layout, mesh, static_cast<int64_t>(i)));
    for (const View& view : rank.views) {  // ascending (tensor, box)
      auto& held = boxes[static_cast<size_t>(view.tensor.value())][i];
      if (held.empty() || held.back() != view.box) held.push_back(view.box);
    }
  }
  using Key = std::tuple<int, Shape, std::vector<std::vector<Box>>>;
  absl::flat_hash_map<Key, size_t> index;
  std::vector<TensorClass> classes;
  for (size_t t = 0; t < model.tensors.size(); ++t) {
    const TensorSpec& tensor = model.tensors[t];
    const auto [it, inserted] = index.try_emplace(
        Key{static_cast<int>(tensor.dtype), tensor.shape, std::move(boxes[t])},
        classes.size());
    if (inserted) classes.push_back({{}, std::get<2>(it->first)});
    classes[it->second].tensors.push_back(TensorIndex(static_cast<int32_t>(t)));
  }
  return classes;
}

// What one member of a parameter brings, per dimension.
struct MemberPlace {
  std::vector<Interval> held;
  Shape extents;

  // Whether it takes no room: no element and no padding.
  bool empty() const {
    return std::find(extents.begin(), extents.end(), 0) != extents.end();
  }
};

MemberPlace PlaceOf(const ResolvedClass& c, int64_t mesh_index) {
  MemberPlace place;
  for (int d = 0; d < static_cast<int>(c.shape.size()); ++d) {
    place.held.push_back(c.Held(d, mesh_index));
    place.extents.push_back(c.LocalExtent(d, mesh_index));
  }
  return place;
}

// Lays fused members side by side along fuse_dim, group by group.
void PlaceMembers(const std::vector<MemberPlace>& places,
                  const std::vector<int64_t>& group_sizes, int64_t groups,
                  size_t fuse_dim, ParamShape& out) {
  const std::vector<int64_t> strides = RowMajorStrides(out.shape);
  int64_t next = 0;
  for (int64_t g = 0; g < groups; ++g) {
    for (size_t m = 0; m < places.size(); ++m) {
      if (places[m].empty()) continue;
      std::vector<Interval> dims = places[m].held;
      int64_t taken = places[m].extents[fuse_dim];
      if (groups > 1) {
        Interval& along = dims[fuse_dim];
        along = {std::max(along.lo, g * group_sizes[m]),
                 std::min(along.hi, (g + 1) * group_sizes[m])};
        taken = along.size();
      }
      Box box(std::move(dims));
      if (!box.empty()) {
        out.views.push_back(
            {m, std::move(box), next * strides[fuse_dim], strides});
      }
      next += taken;
    }
  }
}

}  // namespace

absl::StatusOr<std::optional<ParamShape>> ResolvedLayout::ShapeOf(
    const ParamPattern& pattern, int64_t mesh_index) const {
  const ResolvedClass& first =
      classes_[static_cast<size_t>(pattern.classes[0])];
  ParamShape out;
  out.dtype = first.dtype;
  if (first.rule->fuse_index < 0) {
    const MemberPlace place = PlaceOf(first, mesh_index);
    if (place.empty()) return std::optional<ParamShape>();
    out.shape = place.extents;
    Box box(place.held);
    if (!box.empty()) {
      out.views.push_back({0, std::move(box), 0, RowMajorStrides(out.shape)});
    }
    return std::optional<ParamShape>(std::move(out));
  }
  // Fused: the extents along fuse_dim add up, the others agree.
  const auto fuse_dim = static_cast<size_t>(first.rule->fuse_dim);
  const int64_t groups = std::max<int64_t>(first.rule->interleave, 1);
  std::vector<MemberPlace> places;
  std::vector<int64_t> group_sizes;
  for (const int32_t index : pattern.classes) {
    const ResolvedClass& c = classes_[static_cast<size_t>(index)];
    places.push_back(PlaceOf(c, mesh_index));
    group_sizes.push_back(c.shape[fuse_dim] / groups);
    if (places.back().empty()) continue;
    const Shape& extents = places.back().extents;
    if (out.shape.empty()) {
      out.shape = extents;
      continue;
    }
    for (size_t d = 0; d < extents.size(); ++d) {
      if (d == fuse_dim || extents[d] == out.shape[d]) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("local parameter \"", pattern.instances[0].name,
                       "\": fused members \"", first.rule->pattern, "\" and \"",
                       c.rule->pattern, "\" have ", out.shape[d], " and ",
                       extents[d], " elements in dimension ", d, " on rank ",
                       mesh_->ranks[static_cast<size_t>(mesh_index)].value()));
    }
    out.shape[fuse_dim] += extents[fuse_dim];
  }
  if (out.shape.empty()) return std::optional<ParamShape>();
  PlaceMembers(places, group_sizes, groups, fuse_dim, out);
  return std::optional<ParamShape>(std::move(out));
}

absl::StatusOr<RankLayout> ResolvedLayout::Expand(int64_t mesh_index) const {
  RankLayout out;
  for (const ParamPattern& pattern : PatternsOf(mesh_index)) {
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
  SortRankLayout(out);
  return out;
}

absl::StatusOr<RankLayout> ExpandLayout(const ModelSpec& model,
                                        const Layout& layout, const Mesh& mesh,
                                        int64_t mesh_index) {
  if (mesh_index < 0 || mesh_index >= mesh.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "mesh index ", mesh_index, ": expected below ", mesh.size()));
  }
  if (!layout.explicit_ranks.empty()) {
    SLUICE_RETURN_IF_ERROR(CheckExplicitCount(layout, mesh));
    return ExpandExplicit(model, layout, mesh, mesh_index);
  }
  SLUICE_ASSIGN_OR_RETURN(const ResolvedLayout resolved,
                          ResolvedLayout::Create(model, layout, mesh));
  return resolved.Expand(mesh_index);
}

absl::StatusOr<std::vector<RankLayout>> ExpandLayoutOnAll(
    const ModelSpec& model, const Layout& layout, const Mesh& mesh) {
  std::vector<RankLayout> out;
  if (!layout.explicit_ranks.empty()) {
    SLUICE_RETURN_IF_ERROR(CheckExplicitCount(layout, mesh));
    for (int64_t i = 0; i < mesh.size(); ++i) {
      SLUICE_ASSIGN_OR_RETURN(RankLayout rank,
                              ExpandExplicit(model, layout, mesh, i));
      out.push_back(std::move(rank));
    }
    return out;
  }
  SLUICE_ASSIGN_OR_RETURN(const ResolvedLayout resolved,
                          ResolvedLayout::Create(model, layout, mesh));
  for (int64_t i = 0; i < mesh.size(); ++i) {
    SLUICE_ASSIGN_OR_RETURN(RankLayout rank, resolved.Expand(i));
    out.push_back(std::move(rank));
  }
  return out;
}

absl::StatusOr<std::vector<TensorClass>> ClassifyLayout(const ModelSpec& model,
                                                        const Layout& layout,
                                                        const Mesh& mesh) {
  if (!layout.explicit_ranks.empty()) {
    return ClassifyExplicit(model, layout, mesh);
  }
  SLUICE_ASSIGN_OR_RETURN(const ResolvedLayout resolved,
                          ResolvedLayout::Create(model, layout, mesh));
  std::vector<TensorClass> out;
  out.reserve(resolved.classes().size());
  for (const ResolvedClass& c : resolved.classes()) {
    TensorClass& made = out.emplace_back();
    made.tensors = c.tensors;
    made.boxes.resize(static_cast<size_t>(mesh.size()));
    for (int64_t i = 0; i < mesh.size(); ++i) {
      if (!resolved.OnStage(c, i)) continue;
      std::optional<Box> box = c.BoxOn(i);
      if (box.has_value()) {
        made.boxes[static_cast<size_t>(i)].push_back(*std::move(box));
      }
    }
  }
  return out;
}

int64_t ReplicaOf(const Layout& layout, const Mesh& mesh, int64_t mesh_index) {
  return mesh.PositionOver(mesh_index, layout.replica_axes).first;
}

int64_t NumReplicas(const Layout& layout, const Mesh& mesh) {
  int64_t count = 1;
  for (const std::string& axis : layout.replica_axes) {
    count *= mesh.AxisSize(axis);
  }
  return count;
}

}  // namespace sluice
