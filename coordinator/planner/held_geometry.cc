#include "coordinator/planner/held_geometry.h"

#include <algorithm>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/planner/validator_geometry.h"

namespace sluice::coordinator {
namespace {

// Views compared one by one; where there are more, those of one agent are.
constexpr int64_t kMaxAuditedViews = int64_t{1} << 17;

int64_t VolumeOf(absl::Span<const Box> boxes) {
  int64_t volume = 0;
  for (const Box& box : boxes) volume += box.num_elements();
  return volume;
}

// Whether boxes, however they are cut, have the elements of others, which are
// disjoint.
bool SameElements(const std::vector<Box>& boxes, absl::Span<const Box> others) {
  if (absl::MakeConstSpan(boxes) == others) return true;
  if (VolumeOf(boxes) != VolumeOf(others) || FindCommon(boxes)) return false;
  return std::none_of(boxes.begin(), boxes.end(), [&](const Box& box) {
    return FindUncovered(box, others).has_value();
  });
}

// Sorted, without empty and repeated ones.
void Normalize(std::vector<Box>& boxes) {
  boxes.erase(std::remove_if(boxes.begin(), boxes.end(),
                             [](const Box& box) { return box.empty(); }),
              boxes.end());
  std::sort(boxes.begin(), boxes.end());
  boxes.erase(std::unique(boxes.begin(), boxes.end()), boxes.end());
}

}  // namespace

absl::StatusOr<HeldGeometry> HeldGeometry::Create(
    const ModelSpec& model, const PlacementGeometry& placement) {
  const Mesh& mesh = placement.mesh;
  HeldGeometry out;
  for (int64_t i = 0; i < mesh.size(); ++i) {
    const auto rank =
        static_cast<size_t>(mesh.ranks[static_cast<size_t>(i)].value());
    if (rank >= out.index_of_rank_.size()) {
      out.index_of_rank_.resize(rank + 1, -1);
    }
    out.index_of_rank_[rank] = i;
  }
  SLUICE_ASSIGN_OR_RETURN(out.classes_,
                          ClassifyLayout(model, *placement.layout, mesh));
  out.DropEmptyBoxes();
  out.places_.resize(model.tensors.size());
  out.classes_of_index_.resize(static_cast<size_t>(mesh.size()));
  for (size_t c = 0; c < out.classes_.size(); ++c) {
    const TensorClass& tensors = out.classes_[c];
    for (size_t k = 0; k < tensors.tensors.size(); ++k) {
      out.places_[static_cast<size_t>(tensors.tensors[k].value())] = {
          static_cast<int32_t>(c), static_cast<int32_t>(k)};
    }
    for (const TensorClass::Holder& holder : tensors.holders) {
      out.classes_of_index_[static_cast<size_t>(holder.mesh_index)].push_back(
          static_cast<int32_t>(c));
    }
  }
  SLUICE_RETURN_IF_ERROR(out.CheckDisjoint(model, mesh));
  SLUICE_RETURN_IF_ERROR(out.Audit(model, placement));
  return out;
}

void HeldGeometry::DropEmptyBoxes() {
  for (TensorClass& tensors : classes_) {
    for (TensorClass::Holder& holder : tensors.holders) {
      Normalize(holder.boxes);
    }
    tensors.holders.erase(
        std::remove_if(tensors.holders.begin(), tensors.holders.end(),
                       [](const TensorClass::Holder& holder) {
                         return holder.boxes.empty();
                       }),
        tensors.holders.end());
  }
}

absl::Status HeldGeometry::CheckDisjoint(const ModelSpec& model,
                                         const Mesh& mesh) const {
  for (const TensorClass& tensors : classes_) {
    for (const TensorClass::Holder& holder : tensors.holders) {
      const auto common = FindCommon(holder.boxes);
      if (!common) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          "tensor \"", model.tensor(tensors.tensors[0]).name, "\": rank ",
          mesh.ranks[static_cast<size_t>(holder.mesh_index)].value(),
          " holds overlapping boxes ", holder.boxes[common->first].ToString(),
          " and ", holder.boxes[common->second].ToString()));
    }
  }
  return absl::OkStatus();
}

absl::Status HeldGeometry::Audit(const ModelSpec& model,
                                 const PlacementGeometry& placement) const {
  const Mesh& mesh = placement.mesh;
  int64_t views = 0;
  for (const TensorClass& tensors : classes_) {
    for (const TensorClass::Holder& holder : tensors.holders) {
      views += std::ssize(tensors.tensors) * std::ssize(holder.boxes);
    }
  }
  if (views <= kMaxAuditedViews) {
    SLUICE_ASSIGN_OR_RETURN(const std::vector<RankLayout> layouts,
                            ExpandLayoutOnAll(model, *placement.layout, mesh));
    for (size_t i = 0; i < layouts.size(); ++i) {
      SLUICE_RETURN_IF_ERROR(AuditAgent(model, mesh.ranks[i], layouts[i]));
    }
    return absl::OkStatus();
  }
  const int64_t index = mesh.size() / 2;
  SLUICE_ASSIGN_OR_RETURN(const RankLayout layout,
                          ExpandLayout(model, *placement.layout, mesh, index));
  return AuditAgent(model, mesh.ranks[static_cast<size_t>(index)], layout);
}

// Views of one tensor are in parameters of its class's element type.
absl::Status HeldGeometry::AuditTypes(const ModelSpec& model, Rank rank,
                                      const RankLayout& layout,
                                      absl::Span<const View> views) const {
  for (const View& view : views) {
    const DType expected = DTypeOf(PlaceOf(view.tensor).tensor_class);
    const DType found = layout.params[static_cast<size_t>(view.param)].dtype;
    if (found == expected) continue;
    return absl::InternalError(
        absl::StrCat("tensor \"", model.tensor(view.tensor).name, "\": rank ",
                     rank.value(), " has it as ", DTypeName(found),
                     ", its class of tensors as ", DTypeName(expected)));
  }
  return absl::OkStatus();
}

// Reads an agent's views and its classes, not all tensors: most of a large
// model is held by others.
absl::Status HeldGeometry::AuditAgent(const ModelSpec& model, Rank rank,
                                      const RankLayout& layout) const {
  const int64_t index = MeshIndexOf(rank);
  const auto differ = [&](TensorIndex tensor, size_t num_views,
                          size_t num_boxes) {
    return absl::InternalError(absl::StrCat(
        "tensor \"", model.tensor(tensor).name, "\": rank ", rank.value(),
        " has ", num_views, " views that are not the ", num_boxes,
        " boxes of its class of tensors"));
  };
  std::vector<TensorIndex> held;  // tensors, ascending
  for (const int32_t tensor_class : ClassesOf(index)) {
    const absl::Span<const TensorIndex> tensors = TensorsOf(tensor_class);
    held.insert(held.end(), tensors.begin(), tensors.end());
  }
  std::sort(held.begin(), held.end());
  auto expected = held.begin();
  const std::vector<View>& views = layout.views;  // by (tensor, box)
  for (size_t next = 0; next < views.size();) {
    const TensorIndex tensor = views[next].tensor;
    std::vector<Box> boxes;
    const size_t first = next;
    for (; next < views.size() && views[next].tensor == tensor; ++next) {
      boxes.push_back(views[next].box);
    }
    Normalize(boxes);
    if (boxes.empty()) continue;
    if (expected == held.end() || tensor < *expected) {
      return differ(tensor, boxes.size(), 0);
    }
    const absl::Span<const Box> of_class =
        BoxesOf(PlaceOf(*expected).tensor_class, index);
    if (tensor != *expected) return differ(*expected, 0, of_class.size());
    if (!SameElements(boxes, of_class)) {
      return differ(tensor, boxes.size(), of_class.size());
    }
    SLUICE_RETURN_IF_ERROR(
        AuditTypes(model, rank, layout,
                   absl::MakeConstSpan(views).subspan(first, next - first)));
    ++expected;
  }
  if (expected == held.end()) return absl::OkStatus();
  return differ(*expected, 0,
                BoxesOf(PlaceOf(*expected).tensor_class, index).size());
}

}  // namespace sluice::coordinator
