#include "coordinator/planner/validator_geometry.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/layout.h"
#include "common/status_macros.h"

namespace sluice::coordinator {
namespace {

// The dimension with the most different lower ends: sweeping along it keeps the
// fewest boxes open.
int SweepDim(absl::Span<const Box> boxes) {
  int best = 0;
  size_t most = 0;
  for (int d = 0; d < boxes[0].rank(); ++d) {
    std::vector<int64_t> los;
    for (const Box& box : boxes) los.push_back(box.dim(d).lo);
    std::sort(los.begin(), los.end());
    const auto distinct =
        static_cast<size_t>(std::unique(los.begin(), los.end()) - los.begin());
    if (distinct > most) {
      most = distinct;
      best = d;
    }
  }
  return best;
}

}  // namespace

std::optional<std::pair<size_t, size_t>> FindCommon(
    absl::Span<const Box> boxes) {
  if (boxes.size() < 2) return std::nullopt;
  if (boxes[0].rank() == 0) return std::make_pair(size_t{0}, size_t{1});
  const int dim = SweepDim(boxes);
  std::vector<size_t> order(boxes.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::make_pair(boxes[a].dim(dim).lo, a) <
           std::make_pair(boxes[b].dim(dim).lo, b);
  });
  std::vector<size_t> open;
  for (const size_t i : order) {
    const int64_t at = boxes[i].dim(dim).lo;
    open.erase(
        std::remove_if(open.begin(), open.end(),
                       [&](size_t o) { return boxes[o].dim(dim).hi <= at; }),
        open.end());
    for (const size_t o : open) {
      if (boxes[o].Intersect(boxes[i]).has_value()) {
        return std::make_pair(std::min(o, i), std::max(o, i));
      }
    }
    open.push_back(i);
  }
  return std::nullopt;
}

std::optional<Box> FindUncovered(const Box& target,
                                 absl::Span<const Box> boxes) {
  int64_t covered = 0;
  std::vector<Box> parts;
  for (const Box& box : boxes) {
    if (std::optional<Box> part = box.Intersect(target)) {
      covered += part->num_elements();
      parts.push_back(*std::move(part));
    }
  }
  if (covered == target.num_elements()) return std::nullopt;
  // There is a hole: follow it by taking the parts away one by one, keeping the
  // pieces of the target that are left.
  std::vector<Box> left = {target};
  for (const Box& part : parts) {
    std::vector<Box> next;
    for (Box& piece : left) {
      const std::optional<Box> common = piece.Intersect(part);
      if (!common) {
        next.push_back(std::move(piece));
        continue;
      }
      for (int d = 0; d < piece.rank(); ++d) {
        Box below = piece;
        below.dim(d).hi = common->dim(d).lo;
        if (!below.empty()) next.push_back(std::move(below));
        Box above = piece;
        above.dim(d).lo = common->dim(d).hi;
        if (!above.empty()) next.push_back(std::move(above));
        piece.dim(d) = common->dim(d);
      }
    }
    left = std::move(next);
  }
  return left.empty() ? target : left[0];
}

absl::StatusOr<HeldGeometry> HeldGeometry::Create(
    const ModelSpec& model, const PlacementGeometry& placement) {
  SLUICE_ASSIGN_OR_RETURN(
      const std::vector<RankLayout> layouts,
      ExpandLayoutOnAll(model, *placement.layout, placement.mesh));
  HeldGeometry out;
  out.boxes_.emplace_back();
  out.way_of_boxes_.emplace(std::vector<Box>(), 0);
  for (size_t i = 0; i < layouts.size(); ++i) {
    const Rank rank = placement.mesh.ranks[i];
    out.index_of_rank_.emplace(rank, static_cast<int64_t>(i));
    SLUICE_RETURN_IF_ERROR(out.AddAgent(model, rank, layouts[i]));
  }
  return out;
}

absl::Status HeldGeometry::AddAgent(const ModelSpec& model, Rank rank,
                                    const RankLayout& layout) {
  std::vector<int32_t>& ways = ways_.emplace_back(model.tensors.size(), 0);
  const std::vector<View>& views = layout.views;  // by (tensor, box)
  for (size_t begin = 0; begin < views.size();) {
    const TensorIndex tensor = views[begin].tensor;
    std::vector<Box> boxes;
    size_t end = begin;
    for (; end < views.size() && views[end].tensor == tensor; ++end) {
      const Box& box = views[end].box;
      if (box.empty() || (!boxes.empty() && boxes.back() == box)) continue;
      boxes.push_back(box);
    }
    begin = end;
    const auto known = way_of_boxes_.find(boxes);
    if (known != way_of_boxes_.end()) {
      ways[static_cast<size_t>(tensor.value())] = known->second;
      continue;
    }
    if (const auto common = FindCommon(boxes)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tensor \"", model.tensor(tensor).name, "\": rank ", rank.value(),
          " holds overlapping boxes ", boxes[common->first].ToString(), " and ",
          boxes[common->second].ToString()));
    }
    const auto way = static_cast<int32_t>(boxes_.size());
    way_of_boxes_.emplace(boxes, way);
    boxes_.push_back(std::move(boxes));
    ways[static_cast<size_t>(tensor.value())] = way;
  }
  return absl::OkStatus();
}

int64_t HeldGeometry::MeshIndexOf(Rank rank) const {
  const auto it = index_of_rank_.find(rank);
  return it == index_of_rank_.end() ? -1 : it->second;
}

}  // namespace sluice::coordinator
