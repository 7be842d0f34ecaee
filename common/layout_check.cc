// CheckLayout: a layout by itself is whole and writes nothing twice.

#include <algorithm>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/layout.h"
#include "common/layout_axes.h"
#include "common/layout_coverage.h"
#include "common/layout_resolve.h"
#include "common/status_macros.h"

namespace sluice {
namespace {

int32_t RankAt(const Mesh& mesh, int64_t mesh_index) {
  return mesh.ranks[static_cast<size_t>(mesh_index)].value();
}

// The mesh indices of each replica, and the replica of each mesh index.
struct Replicas {
  std::vector<std::vector<int64_t>> indices;
  std::vector<size_t> of_index;
};

absl::StatusOr<Replicas> ReplicasOf(const Layout& layout, const Mesh& mesh) {
  SLUICE_ASSIGN_OR_RETURN(const LayoutAxes axes,
                          LayoutAxes::Create(layout, mesh));
  for (const std::string& axis : layout.replica_axes) {
    SLUICE_RETURN_IF_ERROR(axes.Require(
        axis, absl::StrCat("layout \"", layout.name, "\", replica axes")));
  }
  Replicas out;
  out.indices.resize(static_cast<size_t>(axes.CountOver(layout.replica_axes)));
  for (int64_t i = 0; i < mesh.size(); ++i) {
    out.of_index.push_back(
        static_cast<size_t>(axes.PositionOver(i, layout.replica_axes)));
    out.indices[out.of_index.back()].push_back(i);
  }
  return out;
}

// Every replica holds every element of the class's tensors.
absl::Status CheckCoverage(const ModelSpec& model, const Layout& layout,
                           const Mesh& mesh, const TensorClass& c,
                           const Replicas& replicas) {
  const TensorSpec& tensor = model.tensor(c.tensors[0]);
  std::vector<std::vector<Box>> held(replicas.indices.size());
  for (const TensorClass::Holder& holder : c.holders) {
    std::vector<Box>& boxes =
        held[replicas.of_index[static_cast<size_t>(holder.mesh_index)]];
    boxes.insert(boxes.end(), holder.boxes.begin(), holder.boxes.end());
  }
  for (size_t replica = 0; replica < held.size(); ++replica) {
    const std::optional<Box> hole =
        FindHole(tensor.shape, std::move(held[replica]));
    if (!hole.has_value()) continue;
    std::vector<int32_t> ranks;
    for (const int64_t index : replicas.indices[replica]) {
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

// Who holds what of a class in one replica.
struct Held {
  const Box* box;
  int64_t mesh_index;
};

// Two different agents with a common element.
std::optional<std::pair<Held, Held>> FindCommonElement(std::vector<Held> held) {
  std::sort(held.begin(), held.end(), [](const Held& a, const Held& b) {
    return std::tie(*a.box, a.mesh_index) < std::tie(*b.box, b.mesh_index);
  });
  for (size_t i = 0; i < held.size(); ++i) {
    const Box& one = *held[i].box;
    for (size_t j = i + 1; j < held.size(); ++j) {
      const Box& other = *held[j].box;
      if (one.rank() > 0 && other.dim(0).lo >= one.dim(0).hi) break;
      if (held[i].mesh_index != held[j].mesh_index &&
          one.Intersect(other).has_value()) {
        return std::pair(held[i], held[j]);
      }
    }
  }
  return std::nullopt;
}

using Looks = std::pair<const ParamPattern*, std::vector<int64_t>>;

// One representative of each pattern of one mesh index, unless `seen` has one
// that looks alike.
absl::Status CheckPatterns(const ModelSpec& model, const Layout& layout,
                           const ResolvedLayout& resolved, int64_t mesh_index,
                           int32_t rank, absl::flat_hash_set<Looks>& seen) {
  for (const std::vector<ParamPattern>* patterns :
       resolved.PatternsOf(mesh_index)) {
    for (const ParamPattern& pattern : *patterns) {
      if (!seen.emplace(&pattern, pattern.LooksOn(mesh_index)).second) continue;
      SLUICE_ASSIGN_OR_RETURN(const std::optional<ParamShape> shape,
                              resolved.ShapeOf(pattern, mesh_index));
      if (!shape.has_value()) continue;
      const ParamPattern::Instance& instance = pattern.instances[0];
      std::vector<View> views;
      for (const ParamShape::MemberView& view : shape->views) {
        views.push_back({instance.members[view.member], view.box, 0,
                         view.offset, view.strides});
      }
      std::vector<const View*> pointers;
      for (const View& view : views) pointers.push_back(&view);
      const LocalParam param{instance.name, shape->dtype, shape->shape, 0};
      SLUICE_RETURN_IF_ERROR(CheckMemory(model, layout, param, pointers, rank));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckReplicasDeclared(const ModelSpec& model, const Layout& layout,
                                   const Mesh& mesh) {
  if (layout.explicit_ranks.empty() || layout.replicated_views) {
    return absl::OkStatus();
  }
  SLUICE_ASSIGN_OR_RETURN(const Replicas replicas, ReplicasOf(layout, mesh));
  SLUICE_ASSIGN_OR_RETURN(const std::vector<TensorClass> classes,
                          ClassifyLayout(model, layout, mesh));
  for (const TensorClass& c : classes) {
    std::vector<std::vector<Held>> held(replicas.indices.size());
    for (const TensorClass::Holder& holder : c.holders) {
      const auto i = static_cast<size_t>(holder.mesh_index);
      for (const Box& box : holder.boxes) {
        held[replicas.of_index[i]].push_back({&box, holder.mesh_index});
      }
    }
    for (std::vector<Held>& in_replica : held) {
      const auto common = FindCommonElement(std::move(in_replica));
      if (!common.has_value()) continue;
      const auto& [one, other] = *common;
      return absl::InvalidArgumentError(absl::StrCat(
          "layout \"", layout.name, "\": tensor \"",
          model.tensor(c.tensors[0]).name, "\", box ",
          one.box->Intersect(*other.box)->ToString(), " is held by rank ",
          RankAt(mesh, one.mesh_index), " and rank ",
          RankAt(mesh, other.mesh_index),
          " of one replica: expected one holder, or \"replicated_views\""));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckLayout(const ModelSpec& model, const Layout& layout,
                         const Mesh& mesh) {
  SLUICE_RETURN_IF_ERROR(mesh.Validate());
  SLUICE_ASSIGN_OR_RETURN(const Replicas replicas, ReplicasOf(layout, mesh));
  if (!layout.explicit_ranks.empty()) {
    SLUICE_ASSIGN_OR_RETURN(const std::vector<RankLayout> ranks,
                            ExpandLayoutOnAll(model, layout, mesh));
    for (int64_t i = 0; i < mesh.size(); ++i) {
      SLUICE_RETURN_IF_ERROR(CheckExplicitRank(
          model, layout, ranks[static_cast<size_t>(i)], RankAt(mesh, i)));
    }
    SLUICE_RETURN_IF_ERROR(CheckReplicasDeclared(model, layout, mesh));
  } else {
    SLUICE_ASSIGN_OR_RETURN(const ResolvedLayout resolved,
                            ResolvedLayout::Create(model, layout, mesh));
    absl::flat_hash_set<Looks> seen;
    for (int64_t i = 0; i < mesh.size(); ++i) {
      SLUICE_RETURN_IF_ERROR(
          CheckPatterns(model, layout, resolved, i, RankAt(mesh, i), seen));
    }
  }
  SLUICE_ASSIGN_OR_RETURN(const std::vector<TensorClass> classes,
                          ClassifyLayout(model, layout, mesh));
  for (const TensorClass& c : classes) {
    SLUICE_RETURN_IF_ERROR(CheckCoverage(model, layout, mesh, c, replicas));
  }
  return absl::OkStatus();
}

}  // namespace sluice
