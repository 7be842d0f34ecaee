#ifndef SLUICE_COMMON_CONVERT_LAYOUT_H_
#define SLUICE_COMMON_CONVERT_LAYOUT_H_

// proto/sluice/v1/{mesh,layout}.proto <-> common/{mesh,layout}.h.
//
// Errors of every FromProto: INVALID_ARGUMENT - names the field by its path,
// what was expected and what was found. Whether a layout fits a model is
// CheckLayout's question.

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/layout.h"
#include "common/mesh.h"
#include "proto/sluice/v1/layout.pb.h"
#include "proto/sluice/v1/mesh.pb.h"

namespace sluice {

// A mesh as clients give it: agents by name. The coordinator knows their ranks.
struct NamedMesh {
  std::vector<MeshAxis> axes;
  std::vector<std::string> agents;  // by mesh index

  friend bool operator==(const NamedMesh&, const NamedMesh&) = default;
};

v1::MeshAxis ToProto(const MeshAxis& axis);
v1::Mesh ToProto(const NamedMesh& mesh);
// `agents`: names by mesh index.
v1::Mesh ToProto(const Mesh& mesh, absl::Span<const std::string> agents);
v1::DimSplit ToProto(const DimSplit& split);
v1::ExpertRule ToProto(const ExpertRule& experts);
v1::FlatRule ToProto(const FlatRule& flat);
v1::AxisRegroup ToProto(const AxisRegroup& regroup);
v1::ExpertMap ToProto(const ExpertMap& map);
v1::StageRule ToProto(StageRule stage);
v1::LayoutRule ToProto(const LayoutRule& rule);
v1::Layout ToProto(const Layout& layout);

absl::StatusOr<MeshAxis> FromProto(const v1::MeshAxis& proto);
// Axis names are unique, their product is the number of agents, no agent stands
// twice. Attributes are dropped: nothing reads them.
absl::StatusOr<NamedMesh> FromProto(const v1::Mesh& proto);
absl::StatusOr<DimSplit> FromProto(const v1::DimSplit& proto);
absl::StatusOr<ExpertRule> FromProto(const v1::ExpertRule& proto);
absl::StatusOr<FlatRule> FromProto(const v1::FlatRule& proto);
absl::StatusOr<AxisRegroup> FromProto(const v1::AxisRegroup& proto);
absl::StatusOr<ExpertMap> FromProto(const v1::ExpertMap& proto);
// Unknown rules are refused; 0 is kAll.
absl::StatusOr<StageRule> FromProto(v1::StageRule proto);
absl::StatusOr<LayoutRule> FromProto(const v1::LayoutRule& proto);
absl::StatusOr<Layout> FromProto(const v1::Layout& proto);

}  // namespace sluice

#endif  // SLUICE_COMMON_CONVERT_LAYOUT_H_
