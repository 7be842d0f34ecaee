#include "coordinator/planner/reference/process_topology.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"

namespace sluice::coordinator::reference {

absl::StatusOr<ProcessTopology> ProcessTopology::Create(
    std::vector<std::string> axes, std::vector<int32_t> sizes) {
  if (axes.size() != sizes.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("topology: expected one size for each of ", axes.size(),
                     " axes, found ", sizes.size()));
  }
  int64_t world_size = 1;
  bool empty = false;
  for (size_t a = 0; a < axes.size(); ++a) {
    if (axes[a].empty() ||
        std::find(axes.begin(), axes.begin() + static_cast<int64_t>(a),
                  axes[a]) != axes.begin() + static_cast<int64_t>(a)) {
      return absl::InvalidArgumentError(
          absl::StrCat("topology: axis ", a, ": expected a new name, found \"",
                       axes[a], "\""));
    }
    if (sizes[a] < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("topology: axis ", axes[a],
                       ": expected a size of at least 0, found ", sizes[a]));
    }
    empty = empty || sizes[a] == 0;
    world_size *= std::max(sizes[a], 1);
    if (world_size > std::numeric_limits<int32_t>::max()) {
      return absl::InvalidArgumentError(
          absl::StrCat("topology: expected at most 2^31-1 ranks, found more, ",
                       absl::StrJoin(sizes, "x")));
    }
  }
  ProcessTopology made;
  made.world_size_ = empty ? 0 : static_cast<int32_t>(world_size);
  made.strides_.resize(axes.size());
  int32_t stride = 1;
  for (size_t a = axes.size(); a-- > 0;) {
    made.strides_[a] = stride;
    stride *= std::max(sizes[a], 1);
  }
  made.axes_ = std::move(axes);
  made.sizes_ = std::move(sizes);
  return made;
}

int ProcessTopology::FindAxis(absl::string_view axis) const {
  for (size_t a = 0; a < axes_.size(); ++a) {
    if (axes_[a] == axis) return static_cast<int>(a);
  }
  return -1;
}

int32_t ProcessTopology::AxisSize(absl::string_view axis) const {
  const int a = FindAxis(axis);
  return a < 0 ? 0 : sizes_[static_cast<size_t>(a)];
}

absl::Status ProcessTopology::CheckRank(int32_t rank) const {
  if (rank >= 0 && rank < world_size_) return absl::OkStatus();
  return absl::OutOfRangeError(absl::StrCat("rank: expected one of [0, ",
                                            world_size_, "), found ", rank));
}

absl::StatusOr<int32_t> ProcessTopology::RankOf(
    absl::Span<const AxisPosition> coordinate) const {
  if (coordinate.size() != axes_.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("coordinate: expected a position on each of ",
                     axes_.size(), " axes, found ", coordinate.size()));
  }
  std::vector<bool> seen(axes_.size());
  int32_t rank = 0;
  for (const AxisPosition& at : coordinate) {
    const int found = FindAxis(at.axis);
    const auto a = static_cast<size_t>(found);
    if (found < 0 || seen[a]) {
      return absl::InvalidArgumentError(
          absl::StrCat("coordinate: expected each of the axes ",
                       absl::StrJoin(axes_, ", "), " once, found ", at.axis));
    }
    seen[a] = true;
    if (at.position < 0 || at.position >= sizes_[a]) {
      return absl::OutOfRangeError(
          absl::StrCat("coordinate: axis ", at.axis, ": expected one of [0, ",
                       sizes_[a], "), found ", at.position));
    }
    rank += at.position * strides_[a];
  }
  // Without axes there is one rank, 0.
  return rank;
}

absl::StatusOr<std::vector<int32_t>> ProcessTopology::CoordinateOf(
    int32_t rank) const {
  SLUICE_RETURN_IF_ERROR(CheckRank(rank));
  std::vector<int32_t> coordinate(axes_.size());
  for (size_t a = 0; a < axes_.size(); ++a) {
    coordinate[a] = PositionOf(rank, static_cast<int>(a));
  }
  return coordinate;
}

std::vector<int32_t> ProcessTopology::AllCoordinates() const {
  const size_t num_axes = axes_.size();
  const auto num_ranks = static_cast<size_t>(world_size_);
  std::vector<int32_t> all(num_ranks * num_axes);
  for (size_t a = 0; a < num_axes; ++a) {
    // Each position is held for a stride of ranks, over and over.
    const auto stride = static_cast<size_t>(strides_[a]);
    int32_t position = 0;
    for (size_t rank = 0; rank < num_ranks;) {
      for (const size_t end = rank + stride; rank < end; ++rank) {
        all[rank * num_axes + a] = position;
      }
      position = position + 1 == sizes_[a] ? 0 : position + 1;
    }
  }
  return all;
}

absl::StatusOr<std::vector<int32_t>> ProcessTopology::Match(
    absl::Span<const AxisPosition> filter) const {
  std::vector<int32_t> fixed(axes_.size(), -1);
  bool none = world_size_ == 0;
  for (const AxisPosition& at : filter) {
    const int found = FindAxis(at.axis);
    if (found < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("filter: expected one of the axes ",
                       absl::StrJoin(axes_, ", "), ", found ", at.axis));
    }
    int32_t& position = fixed[static_cast<size_t>(found)];
    none = none || at.position < 0 ||
           at.position >= sizes_[static_cast<size_t>(found)] ||
           (position >= 0 && position != at.position);
    position = at.position;
  }
  std::vector<int32_t> ranks;
  if (none) return ranks;
  // Axis by axis from the slowest: every rank so far, at each position allowed.
  ranks.push_back(0);
  for (size_t a = 0; a < axes_.size(); ++a) {
    const int32_t first = fixed[a] < 0 ? 0 : fixed[a];
    const int32_t last = fixed[a] < 0 ? sizes_[a] - 1 : fixed[a];
    std::vector<int32_t> next;
    next.reserve(ranks.size() * static_cast<size_t>(last - first + 1));
    for (const int32_t base : ranks) {
      for (int32_t p = first; p <= last; ++p) {
        next.push_back(base + p * strides_[a]);
      }
    }
    ranks = std::move(next);
  }
  return ranks;
}

absl::StatusOr<std::vector<int32_t>> ProcessTopology::AxisRanks(
    absl::string_view axis, int32_t position) const {
  const AxisPosition filter[] = {{std::string(axis), position}};
  return Match(filter);
}

std::vector<std::vector<int32_t>> ProcessTopology::CommLists(
    absl::string_view axis) const {
  const int found = FindAxis(axis);
  if (found < 0) return {};
  const auto along = static_cast<size_t>(found);
  int64_t num_lists = 1;
  for (size_t a = 0; a < axes_.size(); ++a) {
    if (a != along) num_lists *= sizes_[a];
  }
  const int32_t stride = strides_[along];
  const int32_t size = sizes_[along];
  std::vector<std::vector<int32_t>> lists(static_cast<size_t>(num_lists));
  for (int32_t list = 0; list < num_lists; ++list) {
    // The first member: the slower axes count whole blocks of `axis`, the
    // faster ones the ranks within a stride.
    const int32_t first = list / stride * stride * size + list % stride;
    std::vector<int32_t>& ranks = lists[static_cast<size_t>(list)];
    ranks.reserve(static_cast<size_t>(size));
    for (int32_t p = 0; p < size; ++p) ranks.push_back(first + p * stride);
  }
  return lists;
}

absl::StatusOr<std::string> ProcessTopology::RankName(
    int32_t rank, const RankNameFormat& format) const {
  SLUICE_RETURN_IF_ERROR(CheckRank(rank));
  const auto digits = static_cast<int>(absl::StrCat(world_size_).size());
  std::vector<std::string> parts;
  for (size_t a = 0; a < axes_.size(); ++a) {
    if (std::find(format.omitted_axes.begin(), format.omitted_axes.end(),
                  axes_[a]) != format.omitted_axes.end()) {
      continue;
    }
    parts.push_back(absl::StrFormat("%s%s%0*d", axes_[a],
                                    format.inner_separator, digits,
                                    PositionOf(rank, static_cast<int>(a))));
  }
  return absl::StrJoin(parts, format.outer_separator);
}

}  // namespace sluice::coordinator::reference
