#ifndef SLUICE_COORDINATOR_PLANNER_REFERENCE_PROCESS_TOPOLOGY_H_
#define SLUICE_COORDINATOR_PLANNER_REFERENCE_PROCESS_TOPOLOGY_H_

// The processes of one parallel job on named axes, row-major: the last axis
// varies fastest. Answers what AReaL's ProcessTopology
// (realhf/base/topology.py) answers, by arithmetic instead of by looking
// through all ranks.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace sluice::coordinator::reference {

// A position on one axis, 0-based.
struct AxisPosition {
  std::string axis;
  int32_t position = 0;
};

// How a rank is written: "tensor_03" with the reference's defaults.
struct RankNameFormat {
  std::vector<std::string> omitted_axes = {"data", "pipe"};
  std::string inner_separator = "_";  // between axis and position
  std::string outer_separator = "-";  // between axes
};

// Immutable. A rank is a position in [0, world_size).
class ProcessTopology {
 public:
  // A size may be 0: then there are no ranks.
  // Errors: INVALID_ARGUMENT - another number of sizes than of axes, an empty
  // or repeated axis, a negative size, more than 2^31-1 ranks.
  static absl::StatusOr<ProcessTopology> Create(std::vector<std::string> axes,
                                                std::vector<int32_t> sizes);

  int32_t world_size() const { return world_size_; }
  const std::vector<std::string>& axes() const { return axes_; }
  const std::vector<int32_t>& sizes() const { return sizes_; }
  // Returns the axis's number, or -1.
  int FindAxis(absl::string_view axis) const;
  // Returns the axis's size, or 0 if there is no such axis.
  int32_t AxisSize(absl::string_view axis) const;

  // Returns the rank at a coordinate, which names every axis once, in any
  // order.
  // Errors: INVALID_ARGUMENT - an axis missing, unknown or named twice;
  // OUT_OF_RANGE - a position outside its axis.
  absl::StatusOr<int32_t> RankOf(
      absl::Span<const AxisPosition> coordinate) const;
  // Returns the rank's position on every axis, in order of the axes.
  // Errors: OUT_OF_RANGE - no such rank.
  absl::StatusOr<std::vector<int32_t>> CoordinateOf(int32_t rank) const;
  // Returns the coordinates of all ranks one after the other: entry
  // [rank * axes().size() + axis]. No allocation per rank.
  std::vector<int32_t> AllCoordinates() const;
  // Returns the position of an existing rank on axis number `axis`.
  int32_t PositionOf(int32_t rank, int axis) const {
    return rank / strides_[static_cast<size_t>(axis)] %
           sizes_[static_cast<size_t>(axis)];
  }

  // Returns the ranks that match every given position, ascending; none where
  // a position is outside its axis or two of one axis differ.
  // Errors: INVALID_ARGUMENT - an unknown axis.
  absl::StatusOr<std::vector<int32_t>> Match(
      absl::Span<const AxisPosition> filter) const;
  // Match() of one axis.
  absl::StatusOr<std::vector<int32_t>> AxisRanks(absl::string_view axis,
                                                 int32_t position) const;
  // Returns the groups of ranks that differ in their position on `axis` only:
  // groups in row-major order of the other axes, members by position. Empty if
  // there is no such axis.
  std::vector<std::vector<int32_t>> CommLists(absl::string_view axis) const;

  // Returns the rank in words: its position on each axis that is not omitted,
  // with as many digits as world_size() has.
  // Errors: OUT_OF_RANGE - no such rank.
  absl::StatusOr<std::string> RankName(int32_t rank,
                                       const RankNameFormat& format = {}) const;

  friend bool operator==(const ProcessTopology& a, const ProcessTopology& b) {
    return a.axes_ == b.axes_ && a.sizes_ == b.sizes_;
  }

 private:
  ProcessTopology() = default;

  absl::Status CheckRank(int32_t rank) const;

  std::vector<std::string> axes_;
  std::vector<int32_t> sizes_;
  std::vector<int32_t> strides_;  // ranks between two positions of an axis
  int32_t world_size_ = 0;
};

}  // namespace sluice::coordinator::reference

#endif  // SLUICE_COORDINATOR_PLANNER_REFERENCE_PROCESS_TOPOLOGY_H_
