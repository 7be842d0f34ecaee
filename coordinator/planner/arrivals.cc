#include "coordinator/planner/arrivals.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/planner/validator_checks.h"
#include "coordinator/planner/validator_geometry.h"

namespace sluice::coordinator {
namespace {

class ClassCheck {
 public:
  ClassCheck(const ModelSpec& model, absl::Span<const TensorIndex> tensors,
             absl::Span<const Box> wanted, Rank rank)
      : model_(model), tensors_(tensors), wanted_(wanted), rank_(rank) {
    for (const Box& box : wanted) needed_ += box.num_elements();
  }

  // `arrivals` of the class, by begin. Between two places where an arrival
  // begins or ends, one tensor stands for all.
  absl::Status Run(absl::Span<const Arrival> arrivals) {
    const auto count = static_cast<int32_t>(tensors_.size());
    std::vector<const Arrival*> open;
    size_t next = 0;
    for (int32_t at = 0; at < count;) {
      open.erase(
          std::remove_if(open.begin(), open.end(),
                         [at](const Arrival* a) { return a->part.end <= at; }),
          open.end());
      for (; next < arrivals.size() && arrivals[next].part.begin == at;
           ++next) {
        open.push_back(&arrivals[next]);
      }
      SLUICE_RETURN_IF_ERROR(
          CheckTensor(open, tensors_[static_cast<size_t>(at)]));
      int32_t until =
          next < arrivals.size() ? arrivals[next].part.begin : count;
      for (const Arrival* a : open) until = std::min(until, a->part.end);
      at = until;
    }
    return absl::OkStatus();
  }

 private:
  absl::Status CheckTensor(const std::vector<const Arrival*>& open,
                           TensorIndex tensor) {
    if (open.size() == 1 && wanted_.size() == 1 &&
        open[0]->transfer->params.box == wanted_[0]) {
      return absl::OkStatus();
    }
    boxes_.clear();
    int64_t volume = 0;
    for (const Arrival* a : open) {
      const Box& box = a->transfer->params.box;
      if (const auto outside = FindUncovered(box, wanted_)) {
        return PlanFault(
            *a->transfer,
            absl::StrCat(Where(model_, tensor, *outside), ": rank ",
                         rank_.value(), " has no view of it"));
      }
      boxes_.push_back(box);
      volume += box.num_elements();
    }
    if (const auto common = FindCommon(boxes_)) {
      const auto [a, b] = *common;
      return PlanFault(
          *open[b]->transfer,
          absl::StrCat(Where(model_, tensor, *boxes_[a].Intersect(boxes_[b])),
                       ": written to rank ", rank_.value(), " also by ",
                       NameOf(*open[a]->transfer)));
    }
    if (volume == needed_) return absl::OkStatus();
    for (const Box& box : wanted_) {
      if (const auto hole = FindUncovered(box, boxes_)) {
        return absl::InternalError(
            absl::StrCat(Where(model_, tensor, *hole), ": rank ", rank_.value(),
                         " wants it and no transfer brings it"));
      }
    }
    return absl::InternalError(
        absl::StrCat("tensor \"", model_.tensor(tensor).name, "\": ", volume,
                     " of ", needed_, " elements reach rank ", rank_.value()));
  }

  const ModelSpec& model_;
  const absl::Span<const TensorIndex> tensors_;
  const absl::Span<const Box> wanted_;
  const Rank rank_;
  int64_t needed_ = 0;
  std::vector<Box> boxes_;
};

}  // namespace

absl::Status CheckArrivals(const ModelSpec& model, const HeldGeometry& held,
                           int64_t mesh_index, Rank rank,
                           std::vector<Arrival>& arrivals) {
  std::sort(
      arrivals.begin(), arrivals.end(), [](const Arrival& a, const Arrival& b) {
        return std::tie(a.part.tensor_class, a.part.begin, a.transfer->id) <
               std::tie(b.part.tensor_class, b.part.begin, b.transfer->id);
      });
  const absl::Span<const Arrival> all(arrivals);
  size_t begin = 0;
  const auto unwanted = [&](const Arrival& arrival) {
    return PlanFault(
        *arrival.transfer,
        absl::StrCat("rank ", rank.value(), " has no view of its tensors"));
  };
  for (const int32_t c : held.ClassesOf(mesh_index)) {
    if (begin < all.size() && all[begin].part.tensor_class < c) {
      return unwanted(all[begin]);
    }
    size_t end = begin;
    while (end < all.size() && all[end].part.tensor_class == c) ++end;
    ClassCheck check(model, held.TensorsOf(c), held.BoxesOf(c, mesh_index),
                     rank);
    SLUICE_RETURN_IF_ERROR(check.Run(all.subspan(begin, end - begin)));
    begin = end;
  }
  if (begin < all.size()) return unwanted(all[begin]);
  return absl::OkStatus();
}

std::string Where(const ModelSpec& model, TensorIndex tensor, const Box& box) {
  return absl::StrCat("tensor \"", model.tensor(tensor).name, "\" box ",
                      box.ToString());
}

}  // namespace sluice::coordinator
