#ifndef SLUICE_COMMON_MESH_H_
#define SLUICE_COMMON_MESH_H_

// A mesh: named axes with sizes, row-major, and the agents (by rank) at its
// coordinates. The position of an agent in a mesh is its *mesh index*; which
// cluster rank stands there is `ranks[index]`.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/ids.h"

namespace sluice {

struct MeshAxis {
  std::string name;
  int64_t size = 1;

  friend bool operator==(const MeshAxis&, const MeshAxis&) = default;
};

struct Mesh {
  std::vector<MeshAxis> axes;
  // Row-major: the last axis varies fastest. Size = product of axis sizes.
  std::vector<Rank> ranks;

  int64_t size() const { return static_cast<int64_t>(ranks.size()); }
  // Returns the index of the axis in `axes`, or -1.
  int FindAxis(absl::string_view name) const;
  // Returns the size of the axis; 1 if the mesh has no such axis.
  int64_t AxisSize(absl::string_view name) const;
  // Returns the coordinate of `mesh_index` on every axis, in order of `axes`.
  std::vector<int64_t> Coordinates(int64_t mesh_index) const;
  // Returns the coordinate of `mesh_index` on one axis; 0 for a missing axis.
  int64_t Coordinate(int64_t mesh_index, absl::string_view axis) const;
  // Returns the mesh index of a coordinate list (one entry per axis).
  int64_t IndexOf(absl::Span<const int64_t> coordinates) const;
  // Returns (position, count) over an ordered list of axes taken together, the
  // last varying fastest. Missing axes count as size 1.
  std::pair<int64_t, int64_t> PositionOver(
      int64_t mesh_index, absl::Span<const std::string> axes) const;

  // Errors: INVALID_ARGUMENT - no axis, an empty or repeated axis name, a size
  // below 1, an axis product that overflows or differs from the number of
  // ranks, a rank listed twice or negative.
  absl::Status Validate() const;

  // "pipe=2,data=2,tensor=2".
  std::string ToString() const;

  friend bool operator==(const Mesh&, const Mesh&) = default;
};

// Parses "pipe=2,data=2,tensor=2".
// Errors: INVALID_ARGUMENT - malformed text, a repeated axis, a size below 1.
absl::StatusOr<std::vector<MeshAxis>> ParseAxes(absl::string_view text);

}  // namespace sluice

#endif  // SLUICE_COMMON_MESH_H_
