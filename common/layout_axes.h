#ifndef SLUICE_COMMON_LAYOUT_AXES_H_
#define SLUICE_COMMON_LAYOUT_AXES_H_

// The axes a layout may name: those of the mesh and those its regroups make of
// them. Internal to the layout library.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/layout.h"
#include "common/mesh.h"

namespace sluice {

class LayoutAxes {
 public:
  // `mesh` must outlive the result.
  // Errors: INVALID_ARGUMENT - a regroup of an unknown axis, a name that is
  // taken, sizes that do not multiply up to what is regrouped.
  static absl::StatusOr<LayoutAxes> Create(const Layout& layout,
                                           const Mesh& mesh);

  // Errors: INVALID_ARGUMENT - there is no such axis; `user` begins the message
  // and those there are end it.
  absl::Status Require(absl::string_view axis, absl::string_view user) const;

  // Over some axes together, the last fastest; a missing axis counts as 1.
  int64_t CountOver(absl::Span<const std::string> axes) const;
  int64_t PositionOver(int64_t mesh_index,
                       absl::Span<const std::string> axes) const;

 private:
  struct Axis {
    std::string name;
    int64_t size = 1;
    // coordinate = position over `of` / `inner` % size
    std::vector<std::string> of;
    int64_t inner = 1;
  };

  explicit LayoutAxes(const Mesh& mesh) : mesh_(&mesh) {}

  absl::Status Add(const Layout& layout, const AxisRegroup& regroup);
  const Axis* Find(absl::string_view name) const;

  const Mesh* mesh_;
  std::vector<Axis> axes_;
};

}  // namespace sluice

#endif  // SLUICE_COMMON_LAYOUT_AXES_H_
