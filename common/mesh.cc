#include "common/mesh.h"

#include "absl/container/flat_hash_set.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace sluice {

int Mesh::FindAxis(absl::string_view name) const {
  for (size_t a = 0; a < axes.size(); ++a) {
    if (axes[a].name == name) return static_cast<int>(a);
  }
  return -1;
}

int64_t Mesh::AxisSize(absl::string_view name) const {
  const int axis = FindAxis(name);
  return axis < 0 ? 1 : axes[static_cast<size_t>(axis)].size;
}

std::vector<int64_t> Mesh::Coordinates(int64_t mesh_index) const {
  std::vector<int64_t> out(axes.size());
  for (size_t a = axes.size(); a-- > 0;) {
    out[a] = mesh_index % axes[a].size;
    mesh_index /= axes[a].size;
  }
  return out;
}

int64_t Mesh::Coordinate(int64_t mesh_index, absl::string_view axis) const {
  const int found = FindAxis(axis);
  if (found < 0) return 0;
  return Coordinates(mesh_index)[static_cast<size_t>(found)];
}

int64_t Mesh::IndexOf(absl::Span<const int64_t> coordinates) const {
  int64_t index = 0;
  for (size_t a = 0; a < axes.size(); ++a) {
    index = index * axes[a].size + coordinates[a];
  }
  return index;
}

std::pair<int64_t, int64_t> Mesh::PositionOver(
    int64_t mesh_index, absl::Span<const std::string> over) const {
  int64_t position = 0;
  int64_t count = 1;
  for (const std::string& axis : over) {
    const int64_t size = AxisSize(axis);
    position = position * size + Coordinate(mesh_index, axis);
    count *= size;
  }
  return {position, count};
}

absl::Status Mesh::Validate() const {
  if (axes.empty()) return absl::InvalidArgumentError("mesh has no axis");
  absl::flat_hash_set<std::string> names;
  int64_t product = 1;
  for (const MeshAxis& axis : axes) {
    if (axis.name.empty()) {
      return absl::InvalidArgumentError("mesh axis without a name");
    }
    if (!names.insert(axis.name).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("mesh axis \"", axis.name, "\" is given twice"));
    }
    if (axis.size < 1 || __builtin_mul_overflow(product, axis.size, &product)) {
      return absl::InvalidArgumentError(
          absl::StrCat("mesh axis \"", axis.name, "\": size ", axis.size,
                       " is below 1 or makes the mesh overflow"));
    }
  }
  if (product != size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "mesh ", ToString(), " needs ", product, " agents but lists ", size()));
  }
  absl::flat_hash_set<Rank> seen;
  for (const Rank rank : ranks) {
    if (rank.value() < 0 || !seen.insert(rank).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("mesh ", ToString(), ": rank ", rank.value(),
                       " is negative or listed twice"));
    }
  }
  return absl::OkStatus();
}

std::string Mesh::ToString() const {
  std::string out;
  for (const MeshAxis& axis : axes) {
    absl::StrAppend(&out, out.empty() ? "" : ",", axis.name, "=", axis.size);
  }
  return out;
}

absl::StatusOr<std::vector<MeshAxis>> ParseAxes(absl::string_view text) {
  std::vector<MeshAxis> axes;
  absl::flat_hash_set<std::string> names;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    const std::vector<std::string> pair = absl::StrSplit(part, '=');
    int64_t size = 0;
    if (pair.size() != 2 || pair[0].empty() ||
        !absl::SimpleAtoi(pair[1], &size) || size < 1) {
      return absl::InvalidArgumentError(absl::StrCat(
          "mesh axis \"", part, "\": expected name=size with size >= 1"));
    }
    if (!names.insert(pair[0]).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("mesh axis \"", pair[0], "\" is given twice"));
    }
    axes.push_back({pair[0], size});
  }
  return axes;
}

}  // namespace sluice
