#include "common/layout.h"

#include <algorithm>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "common/layout_axes.h"
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

// Notes in which type a view has its tensor; one type for all of them.
absl::Status NoteDType(const ModelSpec& model, const Layout& layout,
                       const RankLayout& rank, const View& view,
                       std::vector<DType>& held) {
  DType& known = held[static_cast<size_t>(view.tensor.value())];
  const DType found = rank.params[static_cast<size_t>(view.param)].dtype;
  if (known == DType::kUnspecified) known = found;
  if (known == found) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "layout \"", layout.name, "\": tensor \"", model.tensor(view.tensor).name,
      "\" is held as ", DTypeName(known), " and as ", DTypeName(found),
      ": expected one element type in a placement"));
}

// Tensors of equal dtype, shape and boxes on every agent.
absl::StatusOr<std::vector<TensorClass>> ClassifyExplicit(
    const ModelSpec& model, const Layout& layout, const Mesh& mesh) {
  SLUICE_RETURN_IF_ERROR(CheckExplicitCount(layout, mesh));
  std::vector<std::vector<TensorClass::Holder>> holders(model.tensors.size());
  std::vector<DType> dtypes(model.tensors.size(), DType::kUnspecified);
  for (int64_t i = 0; i < mesh.size(); ++i) {
    SLUICE_ASSIGN_OR_RETURN(const RankLayout rank,
                            ExpandExplicit(model, layout, mesh, i));
    for (const View& view : rank.views) {  // ascending (tensor, box)
      SLUICE_RETURN_IF_ERROR(NoteDType(model, layout, rank, view, dtypes));
      auto& held = holders[static_cast<size_t>(view.tensor.value())];
      if (held.empty() || held.back().mesh_index != i) held.push_back({i, {}});
      std::vector<Box>& boxes = held.back().boxes;
      if (boxes.empty() || boxes.back() != view.box) boxes.push_back(view.box);
    }
  }
  using Key = std::tuple<int, Shape, std::vector<TensorClass::Holder>>;
  absl::flat_hash_map<Key, size_t> index;
  std::vector<TensorClass> classes;
  for (size_t t = 0; t < model.tensors.size(); ++t) {
    const TensorSpec& tensor = model.tensors[t];
    const auto [it, inserted] = index.try_emplace(
        Key{static_cast<int>(dtypes[t]), tensor.shape, std::move(holders[t])},
        classes.size());
    if (inserted) classes.push_back({{}, std::get<2>(it->first), dtypes[t]});
    classes[it->second].tensors.push_back(TensorIndex(static_cast<int32_t>(t)));
  }
  return classes;
}

// The bytes of a mesh index's buffer, each kind of parameter looked at once.
class BufferSizes {
 public:
  explicit BufferSizes(const ResolvedLayout& resolved) : resolved_(resolved) {}

  absl::StatusOr<int64_t> On(int64_t mesh_index) {
    int64_t bytes = 0;
    for (const std::vector<ParamPattern>* patterns :
         resolved_.PatternsOf(mesh_index)) {
      for (const ParamPattern& pattern : *patterns) {
        SLUICE_ASSIGN_OR_RETURN(const int64_t one,
                                BytesOf(pattern, mesh_index));
        bytes += one * static_cast<int64_t>(pattern.instances.size());
      }
    }
    return bytes;
  }

 private:
  // One instance's bytes, aligned.
  absl::StatusOr<int64_t> BytesOf(const ParamPattern& pattern,
                                  int64_t mesh_index) {
    const auto [it, inserted] =
        known_.try_emplace({&pattern, pattern.LooksOn(mesh_index)}, 0);
    if (!inserted) return it->second;
    SLUICE_ASSIGN_OR_RETURN(const std::optional<ParamShape> shape,
                            resolved_.ShapeOf(pattern, mesh_index));
    if (!shape.has_value()) return 0;
    RankLayout packed;
    packed.params.push_back({"", shape->dtype, shape->shape, 0});
    PackParams(packed);
    it->second = packed.buffer_bytes;
    return it->second;
  }

  const ResolvedLayout& resolved_;
  absl::flat_hash_map<std::pair<const ParamPattern*, std::vector<int64_t>>,
                      int64_t>
      known_;
};

}  // namespace

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
    made.dtype = c.dtype;
    for (const int64_t i : resolved.HoldersOf(c)) {
      std::vector<Box> boxes;
      for (LocalPiece& piece : c.PiecesOn(i)) {
        boxes.push_back(std::move(piece.box));
      }
      if (!boxes.empty()) made.holders.push_back({i, std::move(boxes)});
    }
  }
  return out;
}

absl::StatusOr<std::vector<DType>> HeldTypes(const ModelSpec& model,
                                             const Layout& layout,
                                             const Mesh& mesh) {
  SLUICE_ASSIGN_OR_RETURN(const std::vector<TensorClass> classes,
                          ClassifyLayout(model, layout, mesh));
  std::vector<DType> held;
  held.reserve(model.tensors.size());
  for (const TensorSpec& tensor : model.tensors) held.push_back(tensor.dtype);
  for (const TensorClass& held_alike : classes) {
    if (held_alike.dtype == DType::kUnspecified) continue;  // by nobody
    for (const TensorIndex index : held_alike.tensors) {
      held[static_cast<size_t>(index.value())] = held_alike.dtype;
    }
  }
  return held;
}

absl::Span<const Box> TensorClass::BoxesOn(int64_t mesh_index) const {
  const auto it = std::partition_point(holders.begin(), holders.end(),
                                       [mesh_index](const Holder& holder) {
                                         return holder.mesh_index < mesh_index;
                                       });
  if (it == holders.end() || it->mesh_index != mesh_index) return {};
  return it->boxes;
}

absl::StatusOr<std::vector<int64_t>> LayoutBytesOnAll(const ModelSpec& model,
                                                      const Layout& layout,
                                                      const Mesh& mesh) {
  std::vector<int64_t> bytes;
  if (!layout.explicit_ranks.empty()) {
    SLUICE_ASSIGN_OR_RETURN(const std::vector<RankLayout> ranks,
                            ExpandLayoutOnAll(model, layout, mesh));
    for (const RankLayout& rank : ranks) bytes.push_back(rank.buffer_bytes);
    return bytes;
  }
  SLUICE_ASSIGN_OR_RETURN(const ResolvedLayout resolved,
                          ResolvedLayout::Create(model, layout, mesh));
  BufferSizes sizes(resolved);
  for (int64_t i = 0; i < mesh.size(); ++i) {
    SLUICE_ASSIGN_OR_RETURN(const int64_t one, sizes.On(i));
    bytes.push_back(one);
  }
  return bytes;
}

int64_t ReplicaOf(const Layout& layout, const Mesh& mesh, int64_t mesh_index) {
  const absl::StatusOr<LayoutAxes> axes = LayoutAxes::Create(layout, mesh);
  return axes.ok() ? axes->PositionOver(mesh_index, layout.replica_axes) : 0;
}

int64_t NumReplicas(const Layout& layout, const Mesh& mesh) {
  const absl::StatusOr<LayoutAxes> axes = LayoutAxes::Create(layout, mesh);
  return axes.ok() ? axes->CountOver(layout.replica_axes) : 1;
}

}  // namespace sluice
