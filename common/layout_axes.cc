#include "common/layout_axes.h"

#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"

namespace sluice {
namespace {

std::string Describe(const Layout& layout, const AxisRegroup& regroup) {
  return absl::StrCat("layout \"", layout.name, "\", regroup of ",
                      absl::StrJoin(regroup.axes, ","));
}

// Sizes with the open one filled in.
absl::StatusOr<std::vector<int64_t>> FillSizes(const Layout& layout,
                                               const AxisRegroup& regroup,
                                               int64_t count) {
  int64_t product = 1;
  int open = 0;
  bool good = !regroup.into.empty();
  for (const MeshAxis& axis : regroup.into) {
    if (axis.size == 0) {
      ++open;
    } else {
      good = good && axis.size > 0 &&
             !__builtin_mul_overflow(product, axis.size, &product);
    }
  }
  if (!good || open > 1 || count % product != 0 ||
      (open == 0 && product != count)) {
    std::vector<std::string> into;
    for (const MeshAxis& axis : regroup.into) {
      into.push_back(absl::StrCat(axis.name, "=", axis.size));
    }
    return absl::InvalidArgumentError(absl::StrCat(
        Describe(layout, regroup), ": found ", absl::StrJoin(into, ","),
        ": expected sizes, one of which may be 0, with product ", count));
  }
  std::vector<int64_t> sizes;
  for (const MeshAxis& axis : regroup.into) {
    sizes.push_back(axis.size == 0 ? count / product : axis.size);
  }
  return sizes;
}

}  // namespace

absl::StatusOr<LayoutAxes> LayoutAxes::Create(const Layout& layout,
                                              const Mesh& mesh) {
  LayoutAxes out(mesh);
  for (const MeshAxis& axis : mesh.axes) {
    out.axes_.push_back({axis.name, axis.size, {axis.name}, 1});
  }
  for (const AxisRegroup& regroup : layout.regroups) {
    SLUICE_RETURN_IF_ERROR(out.Add(layout, regroup));
  }
  return out;
}

absl::Status LayoutAxes::Add(const Layout& layout, const AxisRegroup& regroup) {
  absl::flat_hash_set<std::string> names;
  for (const std::string& axis : regroup.axes) {
    if (mesh_->FindAxis(axis) < 0 || !names.insert(axis).second) {
      return absl::InvalidArgumentError(absl::StrCat(
          Describe(layout, regroup), ": axis \"", axis,
          "\" is given twice or is none of mesh ", mesh_->ToString()));
    }
  }
  SLUICE_ASSIGN_OR_RETURN(const std::vector<int64_t> sizes,
                          FillSizes(layout, regroup, CountOver(regroup.axes)));
  int64_t inner = 1;
  for (size_t i = sizes.size(); i-- > 0;) {
    const std::string& name = regroup.into[i].name;
    if (name.empty() || Find(name) != nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(Describe(layout, regroup),
                                                     ": axis name \"", name,
                                                     "\" is empty or taken"));
    }
    axes_.push_back({name, sizes[i], regroup.axes, inner});
    inner *= sizes[i];
  }
  return absl::OkStatus();
}

const LayoutAxes::Axis* LayoutAxes::Find(absl::string_view name) const {
  for (const Axis& axis : axes_) {
    if (axis.name == name) return &axis;
  }
  return nullptr;
}

absl::Status LayoutAxes::Require(absl::string_view axis,
                                 absl::string_view user) const {
  if (Find(axis) != nullptr) return absl::OkStatus();
  std::vector<std::string> known;
  for (const Axis& a : axes_) known.push_back(a.name);
  return absl::InvalidArgumentError(
      absl::StrCat(user, ": axis \"", axis, "\" is unknown: expected one of ",
                   absl::StrJoin(known, ", ")));
}

int64_t LayoutAxes::CountOver(absl::Span<const std::string> axes) const {
  int64_t count = 1;
  for (const std::string& name : axes) {
    const Axis* axis = Find(name);
    if (axis != nullptr) count *= axis->size;
  }
  return count;
}

int64_t LayoutAxes::PositionOver(int64_t mesh_index,
                                 absl::Span<const std::string> axes) const {
  int64_t position = 0;
  for (const std::string& name : axes) {
    const Axis* axis = Find(name);
    if (axis == nullptr) continue;
    const int64_t whole = mesh_->PositionOver(mesh_index, axis->of).first;
    position = position * axis->size + whole / axis->inner % axis->size;
  }
  return position;
}

}  // namespace sluice
