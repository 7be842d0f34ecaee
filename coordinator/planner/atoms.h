#ifndef SLUICE_COORDINATOR_PLANNER_ATOMS_H_
#define SLUICE_COORDINATOR_PLANNER_ATOMS_H_

// Overlaps of two families of boxes over one tensor: the plane is cut at the
// boxes' faces until no piece is crossed by any box.

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/box.h"

namespace sluice::coordinator {

// A piece inside which nothing changes: who covers one element covers all.
struct Atom {
  Box box;
  std::vector<int32_t> sources;       // positions in `sources`, ascending
  std::vector<int32_t> destinations;  // positions in `destinations`, ascending
};

// Returns the atoms of a tensor of `shape` that a destination box covers: they
// are disjoint and together they are the union of the destination boxes. Those
// without a source are returned too; they are holes. Boxes lie inside `shape`
// and are not empty. Cuts go where they cross the fewest boxes, so cost and
// result grow with the overlaps, not with the product of all faces.
std::vector<Atom> CutIntoAtoms(absl::Span<const int64_t> shape,
                               absl::Span<const Box> sources,
                               absl::Span<const Box> destinations);

// A box made of several that lie side by side.
struct MergedBox {
  Box box;
  std::vector<int32_t> parts;  // positions in the input
};

// Joins disjoint boxes that differ in one dimension only and touch there, again
// and again until none do. Ordered by box.
std::vector<MergedBox> MergeBoxes(absl::Span<const Box> boxes);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_PLANNER_ATOMS_H_
