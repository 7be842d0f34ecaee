#include "common/convert_layout.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/convert_limits.h"
#include "common/convert_repeated.h"
#include "common/convert_tensor.h"
#include "common/dtype.h"
#include "common/status_macros.h"

namespace sluice {
namespace {

// Slots of experts of one layer.
constexpr int64_t kMaxSlots = int64_t{1} << 20;

constexpr auto kParse = [](const auto& proto) { return FromProto(proto); };

// Sizes that a rule lists; they are summed up later.
template <typename Repeated>
absl::Status ParseSizes(absl::string_view field, const Repeated& repeated,
                        std::vector<int64_t>& sizes,
                        int64_t limit = kMaxStages) {
  SLUICE_RETURN_IF_ERROR(CheckCount(field, repeated.size(), limit));
  int64_t sum = 0;
  for (const int64_t size : repeated) {
    SLUICE_RETURN_IF_ERROR(CheckNotNegative(field, size));
    if (__builtin_add_overflow(sum, size, &sum)) {
      return absl::InvalidArgumentError(
          absl::StrCat(field, ": expected a sum below 2^63, found more"));
    }
    sizes.push_back(size);
  }
  return absl::OkStatus();
}

}  // namespace

v1::MeshAxis ToProto(const MeshAxis& axis) {
  v1::MeshAxis proto;
  proto.set_name(axis.name);
  proto.set_size(axis.size);
  return proto;
}

v1::Mesh ToProto(const NamedMesh& mesh) {
  v1::Mesh proto;
  AppendProtos(mesh.axes, *proto.mutable_axes());
  proto.mutable_agents()->Add(mesh.agents.begin(), mesh.agents.end());
  return proto;
}

v1::Mesh ToProto(const Mesh& mesh, absl::Span<const std::string> agents) {
  v1::Mesh proto;
  AppendProtos(mesh.axes, *proto.mutable_axes());
  proto.mutable_agents()->Add(agents.begin(), agents.end());
  return proto;
}

v1::DimSplit ToProto(const DimSplit& split) {
  v1::DimSplit proto;
  proto.set_dim(split.dim);
  proto.mutable_axes()->Add(split.axes.begin(), split.axes.end());
  proto.set_unit(split.unit);
  proto.set_driver_units(split.driver_units);
  proto.set_pad_units(split.pad_units);
  proto.mutable_sizes()->Add(split.sizes.begin(), split.sizes.end());
  proto.mutable_parts()->Add(split.parts.begin(), split.parts.end());
  return proto;
}

v1::ExpertRule ToProto(const ExpertRule& experts) {
  v1::ExpertRule proto;
  proto.mutable_axes()->Add(experts.axes.begin(), experts.axes.end());
  proto.mutable_sizes()->Add(experts.sizes.begin(), experts.sizes.end());
  proto.set_stacked(experts.stacked);
  return proto;
}

v1::FlatRule ToProto(const FlatRule& flat) {
  v1::FlatRule proto;
  proto.mutable_axes()->Add(flat.axes.begin(), flat.axes.end());
  proto.set_unit(flat.unit);
  return proto;
}

v1::AxisRegroup ToProto(const AxisRegroup& regroup) {
  v1::AxisRegroup proto;
  proto.mutable_axes()->Add(regroup.axes.begin(), regroup.axes.end());
  for (const MeshAxis& axis : regroup.into) {
    proto.add_names(axis.name);
    proto.add_sizes(axis.size);
  }
  return proto;
}

v1::ExpertMap ToProto(const ExpertMap& map) {
  v1::ExpertMap proto;
  proto.set_first_layer(map.first_layer);
  proto.set_num_layers(map.num_layers);
  proto.mutable_slots()->Add(map.slots.begin(), map.slots.end());
  return proto;
}

v1::StageRule ToProto(StageRule stage) {
  return static_cast<v1::StageRule>(stage);
}

v1::LayoutRule ToProto(const LayoutRule& rule) {
  v1::LayoutRule proto;
  proto.set_pattern(rule.pattern);
  proto.set_local_name(rule.local_name);
  proto.set_last_stage_name(rule.last_stage_name);
  proto.set_stage(ToProto(rule.stage));
  AppendProtos(rule.splits, *proto.mutable_splits());
  if (rule.fuse_index >= 0) {
    proto.set_fused(true);
    proto.set_fuse_index(rule.fuse_index);
  }
  proto.set_fuse_dim(rule.fuse_dim);
  proto.set_interleave(rule.interleave);
  proto.set_optional(rule.optional);
  proto.mutable_dim_order()->Add(rule.dim_order.begin(), rule.dim_order.end());
  if (rule.experts != ExpertRule()) {
    *proto.mutable_experts() = ToProto(rule.experts);
  }
  if (rule.flat != FlatRule()) *proto.mutable_flat() = ToProto(rule.flat);
  proto.set_dtype(ToProto(rule.dtype));
  return proto;
}

v1::Layout ToProto(const Layout& layout) {
  v1::Layout proto;
  proto.set_name(layout.name);
  proto.set_stage_axis(layout.stage_axis);
  proto.mutable_stage_layers()->Add(layout.stage_layers.begin(),
                                    layout.stage_layers.end());
  proto.mutable_replica_axes()->Add(layout.replica_axes.begin(),
                                    layout.replica_axes.end());
  AppendProtos(layout.rules, *proto.mutable_rules());
  AppendProtos(layout.explicit_ranks, *proto.mutable_explicit_ranks());
  AppendProtos(layout.regroups, *proto.mutable_regroups());
  proto.set_chunk_layers(layout.chunk_layers);
  AppendProtos(layout.expert_maps, *proto.mutable_expert_maps());
  proto.set_replicated_views(layout.replicated_views);
  return proto;
}

absl::StatusOr<MeshAxis> FromProto(const v1::MeshAxis& proto) {
  SLUICE_RETURN_IF_ERROR(CheckName("name", proto.name(), kMaxAxisNameBytes));
  SLUICE_RETURN_IF_ERROR(CheckRange("size", proto.size(), 1, kMaxMeshSize));
  return MeshAxis{proto.name(), proto.size()};
}

absl::StatusOr<NamedMesh> FromProto(const v1::Mesh& proto) {
  NamedMesh mesh;
  SLUICE_RETURN_IF_ERROR(
      ParseRepeated("axes", proto.axes(), kMaxAxes, kParse, mesh.axes));
  SLUICE_RETURN_IF_ERROR(ParseNames("agents", proto.agents(), kMaxMeshSize,
                                    kMaxAgentNameBytes, mesh.agents));
  absl::flat_hash_set<std::string> names;
  for (const std::string& agent : mesh.agents) {
    if (!names.insert(agent).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("agents: agent \"", agent, "\" is listed twice"));
    }
  }
  // The mesh of the first ranks, for its own checks.
  Mesh ranked;
  ranked.axes = mesh.axes;
  for (size_t i = 0; i < mesh.agents.size(); ++i) {
    ranked.ranks.push_back(Rank(static_cast<int32_t>(i)));
  }
  SLUICE_RETURN_IF_ERROR(ranked.Validate());
  return mesh;
}

absl::StatusOr<DimSplit> FromProto(const v1::DimSplit& proto) {
  DimSplit split;
  SLUICE_RETURN_IF_ERROR(CheckRange("dim", proto.dim(), 0, kMaxDims - 1));
  split.dim = proto.dim();
  SLUICE_RETURN_IF_ERROR(ParseNames("axes", proto.axes(), kMaxAxes,
                                    kMaxAxisNameBytes, split.axes));
  SLUICE_RETURN_IF_ERROR(CheckNotNegative("unit", proto.unit()));
  split.unit = proto.unit() == 0 ? 1 : proto.unit();
  SLUICE_RETURN_IF_ERROR(
      CheckNotNegative("driver_units", proto.driver_units()));
  split.driver_units = proto.driver_units();
  SLUICE_RETURN_IF_ERROR(CheckNotNegative("pad_units", proto.pad_units()));
  split.pad_units = proto.pad_units();
  SLUICE_RETURN_IF_ERROR(ParseSizes("sizes", proto.sizes(), split.sizes));
  SLUICE_RETURN_IF_ERROR(ParseSizes("parts", proto.parts(), split.parts));
  return split;
}

absl::StatusOr<ExpertRule> FromProto(const v1::ExpertRule& proto) {
  ExpertRule experts;
  SLUICE_RETURN_IF_ERROR(ParseNames("experts.axes", proto.axes(), kMaxAxes,
                                    kMaxAxisNameBytes, experts.axes));
  SLUICE_RETURN_IF_ERROR(
      ParseSizes("experts.sizes", proto.sizes(), experts.sizes));
  experts.stacked = proto.stacked();
  return experts;
}

absl::StatusOr<FlatRule> FromProto(const v1::FlatRule& proto) {
  FlatRule flat;
  SLUICE_RETURN_IF_ERROR(ParseNames("flat.axes", proto.axes(), kMaxAxes,
                                    kMaxAxisNameBytes, flat.axes));
  SLUICE_RETURN_IF_ERROR(
      CheckRange("flat.unit", proto.unit(), 0, int64_t{1} << 32));
  flat.unit = proto.unit() == 0 ? 1 : proto.unit();
  return flat;
}

absl::StatusOr<AxisRegroup> FromProto(const v1::AxisRegroup& proto) {
  AxisRegroup regroup;
  SLUICE_RETURN_IF_ERROR(ParseNames("regroups.axes", proto.axes(), kMaxAxes,
                                    kMaxAxisNameBytes, regroup.axes));
  std::vector<std::string> names;
  SLUICE_RETURN_IF_ERROR(ParseNames("regroups.names", proto.names(), kMaxAxes,
                                    kMaxAxisNameBytes, names));
  if (proto.sizes_size() != proto.names_size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("regroups.sizes: expected ", proto.names_size(),
                     " sizes, found ", proto.sizes_size()));
  }
  for (int i = 0; i < proto.sizes_size(); ++i) {
    SLUICE_RETURN_IF_ERROR(
        CheckRange("regroups.sizes", proto.sizes(i), 0, kMaxMeshSize));
    regroup.into.push_back({names[static_cast<size_t>(i)], proto.sizes(i)});
  }
  return regroup;
}

absl::StatusOr<ExpertMap> FromProto(const v1::ExpertMap& proto) {
  ExpertMap map;
  SLUICE_RETURN_IF_ERROR(CheckNotNegative("first_layer", proto.first_layer()));
  map.first_layer = proto.first_layer();
  SLUICE_RETURN_IF_ERROR(CheckNotNegative("num_layers", proto.num_layers()));
  map.num_layers = proto.num_layers();
  SLUICE_RETURN_IF_ERROR(
      ParseSizes("slots", proto.slots(), map.slots, kMaxSlots));
  return map;
}

absl::StatusOr<StageRule> FromProto(v1::StageRule proto) {
  if (!v1::StageRule_IsValid(proto)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "stage: expected a known rule, found ", static_cast<int>(proto)));
  }
  return static_cast<StageRule>(proto);
}

absl::StatusOr<LayoutRule> FromProto(const v1::LayoutRule& proto) {
  LayoutRule rule;
  SLUICE_RETURN_IF_ERROR(
      CheckName("pattern", proto.pattern(), kMaxTensorNameBytes));
  rule.pattern = proto.pattern();
  SLUICE_RETURN_IF_ERROR(
      CheckText("local_name", proto.local_name(), kMaxTensorNameBytes));
  rule.local_name = proto.local_name();
  SLUICE_RETURN_IF_ERROR(CheckText("last_stage_name", proto.last_stage_name(),
                                   kMaxTensorNameBytes));
  rule.last_stage_name = proto.last_stage_name();
  SLUICE_ASSIGN_OR_RETURN(rule.stage, FromProto(proto.stage()));
  SLUICE_RETURN_IF_ERROR(
      ParseRepeated("splits", proto.splits(), kMaxDims, kParse, rule.splits));
  SLUICE_RETURN_IF_ERROR(
      CheckRange("fuse_index", proto.fuse_index(), 0, kMaxRules));
  rule.fuse_index = proto.fused() ? proto.fuse_index() : -1;
  SLUICE_RETURN_IF_ERROR(
      CheckRange("fuse_dim", proto.fuse_dim(), 0, kMaxDims - 1));
  rule.fuse_dim = proto.fuse_dim();
  SLUICE_RETURN_IF_ERROR(CheckNotNegative("interleave", proto.interleave()));
  rule.interleave = proto.interleave();
  rule.optional = proto.optional();
  SLUICE_RETURN_IF_ERROR(
      CheckCount("dim_order", proto.dim_order_size(), kMaxDims));
  for (const int32_t dim : proto.dim_order()) {
    SLUICE_RETURN_IF_ERROR(
        CheckRange("dim_order", dim, 0, proto.dim_order_size() - 1));
    rule.dim_order.push_back(dim);
  }
  SLUICE_ASSIGN_OR_RETURN(rule.experts, FromProto(proto.experts()));
  SLUICE_ASSIGN_OR_RETURN(rule.flat, FromProto(proto.flat()));
  if (proto.dtype() != v1::DTYPE_UNSPECIFIED) {
    SLUICE_ASSIGN_OR_RETURN(rule.dtype, FromProto(proto.dtype()));
  }
  return rule;
}

absl::StatusOr<Layout> FromProto(const v1::Layout& proto) {
  Layout layout;
  SLUICE_RETURN_IF_ERROR(CheckText("name", proto.name(), kMaxModelNameBytes));
  layout.name = proto.name();
  SLUICE_RETURN_IF_ERROR(
      CheckText("stage_axis", proto.stage_axis(), kMaxAxisNameBytes));
  layout.stage_axis = proto.stage_axis();
  SLUICE_RETURN_IF_ERROR(
      ParseSizes("stage_layers", proto.stage_layers(), layout.stage_layers));
  SLUICE_RETURN_IF_ERROR(ParseNames("replica_axes", proto.replica_axes(),
                                    kMaxAxes, kMaxAxisNameBytes,
                                    layout.replica_axes));
  SLUICE_RETURN_IF_ERROR(
      ParseRepeated("rules", proto.rules(), kMaxRules, kParse, layout.rules));
  SLUICE_RETURN_IF_ERROR(ParseRepeated("explicit_ranks", proto.explicit_ranks(),
                                       kMaxMeshSize, kParse,
                                       layout.explicit_ranks));
  SLUICE_RETURN_IF_ERROR(ParseRepeated("regroups", proto.regroups(), kMaxAxes,
                                       kParse, layout.regroups));
  SLUICE_RETURN_IF_ERROR(
      CheckNotNegative("chunk_layers", proto.chunk_layers()));
  layout.chunk_layers = proto.chunk_layers();
  SLUICE_RETURN_IF_ERROR(ParseRepeated("expert_maps", proto.expert_maps(),
                                       kMaxRules, kParse, layout.expert_maps));
  layout.replicated_views = proto.replicated_views();
  return layout;
}

}  // namespace sluice
