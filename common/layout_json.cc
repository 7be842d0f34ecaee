#include "common/layout_json.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/json_strict.h"
#include "common/status_macros.h"

namespace sluice {
namespace {

using nlohmann::json;

struct StageName {
  StageRule stage;
  absl::string_view name;
};
constexpr StageName kStageNames[] = {
    {StageRule::kAll, "all"},
    {StageRule::kByLayer, "by_layer"},
    {StageRule::kFirst, "first"},
    {StageRule::kLast, "last"},
    {StageRule::kFirstAndLast, "first_and_last"},
};

std::string NameOf(StageRule stage) {
  for (const StageName& entry : kStageNames) {
    if (entry.stage == stage) return std::string(entry.name);
  }
  return "all";
}

// Appends to `out` a list of objects, each read by `read(item, where)`.
template <typename T, typename Read>
absl::Status ReadList(JsonObject& object, absl::string_view key, Read read,
                      std::vector<T>& out) {
  const json* list = object.Find(key);
  if (list == nullptr) return absl::OkStatus();
  if (!list->is_array()) return object.Error(key, "expected a list");
  for (size_t i = 0; i < list->size(); ++i) {
    SLUICE_ASSIGN_OR_RETURN(
        T item,
        read((*list)[i], absl::StrCat(object.where(), ", ", key, "[", i, "]")));
    out.push_back(std::move(item));
  }
  return absl::OkStatus();
}

// --- Reading ----------------------------------------------------------------

absl::StatusOr<DimSplit> ReadSplit(const json& value, std::string where) {
  JsonObject object(value, std::move(where));
  DimSplit split;
  SLUICE_RETURN_IF_ERROR(object.ReadInt32("dim", split.dim));
  SLUICE_RETURN_IF_ERROR(object.ReadStrings("axes", split.axes));
  SLUICE_RETURN_IF_ERROR(object.ReadInt("unit", split.unit));
  SLUICE_RETURN_IF_ERROR(object.ReadInt("driver_units", split.driver_units));
  SLUICE_RETURN_IF_ERROR(object.ReadInt("pad_units", split.pad_units));
  SLUICE_RETURN_IF_ERROR(object.ReadInts("sizes", split.sizes));
  SLUICE_RETURN_IF_ERROR(object.ReadInts("parts", split.parts));
  SLUICE_RETURN_IF_ERROR(object.CheckNoOthers());
  SLUICE_RETURN_IF_ERROR(object.Require("dim"));
  SLUICE_RETURN_IF_ERROR(object.Require("axes"));
  return split;
}

absl::Status ReadStage(JsonObject& object, StageRule& stage) {
  std::string name = "all";
  SLUICE_RETURN_IF_ERROR(object.ReadString("stage", name));
  std::vector<absl::string_view> names;
  for (const StageName& entry : kStageNames) {
    if (entry.name == name) {
      stage = entry.stage;
      return absl::OkStatus();
    }
    names.push_back(entry.name);
  }
  return object.Error("stage",
                      absl::StrCat("found \"", name, "\": expected one of ",
                                   absl::StrJoin(names, ", ")));
}

absl::Status ReadExperts(JsonObject& rule, ExpertRule& experts) {
  const json* value = rule.Find("experts");
  if (value == nullptr) return absl::OkStatus();
  JsonObject object(*value, absl::StrCat(rule.where(), ", experts"));
  SLUICE_RETURN_IF_ERROR(object.ReadStrings("axes", experts.axes));
  SLUICE_RETURN_IF_ERROR(object.ReadInts("sizes", experts.sizes));
  SLUICE_RETURN_IF_ERROR(object.ReadBool("stacked", experts.stacked));
  return object.CheckNoOthers();
}

absl::Status ReadFlat(JsonObject& rule, FlatRule& flat) {
  const json* value = rule.Find("flat");
  if (value == nullptr) return absl::OkStatus();
  JsonObject object(*value, absl::StrCat(rule.where(), ", flat"));
  SLUICE_RETURN_IF_ERROR(object.ReadStrings("axes", flat.axes));
  SLUICE_RETURN_IF_ERROR(object.ReadInt("unit", flat.unit));
  SLUICE_RETURN_IF_ERROR(object.CheckNoOthers());
  if (flat.axes.empty()) return object.Error("axes", "expected at least one");
  return absl::OkStatus();
}

absl::Status ReadDimOrder(JsonObject& rule, std::vector<int>& order) {
  std::vector<int64_t> dims;
  SLUICE_RETURN_IF_ERROR(rule.ReadInts("dim_order", dims));
  for (const int64_t dim : dims) {
    if (dim < 0 || dim >= static_cast<int64_t>(dims.size())) {
      return rule.Error("dim_order", "expected each dimension once");
    }
    order.push_back(static_cast<int>(dim));
  }
  return absl::OkStatus();
}

absl::Status ReadDType(JsonObject& object, DType& dtype) {
  std::string name;
  SLUICE_RETURN_IF_ERROR(object.ReadString("dtype", name));
  const absl::StatusOr<DType> parsed = ParseDType(name);
  if (!parsed.ok()) return object.Error("dtype", parsed.status().message());
  dtype = *parsed;
  return absl::OkStatus();
}

absl::StatusOr<LayoutRule> ReadRule(const json& value, std::string where) {
  // The pattern says more than a position does.
  if (value.is_object() && value.contains("pattern") &&
      value["pattern"].is_string()) {
    absl::StrAppend(&where, " \"", value["pattern"].get<std::string>(), "\"");
  }
  JsonObject object(value, std::move(where));
  LayoutRule rule;
  SLUICE_RETURN_IF_ERROR(object.ReadString("pattern", rule.pattern));
  std::string comment;
  SLUICE_RETURN_IF_ERROR(object.ReadString("comment", comment));
  SLUICE_RETURN_IF_ERROR(object.ReadString("local_name", rule.local_name));
  SLUICE_RETURN_IF_ERROR(
      object.ReadString("last_stage_name", rule.last_stage_name));
  SLUICE_RETURN_IF_ERROR(ReadStage(object, rule.stage));
  SLUICE_RETURN_IF_ERROR(object.ReadInt32("fuse_index", rule.fuse_index));
  SLUICE_RETURN_IF_ERROR(object.ReadInt32("fuse_dim", rule.fuse_dim));
  SLUICE_RETURN_IF_ERROR(object.ReadInt("interleave", rule.interleave));
  SLUICE_RETURN_IF_ERROR(object.ReadBool("optional", rule.optional));
  SLUICE_RETURN_IF_ERROR(ReadList(object, "splits", ReadSplit, rule.splits));
  SLUICE_RETURN_IF_ERROR(ReadDimOrder(object, rule.dim_order));
  SLUICE_RETURN_IF_ERROR(ReadExperts(object, rule.experts));
  SLUICE_RETURN_IF_ERROR(ReadFlat(object, rule.flat));
  if (object.Find("dtype") != nullptr) {
    SLUICE_RETURN_IF_ERROR(ReadDType(object, rule.dtype));
  }
  SLUICE_RETURN_IF_ERROR(object.CheckNoOthers());
  SLUICE_RETURN_IF_ERROR(object.Require("pattern"));
  return rule;
}

absl::StatusOr<LocalParam> ReadParam(const json& value, std::string where) {
  JsonObject object(value, std::move(where));
  LocalParam param;
  SLUICE_RETURN_IF_ERROR(object.ReadString("name", param.name));
  SLUICE_RETURN_IF_ERROR(ReadDType(object, param.dtype));
  SLUICE_RETURN_IF_ERROR(object.ReadInts("shape", param.shape));
  SLUICE_RETURN_IF_ERROR(object.CheckNoOthers());
  SLUICE_RETURN_IF_ERROR(object.Require("name"));
  SLUICE_RETURN_IF_ERROR(object.Require("shape"));
  return param;
}

absl::Status ReadBox(JsonObject& object, Box& box) {
  const json* value = object.Find("box");
  if (value == nullptr) return object.Require("box");
  std::vector<Interval> dims;
  bool good = value->is_array();
  if (good) {
    for (const json& pair : *value) {
      Interval& dim = dims.emplace_back();
      good = good && pair.is_array() && pair.size() == 2 &&
             GetInt64(pair[0], dim.lo) && GetInt64(pair[1], dim.hi);
    }
  }
  if (!good) return object.Error("box", "expected a list of [lo, hi) pairs");
  box = Box(std::move(dims));
  return absl::OkStatus();
}

// Reads a position that is given by number or by name.
template <typename Find>
absl::Status ReadReference(JsonObject& object, absl::string_view key,
                           Find find_name, int32_t& out) {
  const json* value = object.Find(key);
  if (value == nullptr) return object.Require(key);
  if (!value->is_string()) {
    int number = 0;
    SLUICE_RETURN_IF_ERROR(object.ReadInt32(key, number));
    out = number;
    return absl::OkStatus();
  }
  const std::optional<int32_t> found = find_name(value->get<std::string>());
  if (!found.has_value()) {
    return object.Error(
        key, absl::StrCat("\"", value->get<std::string>(), "\" is unknown"));
  }
  out = *found;
  return absl::OkStatus();
}

absl::StatusOr<View> ReadView(const json& value, std::string where,
                              const RankLayout& rank, const ModelSpec* model) {
  JsonObject object(value, std::move(where));
  View view;
  int32_t tensor = 0;
  SLUICE_RETURN_IF_ERROR(ReadReference(
      object, "tensor",
      [model](const std::string& name) -> std::optional<int32_t> {
        if (model == nullptr) return std::nullopt;
        for (size_t t = 0; t < model->tensors.size(); ++t) {
          if (model->tensors[t].name == name) return static_cast<int32_t>(t);
        }
        return std::nullopt;
      },
      tensor));
  view.tensor = TensorIndex(tensor);
  SLUICE_RETURN_IF_ERROR(ReadReference(
      object, "param",
      [&rank](const std::string& name) -> std::optional<int32_t> {
        for (size_t p = 0; p < rank.params.size(); ++p) {
          if (rank.params[p].name == name) return static_cast<int32_t>(p);
        }
        return std::nullopt;
      },
      view.param));
  SLUICE_RETURN_IF_ERROR(ReadBox(object, view.box));
  SLUICE_RETURN_IF_ERROR(object.ReadInt("offset", view.offset));
  SLUICE_RETURN_IF_ERROR(object.Require("strides"));
  SLUICE_RETURN_IF_ERROR(object.ReadInts("strides", view.strides));
  SLUICE_RETURN_IF_ERROR(object.CheckNoOthers());
  return view;
}

absl::StatusOr<RankLayout> ReadRank(const json& value, std::string where,
                                    const ModelSpec* model) {
  JsonObject object(value, std::move(where));
  RankLayout rank;
  SLUICE_RETURN_IF_ERROR(ReadList(object, "params", ReadParam, rank.params));
  SLUICE_RETURN_IF_ERROR(ReadList(
      object, "views",
      [&rank, model](const json& item, std::string at) {
        return ReadView(item, std::move(at), rank, model);
      },
      rank.views));
  SLUICE_RETURN_IF_ERROR(object.CheckNoOthers());
  return rank;
}

absl::StatusOr<MeshAxis> ReadNewAxis(const json& value, std::string where) {
  JsonObject object(value, std::move(where));
  MeshAxis axis;
  axis.size = 0;  // what is left
  SLUICE_RETURN_IF_ERROR(object.ReadString("axis", axis.name));
  SLUICE_RETURN_IF_ERROR(object.ReadInt("size", axis.size));
  SLUICE_RETURN_IF_ERROR(object.CheckNoOthers());
  SLUICE_RETURN_IF_ERROR(object.Require("axis"));
  return axis;
}

absl::StatusOr<AxisRegroup> ReadRegroup(const json& value, std::string where) {
  JsonObject object(value, std::move(where));
  AxisRegroup regroup;
  SLUICE_RETURN_IF_ERROR(object.ReadStrings("axes", regroup.axes));
  SLUICE_RETURN_IF_ERROR(ReadList(object, "into", ReadNewAxis, regroup.into));
  SLUICE_RETURN_IF_ERROR(object.CheckNoOthers());
  SLUICE_RETURN_IF_ERROR(object.Require("axes"));
  SLUICE_RETURN_IF_ERROR(object.Require("into"));
  return regroup;
}

absl::StatusOr<ExpertMap> ReadExpertMap(const json& value, std::string where) {
  JsonObject object(value, std::move(where));
  ExpertMap map;
  SLUICE_RETURN_IF_ERROR(object.ReadInt("first_layer", map.first_layer));
  SLUICE_RETURN_IF_ERROR(object.ReadInt("num_layers", map.num_layers));
  SLUICE_RETURN_IF_ERROR(object.ReadInts("slots", map.slots));
  SLUICE_RETURN_IF_ERROR(object.CheckNoOthers());
  SLUICE_RETURN_IF_ERROR(object.Require("slots"));
  return map;
}

absl::StatusOr<Layout> ReadLayout(const json& value, const ModelSpec* model) {
  JsonObject object(value, "layout");
  Layout layout;
  std::string comment;
  SLUICE_RETURN_IF_ERROR(object.ReadString("name", layout.name));
  SLUICE_RETURN_IF_ERROR(object.ReadString("comment", comment));
  SLUICE_RETURN_IF_ERROR(object.ReadString("stage_axis", layout.stage_axis));
  SLUICE_RETURN_IF_ERROR(object.ReadInts("stage_layers", layout.stage_layers));
  SLUICE_RETURN_IF_ERROR(object.ReadInt("chunk_layers", layout.chunk_layers));
  SLUICE_RETURN_IF_ERROR(
      object.ReadStrings("replica_axes", layout.replica_axes));
  SLUICE_RETURN_IF_ERROR(
      ReadList(object, "regroups", ReadRegroup, layout.regroups));
  SLUICE_RETURN_IF_ERROR(
      ReadList(object, "expert_maps", ReadExpertMap, layout.expert_maps));
  SLUICE_RETURN_IF_ERROR(ReadList(object, "rules", ReadRule, layout.rules));
  SLUICE_RETURN_IF_ERROR(ReadList(
      object, "explicit_ranks",
      [model](const json& item, std::string at) {
        return ReadRank(item, std::move(at), model);
      },
      layout.explicit_ranks));
  SLUICE_RETURN_IF_ERROR(
      object.ReadBool("replicated_views", layout.replicated_views));
  SLUICE_RETURN_IF_ERROR(object.CheckNoOthers());
  SLUICE_RETURN_IF_ERROR(object.Require("name"));
  return layout;
}

// --- Printing ---------------------------------------------------------------

json SplitToJson(const DimSplit& split) {
  json out = {{"dim", split.dim}, {"axes", split.axes}};
  const DimSplit defaults;
  if (split.unit != defaults.unit) out["unit"] = split.unit;
  if (split.driver_units != 0) out["driver_units"] = split.driver_units;
  if (split.pad_units != 0) out["pad_units"] = split.pad_units;
  if (!split.sizes.empty()) out["sizes"] = split.sizes;
  if (!split.parts.empty()) out["parts"] = split.parts;
  return out;
}

json RuleToJson(const LayoutRule& rule) {
  json out = {{"pattern", rule.pattern}};
  const LayoutRule defaults;
  if (!rule.local_name.empty()) out["local_name"] = rule.local_name;
  if (!rule.last_stage_name.empty()) {
    out["last_stage_name"] = rule.last_stage_name;
  }
  if (rule.stage != defaults.stage) out["stage"] = NameOf(rule.stage);
  if (rule.fuse_index != defaults.fuse_index) {
    out["fuse_index"] = rule.fuse_index;
  }
  if (rule.fuse_dim != 0) out["fuse_dim"] = rule.fuse_dim;
  if (rule.interleave != 0) out["interleave"] = rule.interleave;
  if (!rule.dim_order.empty()) out["dim_order"] = rule.dim_order;
  if (rule.experts != defaults.experts) {
    json& experts = out["experts"] = json::object();
    if (!rule.experts.axes.empty()) experts["axes"] = rule.experts.axes;
    if (!rule.experts.sizes.empty()) experts["sizes"] = rule.experts.sizes;
    if (rule.experts.stacked) experts["stacked"] = true;
  }
  if (rule.flat != defaults.flat) {
    out["flat"] = {{"axes", rule.flat.axes}, {"unit", rule.flat.unit}};
  }
  if (rule.dtype != DType::kUnspecified) {
    out["dtype"] = std::string(DTypeName(rule.dtype));
  }
  if (rule.optional) out["optional"] = true;
  for (const DimSplit& split : rule.splits) {
    out["splits"].push_back(SplitToJson(split));
  }
  return out;
}

json RankToJson(const RankLayout& rank) {
  json out = {{"params", json::array()}, {"views", json::array()}};
  for (const LocalParam& param : rank.params) {
    out["params"].push_back({{"name", param.name},
                             {"dtype", std::string(DTypeName(param.dtype))},
                             {"shape", param.shape}});
  }
  for (const View& view : rank.views) {
    json box = json::array();
    for (const Interval& dim : view.box.dims()) {
      box.push_back(json::array({dim.lo, dim.hi}));
    }
    out["views"].push_back({{"tensor", view.tensor.value()},
                            {"param", view.param},
                            {"box", std::move(box)},
                            {"offset", view.offset},
                            {"strides", view.strides}});
  }
  return out;
}

}  // namespace

absl::StatusOr<Layout> ParseLayout(absl::string_view text,
                                   const ModelSpec* model) {
  SLUICE_ASSIGN_OR_RETURN(const json value, ParseJson(text));
  return ReadLayout(value, model);
}

std::string PrintLayout(const Layout& layout) {
  json out = {{"name", layout.name}, {"rules", json::array()}};
  if (!layout.stage_axis.empty()) out["stage_axis"] = layout.stage_axis;
  if (!layout.stage_layers.empty()) out["stage_layers"] = layout.stage_layers;
  if (layout.chunk_layers != 0) out["chunk_layers"] = layout.chunk_layers;
  if (!layout.replica_axes.empty()) out["replica_axes"] = layout.replica_axes;
  for (const AxisRegroup& regroup : layout.regroups) {
    json into = json::array();
    for (const MeshAxis& axis : regroup.into) {
      into.push_back({{"axis", axis.name}, {"size", axis.size}});
    }
    out["regroups"].push_back(
        {{"axes", regroup.axes}, {"into", std::move(into)}});
  }
  for (const ExpertMap& map : layout.expert_maps) {
    out["expert_maps"].push_back({{"first_layer", map.first_layer},
                                  {"num_layers", map.num_layers},
                                  {"slots", map.slots}});
  }
  for (const LayoutRule& rule : layout.rules) {
    out["rules"].push_back(RuleToJson(rule));
  }
  for (const RankLayout& rank : layout.explicit_ranks) {
    out["explicit_ranks"].push_back(RankToJson(rank));
  }
  if (layout.replicated_views) out["replicated_views"] = true;
  // Names come from outside: bytes that are no UTF-8 must not throw.
  return out.dump(2, ' ', false, json::error_handler_t::replace);
}

}  // namespace sluice
