#include "agent/piece_cutter.h"

#include <algorithm>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "agent/copy/digest.h"
#include "agent/copy/strided_place.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

absl::StatusOr<BoundPlace> PlaceIn(const PlacedContent& content,
                                   const TensorSpec& tensor, const View& view,
                                   const Box& box) {
  const LocalParam& param =
      content.layout->params[static_cast<size_t>(view.param)];
  SLUICE_ASSIGN_OR_RETURN(StridedPlace place,
                          PlaceInView(tensor, box, view, param));
  return BoundPlace{content.memory, content.offset_bytes + place.offset_bytes,
                    std::move(place.strides_bytes), param.dtype};
}

// The outermost dimension of more than one element; -1 if there is none.
int OutermostOf(const Box& box) {
  for (int d = 0; d < box.rank(); ++d) {
    if (box.dim(d).size() > 1) return d;
  }
  return -1;
}

}  // namespace

PieceCutter::PieceCutter(const PlacedContent* source,
                         const PlacedContent* destination,
                         std::vector<BoundPiece>& out)
    : source_(source), destination_(destination), out_(out) {}

PieceCutter::Side PieceCutter::SideOf(const PlacedContent* content,
                                      TensorIndex index) {
  if (content == nullptr) return {};
  const std::vector<View>& views = content->layout->views;
  const auto first = std::lower_bound(
      views.begin(), views.end(), index,
      [](const View& v, TensorIndex t) { return v.tensor < t; });
  const auto last = std::upper_bound(
      first, views.end(), index,
      [](TensorIndex t, const View& v) { return t < v.tensor; });
  return {content, absl::MakeConstSpan(views.data() + (first - views.begin()),
                                       static_cast<size_t>(last - first))};
}

PieceCutter::Held PieceCutter::Find(const Side& side, const Box& box) {
  Held held;
  for (const View& view : side.views) {
    // Sorted by box, so by the lower end of the first dimension.
    if (box.rank() > 0 && view.box.dim(0).lo >= box.dim(0).hi) break;
    if (view.box.Contains(box)) {
      held.containing.push_back(&view);
    } else if (view.box.Intersect(box).has_value()) {
      held.crossing.push_back(&view);
    }
  }
  return held;
}

absl::Status PieceCutter::NotHeld(const Side& side, const Box& box) const {
  return absl::FailedPreconditionError(
      absl::StrCat("tensor \"", tensor_->name, "\" box ", box.ToString(),
                   ": placement ", side.content->name, " has no view of it"));
}

absl::Status PieceCutter::Emit(const Box& box, const Held& source,
                               const Held& destination) {
  if (static_cast<int64_t>(out_.size()) >= max_pieces_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("tensor \"", tensor_->name,
                     "\": the operation breaks up into more than ", max_pieces_,
                     " pieces on this agent"));
  }
  BoundPiece piece;
  piece.tensor = tensor_->name;
  piece.mix = mix_;
  piece.dtype = wire_dtype_;
  piece.shape = tensor_->shape;
  piece.box = box;
  if (source_ != nullptr) {
    SLUICE_ASSIGN_OR_RETURN(
        piece.source, PlaceIn(*source_, *tensor_, *source.containing[0], box));
  }
  for (const View* view : destination.containing) {
    SLUICE_ASSIGN_OR_RETURN(BoundPlace place,
                            PlaceIn(*destination_, *tensor_, *view, box));
    piece.destinations.push_back(std::move(place));
  }
  out_.push_back(std::move(piece));
  return absl::OkStatus();
}

absl::Status PieceCutter::CutBox(const Box& box) {
  std::vector<const View*> crossing;
  Held source, destination;
  if (source_ != nullptr) {
    source = Find(from_, box);
    // One copy is enough to read from.
    if (source.containing.empty()) {
      if (source.crossing.empty()) return NotHeld(from_, box);
      crossing = source.crossing;
    }
  }
  if (destination_ != nullptr) {
    destination = Find(to_, box);
    if (destination.containing.empty() && destination.crossing.empty()) {
      return NotHeld(to_, box);
    }
    // Every copy is written.
    crossing.insert(crossing.end(), destination.crossing.begin(),
                    destination.crossing.end());
  }
  if (crossing.empty()) return Emit(box, source, destination);
  return CutAlong(box, crossing);
}

absl::Status PieceCutter::CutAlong(const Box& box,
                                   absl::Span<const View* const> crossing) {
  const int d = OutermostOf(box);
  // A single element is contained in every view that crosses it.
  if (d < 0) return absl::InternalError("a view crosses a single element");
  std::vector<int64_t> cuts = {box.dim(d).lo, box.dim(d).hi};
  for (const View* view : crossing) {
    for (const int64_t cut : {view->box.dim(d).lo, view->box.dim(d).hi}) {
      if (cut > box.dim(d).lo && cut < box.dim(d).hi) cuts.push_back(cut);
    }
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  const bool by_row = cuts.size() == 2;
  Box part = box;
  for (size_t i = 0; i + 1 < cuts.size(); ++i) {
    const int64_t step = by_row ? 1 : cuts[i + 1] - cuts[i];
    for (int64_t at = cuts[i]; at < cuts[i + 1]; at += step) {
      part.dim(d) = {at, at + step};
      SLUICE_RETURN_IF_ERROR(CutBox(part));
    }
  }
  return absl::OkStatus();
}

absl::Status PieceCutter::Cut(TensorIndex index, const TensorSpec& tensor,
                              DType wire_dtype, const Box& box,
                              int64_t max_pieces) {
  if (box.empty()) return absl::OkStatus();
  tensor_ = &tensor;
  wire_dtype_ = wire_dtype;
  mix_ = MixTensor(tensor.name);
  max_pieces_ = max_pieces;
  from_ = SideOf(source_, index);
  to_ = SideOf(destination_, index);
  return CutBox(box);
}

}  // namespace sluice::agent
