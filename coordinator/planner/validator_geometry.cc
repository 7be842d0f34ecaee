#include "coordinator/planner/validator_geometry.h"

#include <algorithm>
#include <vector>

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
  for (const Box& box : boxes) {
    if (box.Contains(target)) return std::nullopt;
  }
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

}  // namespace sluice::coordinator
