#ifndef SLUICE_AGENT_PIECE_CUTTER_H_
#define SLUICE_AGENT_PIECE_CUTTER_H_

// Cuts a planned box along the views that hold it; the rule is in
// agent/plan_binder.h.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "agent/executor_interface.h"
#include "common/box.h"
#include "common/dtype.h"
#include "common/model.h"

namespace sluice::agent {

// A placement's content in mapped memory.
struct PlacedContent {
  std::string name;  // "model/placement", for messages
  const RankLayout* layout = nullptr;
  std::shared_ptr<MappedMemory> memory;
  int64_t offset_bytes = 0;  // of the placement's buffer in `memory`
};

class PieceCutter {
 public:
  // Reads from `source`, writes to `destination`; either may be null. Appends
  // to `out`. All must outlive the cutter.
  PieceCutter(const PlacedContent* source, const PlacedContent* destination,
              std::vector<BoundPiece>& out);

  // Appends the pieces of `box` of `tensor`, which crosses as `wire_dtype`, in
  // stream order, until `out` has `max_pieces`. Errors: FAILED_PRECONDITION - a
  // part is not held; RESOURCE_EXHAUSTED - too many pieces.
  absl::Status Cut(TensorIndex index, const TensorSpec& tensor,
                   DType wire_dtype, const Box& box, int64_t max_pieces);

 private:
  // One side's views of the current tensor.
  struct Side {
    const PlacedContent* content = nullptr;
    absl::Span<const View> views;
  };
  // How a side holds a box.
  struct Held {
    std::vector<const View*> containing;
    std::vector<const View*> crossing;  // intersecting, not containing
  };

  static Side SideOf(const PlacedContent* content, TensorIndex index);
  static Held Find(const Side& side, const Box& box);
  absl::Status CutBox(const Box& box);
  absl::Status CutAlong(const Box& box, absl::Span<const View* const> crossing);
  absl::Status Emit(const Box& box, const Held& source,
                    const Held& destination);
  absl::Status NotHeld(const Side& side, const Box& box) const;

  const PlacedContent* source_;
  const PlacedContent* destination_;
  std::vector<BoundPiece>& out_;
  // Of the current Cut.
  const TensorSpec* tensor_ = nullptr;
  DType wire_dtype_ = DType::kUnspecified;
  uint64_t mix_ = 1;
  int64_t max_pieces_ = 0;
  Side from_, to_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_PIECE_CUTTER_H_
