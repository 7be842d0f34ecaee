#include "common/layout_resolve.h"

#include <algorithm>
#include <numeric>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"

namespace sluice {
namespace {

std::string Describe(const LayoutRule& rule) {
  return absl::StrCat("rule \"", rule.pattern, "\"");
}

// Says on the way up what was being done.
template <typename T>
absl::StatusOr<T> In(absl::StatusOr<T> result, absl::string_view where) {
  if (result.ok()) return result;
  return Annotate(result.status(), where);
}

absl::Status CheckRule(const LayoutRule& rule, const NamePattern& pattern) {
  const auto bad = [&rule](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat(Describe(rule), ": ", why));
  };
  if (rule.stage == StageRule::kByLayer && !pattern.has_layer()) {
    return bad("stage by layer, but the pattern has no {layer}");
  }
  if (!rule.last_stage_name.empty() && rule.stage != StageRule::kFirstAndLast) {
    return bad("last_stage_name is for stage first_and_last only");
  }
  if (rule.fuse_index < -1 || rule.fuse_dim < 0 || rule.interleave < 0) {
    return bad("fuse_index, fuse_dim or interleave is negative");
  }
  if (rule.interleave != 0 && rule.fuse_index < 0) {
    return bad("interleave without fuse_index");
  }
  absl::flat_hash_set<int> dims;
  for (const DimSplit& split : rule.splits) {
    if (split.dim < 0 || !dims.insert(split.dim).second) {
      return bad(
          absl::StrCat("dimension ", split.dim, " is negative or split twice"));
    }
    absl::flat_hash_set<std::string> axes(split.axes.begin(), split.axes.end());
    if (split.axes.empty() || axes.size() != split.axes.size()) {
      return bad(absl::StrCat("split of dimension ", split.dim,
                              " names no axis, or one twice"));
    }
    if (split.dim == rule.fuse_dim && rule.interleave != 0 &&
        split.pad_units != 0) {
      return bad("interleave and pad_units exclude each other");
    }
  }
  return absl::OkStatus();
}

}  // namespace

Interval ResolvedClass::Held(int d, int64_t mesh_index) const {
  const auto dim = static_cast<size_t>(d);
  if (!deals[dim].has_value()) return {0, shape[dim]};
  const int64_t position = (*positions[dim])[static_cast<size_t>(mesh_index)];
  return deals[dim]->held[static_cast<size_t>(position)];
}

int64_t ResolvedClass::LocalExtent(int d, int64_t mesh_index) const {
  const auto dim = static_cast<size_t>(d);
  if (!deals[dim].has_value()) return shape[dim];
  return deals[dim]->LocalExtent(
      (*positions[dim])[static_cast<size_t>(mesh_index)]);
}

std::optional<Box> ResolvedClass::BoxOn(int64_t mesh_index) const {
  std::vector<Interval> dims;
  dims.reserve(shape.size());
  for (int d = 0; d < static_cast<int>(shape.size()); ++d) {
    const Interval held = Held(d, mesh_index);
    if (held.empty()) return std::nullopt;
    dims.push_back(held);
  }
  return Box(std::move(dims));
}

absl::StatusOr<ResolvedLayout> ResolvedLayout::Create(const ModelSpec& model,
                                                      const Layout& layout,
                                                      const Mesh& mesh) {
  ResolvedLayout out(model, layout, mesh);
  SLUICE_RETURN_IF_ERROR(out.CheckAxes());
  SLUICE_RETURN_IF_ERROR(out.ParseRules());
  SLUICE_RETURN_IF_ERROR(out.MatchTensors());
  SLUICE_RETURN_IF_ERROR(out.DealLayers());
  SLUICE_RETURN_IF_ERROR(out.MakeClasses());
  SLUICE_RETURN_IF_ERROR(out.MakePatterns());
  return out;
}

absl::Status ResolvedLayout::CheckAxes() const {
  const auto check = [this](const std::string& axis, absl::string_view user) {
    if (mesh_->FindAxis(axis) >= 0) return absl::OkStatus();
    std::vector<std::string> known;
    for (const MeshAxis& a : mesh_->axes) known.push_back(a.name);
    return absl::InvalidArgumentError(absl::StrCat(
        "layout \"", layout_->name, "\", ", user, ": axis \"", axis,
        "\" is unknown: expected one of ", absl::StrJoin(known, ", ")));
  };
  if (!layout_->stage_axis.empty()) {
    SLUICE_RETURN_IF_ERROR(check(layout_->stage_axis, "stage axis"));
  }
  for (const std::string& axis : layout_->replica_axes) {
    SLUICE_RETURN_IF_ERROR(check(axis, "replica axes"));
  }
  for (const LayoutRule& rule : layout_->rules) {
    for (const DimSplit& split : rule.splits) {
      for (const std::string& axis : split.axes) {
        SLUICE_RETURN_IF_ERROR(check(axis, Describe(rule)));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status ResolvedLayout::ParseRules() {
  for (const LayoutRule& rule : layout_->rules) {
    SLUICE_ASSIGN_OR_RETURN(NamePattern pattern,
                            NamePattern::Parse(rule.pattern));
    SLUICE_RETURN_IF_ERROR(CheckRule(rule, pattern));
    patterns_.push_back(std::move(pattern));
  }
  return absl::OkStatus();
}

absl::Status ResolvedLayout::MatchTensors() {
  std::vector<bool> used(patterns_.size(), false);
  for (const TensorSpec& tensor : model_->tensors) {
    std::optional<size_t> found;
    for (size_t r = 0; r < patterns_.size(); ++r) {
      const std::optional<NameMatch> match = patterns_[r].Match(tensor.name);
      if (!match.has_value()) continue;
      if (found.has_value()) {
        return absl::InvalidArgumentError(
            absl::StrCat("tensor \"", tensor.name, "\" matches ",
                         Describe(layout_->rules[*found]), " and ",
                         Describe(layout_->rules[r]), " of layout \"",
                         layout_->name, "\": expected exactly one"));
      }
      found = r;
      match_of_.push_back(*match);
    }
    if (!found.has_value()) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor \"", tensor.name,
                       "\" matches no rule of layout "
                       "\"",
                       layout_->name, "\": expected exactly one"));
    }
    used[*found] = true;
    rule_of_.push_back(*found);
  }
  for (size_t r = 0; r < used.size(); ++r) {
    if (!used[r] && !layout_->rules[r].optional) {
      return absl::InvalidArgumentError(
          absl::StrCat(Describe(layout_->rules[r]), " of layout \"",
                       layout_->name, "\" matches no tensor of model \"",
                       model_->name, "\" and is not optional"));
    }
  }
  return absl::OkStatus();
}

absl::Status ResolvedLayout::DealLayers() {
  num_stages_ = mesh_->AxisSize(layout_->stage_axis);
  for (int64_t i = 0; i < mesh_->size(); ++i) {
    stage_of_index_.push_back(mesh_->Coordinate(i, layout_->stage_axis));
  }
  int64_t num_layers = 0;
  for (size_t t = 0; t < rule_of_.size(); ++t) {
    if (layout_->rules[rule_of_[t]].stage != StageRule::kByLayer) continue;
    num_layers = std::max(num_layers, match_of_[t].layer + 1);
  }
  DimSplit split;
  split.sizes = layout_->stage_layers;
  SLUICE_ASSIGN_OR_RETURN(
      DimDeal deal,
      In(DealDim(split, num_layers, num_stages_),
         absl::StrCat("layout \"", layout_->name,
                      "\", layers over stages (as dimension 0)")));
  layers_ = std::move(deal.held);
  return absl::OkStatus();
}

int64_t ResolvedLayout::StageOfLayer(int64_t layer) const {
  for (size_t s = 0; s < layers_.size(); ++s) {
    if (layer >= layers_[s].lo && layer < layers_[s].hi) {
      return static_cast<int64_t>(s);
    }
  }
  return 0;
}

const std::vector<int64_t>& ResolvedLayout::PositionsOver(
    const std::vector<std::string>& axes) {
  auto [it, inserted] = positions_.try_emplace(axes);
  if (inserted) {
    for (int64_t i = 0; i < mesh_->size(); ++i) {
      it->second.push_back(mesh_->PositionOver(i, axes).first);
    }
  }
  return it->second;
}

absl::StatusOr<ResolvedClass> ResolvedLayout::MakeClass(
    const TensorSpec& tensor, const LayoutRule& rule, int64_t stage) {
  ResolvedClass c;
  c.rule = &rule;
  c.shape = tensor.shape;
  c.dtype = tensor.dtype;
  c.stage = stage;
  c.deals.resize(tensor.shape.size());
  c.positions.resize(tensor.shape.size(), nullptr);
  for (const DimSplit& split : rule.splits) {
    const auto dim = static_cast<size_t>(split.dim);
    const std::string where =
        absl::StrCat("tensor \"", tensor.name, "\", ", Describe(rule));
    if (dim >= tensor.shape.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": split of dimension ", split.dim,
                       ": expected below ", tensor.shape.size()));
    }
    int64_t count = 1;
    for (const std::string& axis : split.axes) count *= mesh_->AxisSize(axis);
    c.positions[dim] = &PositionsOver(split.axes);
    SLUICE_ASSIGN_OR_RETURN(
        c.deals[dim], In(DealDim(split, tensor.shape[dim], count), where));
  }
  return c;
}

absl::Status ResolvedLayout::MakeClasses() {
  using Key = std::tuple<size_t, int, int64_t, Shape>;
  absl::flat_hash_map<Key, int32_t> index;
  for (size_t t = 0; t < rule_of_.size(); ++t) {
    const TensorSpec& tensor = model_->tensors[t];
    const LayoutRule& rule = layout_->rules[rule_of_[t]];
    const int64_t stage = rule.stage == StageRule::kByLayer
                              ? StageOfLayer(match_of_[t].layer)
                              : -1;
    const auto [it, inserted] = index.try_emplace(
        Key{rule_of_[t], static_cast<int>(tensor.dtype), stage, tensor.shape},
        static_cast<int32_t>(classes_.size()));
    class_of_.push_back(it->second);
    if (inserted) {
      SLUICE_ASSIGN_OR_RETURN(ResolvedClass c, MakeClass(tensor, rule, stage));
      classes_.push_back(std::move(c));
    }
    classes_[static_cast<size_t>(it->second)].tensors.push_back(
        TensorIndex(static_cast<int32_t>(t)));
  }
  return absl::OkStatus();
}

bool ResolvedLayout::StageHolds(const LayoutRule& rule, int64_t layer_stage,
                                int64_t stage) const {
  switch (rule.stage) {
    case StageRule::kAll:
      return true;
    case StageRule::kByLayer:
      return layer_stage == stage;
    case StageRule::kFirst:
      return stage == 0;
    case StageRule::kLast:
      return stage == num_stages_ - 1;
    case StageRule::kFirstAndLast:
      return stage == 0 || stage == num_stages_ - 1;
  }
  return false;
}

bool ResolvedLayout::OnStage(const ResolvedClass& c, int64_t mesh_index) const {
  return StageHolds(*c.rule, c.stage,
                    stage_of_index_[static_cast<size_t>(mesh_index)]);
}

const std::vector<ParamPattern>& ResolvedLayout::PatternsOf(
    int64_t mesh_index) const {
  return stage_patterns_[static_cast<size_t>(
      stage_of_index_[static_cast<size_t>(mesh_index)])];
}

absl::StatusOr<std::string> ResolvedLayout::LocalName(TensorIndex tensor,
                                                      int64_t stage) const {
  const auto t = static_cast<size_t>(tensor.value());
  const LayoutRule& rule = layout_->rules[rule_of_[t]];
  const bool last =
      !rule.last_stage_name.empty() && stage > 0 && stage == num_stages_ - 1;
  const std::string& name = last ? rule.last_stage_name : rule.local_name;
  if (name.empty()) return model_->tensors[t].name;
  const NameMatch& match = match_of_[t];
  const int64_t first = rule.stage == StageRule::kByLayer
                            ? layers_[static_cast<size_t>(stage)].lo
                            : 0;
  SLUICE_ASSIGN_OR_RETURN(
      std::string expanded,
      In(ExpandName(name, match.layer < 0 ? -1 : match.layer - first,
                    match.layer, match.expert),
         Describe(rule)));
  return expanded;
}

absl::Status ResolvedLayout::CheckFused(
    const std::string& name, int64_t stage,
    const std::vector<TensorIndex>& members) const {
  const auto rule_of = [this](TensorIndex t) -> const LayoutRule& {
    return layout_->rules[rule_of_[static_cast<size_t>(t.value())]];
  };
  const LayoutRule& first = rule_of(members[0]);
  const TensorSpec& one = model_->tensor(members[0]);
  for (size_t m = 0; m < members.size(); ++m) {
    const LayoutRule& rule = rule_of(members[m]);
    const TensorSpec& tensor = model_->tensor(members[m]);
    std::string why;
    if (m > 0 && (rule.fuse_index < 0 ||
                  rule.fuse_index == rule_of(members[m - 1]).fuse_index)) {
      why = "both make it, and are not fused or have the same fuse_index";
    } else if (rule.fuse_dim != first.fuse_dim ||
               rule.interleave != first.interleave) {
      why = "fuse_dim or interleave differs";
    } else if (tensor.dtype != one.dtype ||
               tensor.shape.size() != one.shape.size()) {
      why = "dtype or number of dimensions differs";
    } else if (rule.fuse_index >= 0 &&
               static_cast<size_t>(rule.fuse_dim) >= tensor.shape.size()) {
      why = absl::StrCat("fuse_dim ", rule.fuse_dim, " is not below ",
                         tensor.shape.size());
    } else if (rule.interleave != 0 &&
               tensor.shape[static_cast<size_t>(rule.fuse_dim)] %
                       rule.interleave !=
                   0) {
      why = absl::StrCat("dimension ", rule.fuse_dim, " is no multiple of ",
                         rule.interleave, " groups");
    }
    if (!why.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "local parameter \"", name, "\" on stage ", stage, ": tensors \"",
          one.name, "\" (", Describe(first), ") and \"", tensor.name, "\" (",
          Describe(rule), "): ", why));
    }
  }
  return absl::OkStatus();
}

absl::Status ResolvedLayout::MakePatterns() {
  stage_patterns_.resize(static_cast<size_t>(num_stages_));
  for (int64_t stage = 0; stage < num_stages_; ++stage) {
    SLUICE_RETURN_IF_ERROR(MakePatternsOfStage(stage));
  }
  return absl::OkStatus();
}

absl::Status ResolvedLayout::MakePatternsOfStage(int64_t stage) {
  // 1. Which tensors make which parameter, in order of first appearance.
  absl::flat_hash_map<std::string, size_t> index;
  std::vector<ParamPattern::Instance> params;
  for (const ResolvedClass& c : classes_) {
    if (!StageHolds(*c.rule, c.stage, stage)) continue;
    for (const TensorIndex tensor : c.tensors) {
      SLUICE_ASSIGN_OR_RETURN(std::string name, LocalName(tensor, stage));
      const auto [it, inserted] = index.try_emplace(name, params.size());
      if (inserted) params.push_back({std::move(name), {}});
      params[it->second].members.push_back(tensor);
    }
  }
  // 2. Members in fuse order; parameters of equal member classes together.
  const auto class_of = [this](TensorIndex t) {
    return class_of_[static_cast<size_t>(t.value())];
  };
  const auto fuse_index = [&](TensorIndex t) {
    return classes_[static_cast<size_t>(class_of(t))].rule->fuse_index;
  };
  std::vector<ParamPattern>& patterns =
      stage_patterns_[static_cast<size_t>(stage)];
  absl::flat_hash_map<std::vector<int32_t>, size_t> pattern_index;
  for (ParamPattern::Instance& param : params) {
    std::stable_sort(param.members.begin(), param.members.end(),
                     [&](TensorIndex a, TensorIndex b) {
                       return fuse_index(a) < fuse_index(b);
                     });
    SLUICE_RETURN_IF_ERROR(CheckFused(param.name, stage, param.members));
    std::vector<int32_t> key;
    for (const TensorIndex t : param.members) key.push_back(class_of(t));
    const auto [it, inserted] = pattern_index.try_emplace(key, patterns.size());
    if (inserted) patterns.push_back({std::move(key), {}});
    patterns[it->second].instances.push_back(std::move(param));
  }
  return absl::OkStatus();
}

}  // namespace sluice
