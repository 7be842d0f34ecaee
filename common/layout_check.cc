// CheckLayout: a layout by itself is whole and writes nothing twice.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/layout.h"
#include "common/layout_coverage.h"
#include "common/layout_resolve.h"
#include "common/status_macros.h"

namespace sluice {
namespace {

int32_t RankAt(const Mesh& mesh, int64_t mesh_index) {
  return mesh.ranks[static_cast<size_t>(mesh_index)].value();
}

// Every replica holds every element of the class's tensors.
absl::Status CheckCoverage(const ModelSpec& model, const Layout& layout,
                           const Mesh& mesh, const TensorClass& c,
                           const std::vector<std::vector<int64_t>>& replicas) {
  const TensorSpec& tensor = model.tensor(c.tensors[0]);
  for (size_t replica = 0; replica < replicas.size(); ++replica) {
    std::vector<Box> boxes;
    for (const int64_t index : replicas[replica]) {
      const std::vector<Box>& held = c.boxes[static_cast<size_t>(index)];
      boxes.insert(boxes.end(), held.begin(), held.end());
    }
    const std::optional<Box> hole = FindHole(tensor.shape, std::move(boxes));
    if (!hole.has_value()) continue;
    std::vector<int32_t> ranks;
    for (const int64_t index : replicas[replica]) {
      ranks.push_back(RankAt(mesh, index));
    }
    return absl::InvalidArgumentError(absl::StrCat(
        "layout \"", layout.name, "\" leaves a hole: tensor \"", tensor.name,
        "\", box ", hole->ToString(), " is held by none of replica ", replica,
        "'s ranks ", absl::StrJoin(ranks, ",")));
  }
  return absl::OkStatus();
}

// No two of the views, all of one parameter, share memory.
absl::Status CheckMemory(const ModelSpec& model, const Layout& layout,
                         const LocalParam& param,
                         const std::vector<const View*>& views, int32_t rank) {
  absl::StatusOr<std::optional<std::pair<size_t, size_t>>> overlap =
      FindMemoryOverlap(param.shape, views);
  const std::string where =
      absl::StrCat("layout \"", layout.name, "\", rank ", rank,
                   ", local parameter \"", param.name, "\"");
  if (!overlap.ok()) return Annotate(overlap.status(), where);
  if (!overlap->has_value()) return absl::OkStatus();
  const View& one = *views[(*overlap)->first];
  const View& other = *views[(*overlap)->second];
  return absl::InvalidArgumentError(absl::StrCat(
      where, " is written twice: box ", one.box.ToString(), " of tensor \"",
      model.tensor(one.tensor).name, "\" and box ", other.box.ToString(),
      " of tensor \"", model.tensor(other.tensor).name, "\" share memory"));
}

// The views of one explicit rank, which is normalised.
absl::Status CheckExplicitRank(const ModelSpec& model, const Layout& layout,
                               const RankLayout& rank_layout, int32_t rank) {
  std::vector<std::vector<const View*>> by_param(rank_layout.params.size());
  for (const View& view : rank_layout.views) {
    by_param[static_cast<size_t>(view.param)].push_back(&view);
  }
  for (size_t p = 0; p < by_param.size(); ++p) {
    SLUICE_RETURN_IF_ERROR(
        CheckMemory(model, layout, rank_layout.params[p], by_param[p], rank));
  }
  // Views are sorted by tensor, then by box, so by the lower end of dim 0.
  const std::vector<View>& views = rank_layout.views;
  for (size_t i = 0; i < views.size(); ++i) {
    const Box& one = views[i].box;
    for (size_t j = i + 1; j < views.size(); ++j) {
      const Box& other = views[j].box;
      if (views[j].tensor != views[i].tensor ||
          (one.rank() > 0 && other.dim(0).lo >= one.dim(0).hi)) {
        break;
      }
      const std::optional<Box> common = one.Intersect(other);
      if (!common.has_value()) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("layout \"", layout.name, "\", rank ", rank,
                       " holds box ", common->ToString(), " of tensor \"",
                       model.tensor(views[i].tensor).name, "\" twice"));
    }
  }
  return absl::OkStatus();
}

// One representative of each pattern of one mesh index.
absl::Status CheckPatterns(const ModelSpec& model, const Layout& layout,
                           const ResolvedLayout& resolved, int64_t mesh_index,
                           int32_t rank) {
  for (const ParamPattern& pattern : resolved.PatternsOf(mesh_index)) {
    SLUICE_ASSIGN_OR_RETURN(const std::optional<ParamShape> shape,
                            resolved.ShapeOf(pattern, mesh_index));
    if (!shape.has_value()) continue;
    const ParamPattern::Instance& instance = pattern.instances[0];
    std::vector<View> views;
    for (const ParamShape::MemberView& view : shape->views) {
      views.push_back({instance.members[view.member], view.box, 0, view.offset,
                       view.strides});
    }
    std::vector<const View*> pointers;
    for (const View& view : views) pointers.push_back(&view);
    const LocalParam param{instance.name, shape->dtype, shape->shape, 0};
    SLUICE_RETURN_IF_ERROR(CheckMemory(model, layout, param, pointers, rank));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckLayout(const ModelSpec& model, const Layout& layout,
                         const Mesh& mesh) {
  SLUICE_RETURN_IF_ERROR(mesh.Validate());
  for (const std::string& axis : layout.replica_axes) {
    if (mesh.FindAxis(axis) >= 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("layout \"", layout.name, "\", replica axes: axis \"",
                     axis, "\" is unknown to mesh ", mesh.ToString()));
  }
  if (!layout.explicit_ranks.empty()) {
    SLUICE_ASSIGN_OR_RETURN(const std::vector<RankLayout> ranks,
                            ExpandLayoutOnAll(model, layout, mesh));
    for (int64_t i = 0; i < mesh.size(); ++i) {
      SLUICE_RETURN_IF_ERROR(CheckExplicitRank(
          model, layout, ranks[static_cast<size_t>(i)], RankAt(mesh, i)));
    }
  } else {
    SLUICE_ASSIGN_OR_RETURN(const ResolvedLayout resolved,
                            ResolvedLayout::Create(model, layout, mesh));
    for (int64_t i = 0; i < mesh.size(); ++i) {
      SLUICE_RETURN_IF_ERROR(
          CheckPatterns(model, layout, resolved, i, RankAt(mesh, i)));
    }
  }
  SLUICE_ASSIGN_OR_RETURN(const std::vector<TensorClass> classes,
                          ClassifyLayout(model, layout, mesh));
  std::vector<std::vector<int64_t>> replicas(
      static_cast<size_t>(NumReplicas(layout, mesh)));
  for (int64_t i = 0; i < mesh.size(); ++i) {
    replicas[static_cast<size_t>(ReplicaOf(layout, mesh, i))].push_back(i);
  }
  for (const TensorClass& c : classes) {
    SLUICE_RETURN_IF_ERROR(CheckCoverage(model, layout, mesh, c, replicas));
  }
  return absl::OkStatus();
}

}  // namespace sluice
