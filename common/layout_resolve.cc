#include "common/layout_resolve.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "common/dtype_conversion.h"
#include "common/layout_flat.h"
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

bool NamesAxisTwice(const std::vector<std::string>& axes) {
  return absl::flat_hash_set<std::string>(axes.begin(), axes.end()).size() !=
         axes.size();
}

std::string FaultOfSplit(const LayoutRule& rule, const DimSplit& split) {
  if (split.axes.empty() || NamesAxisTwice(split.axes)) {
    return absl::StrCat("split of dimension ", split.dim,
                        " names no axis, or one twice");
  }
  if (split.dim == rule.fuse_dim && rule.interleave != 0 &&
      (split.pad_units != 0 || !split.parts.empty())) {
    return "interleave excludes pad_units and parts";
  }
  if (!rule.flat.axes.empty() &&
      (split.pad_units != 0 || !split.parts.empty())) {
    return "flat excludes pad_units and parts";
  }
  return "";
}

std::string FaultOfExperts(const LayoutRule& rule, const NamePattern& pattern) {
  const ExpertRule& experts = rule.experts;
  if ((!experts.axes.empty() || experts.stacked) && !pattern.has_expert()) {
    return "experts, but the pattern has no {expert}";
  }
  if (experts.axes.empty() && !experts.sizes.empty()) {
    return "experts: sizes without axes";
  }
  if (NamesAxisTwice(experts.axes)) return "experts: an axis is named twice";
  return "";
}

std::string FaultOfFlat(const LayoutRule& rule) {
  // Positions times it is far from overflowing.
  if (rule.flat.unit < 1 || rule.flat.unit > (int64_t{1} << 32)) {
    return "flat: unit is below 1 or above 2^32";
  }
  if (rule.flat.axes.empty()) {
    return rule.flat.unit == 1 ? "" : "flat: unit without axes";
  }
  if (NamesAxisTwice(rule.flat.axes)) return "flat: an axis is named twice";
  if (rule.interleave != 0 || rule.experts.stacked || !rule.dim_order.empty()) {
    return "flat excludes interleave, stacked experts and dim_order";
  }
  return "";
}

std::string FaultOfOrder(const LayoutRule& rule) {
  std::vector<int> sorted = rule.dim_order;
  std::sort(sorted.begin(), sorted.end());
  for (size_t d = 0; d < sorted.size(); ++d) {
    if (sorted[d] != static_cast<int>(d)) {
      return "dim_order: expected each dimension once";
    }
  }
  return "";
}

std::string FaultOf(const LayoutRule& rule, const NamePattern& pattern) {
  if (rule.stage == StageRule::kByLayer && !pattern.has_layer()) {
    return "stage by layer, but the pattern has no {layer}";
  }
  if (!rule.last_stage_name.empty() && rule.stage != StageRule::kFirstAndLast) {
    return "last_stage_name is for stage first_and_last only";
  }
  if (rule.fuse_index < -1 || rule.fuse_dim < 0 || rule.interleave < 0) {
    return "fuse_index, fuse_dim or interleave is negative";
  }
  if (rule.interleave != 0 && rule.fuse_index < 0) {
    return "interleave without fuse_index";
  }
  absl::flat_hash_set<int> dims;
  for (const DimSplit& split : rule.splits) {
    if (split.dim < 0 || !dims.insert(split.dim).second) {
      return absl::StrCat("dimension ", split.dim,
                          " is negative or split twice");
    }
    std::string fault = FaultOfSplit(rule, split);
    if (!fault.empty()) return fault;
  }
  for (std::string fault :
       {FaultOfExperts(rule, pattern), FaultOfFlat(rule), FaultOfOrder(rule)}) {
    if (!fault.empty()) return fault;
  }
  return "";
}

}  // namespace

absl::Span<const Interval> ResolvedClass::Held(int d,
                                               int64_t mesh_index) const {
  const auto dim = static_cast<size_t>(d);
  return deals[dim]->HeldBy(positions[dim]->Of(mesh_index));
}

int64_t ResolvedClass::LocalExtent(int d, int64_t mesh_index) const {
  const auto dim = static_cast<size_t>(d);
  if (!deals[dim].has_value()) return shape[dim];
  return deals[dim]->LocalExtent(positions[dim]->Of(mesh_index));
}

Shape ResolvedClass::LocalShape(int64_t mesh_index) const {
  Shape out;
  for (int d = 0; d < static_cast<int>(shape.size()); ++d) {
    out.push_back(LocalExtent(d, mesh_index));
  }
  return out;
}

std::vector<LocalPiece> ResolvedClass::SplitPieces(int64_t mesh_index) const {
  std::vector<LocalPiece> pieces(1);
  std::vector<std::vector<Interval>> dims(1);
  for (int d = 0; d < static_cast<int>(shape.size()); ++d) {
    const auto dim = static_cast<size_t>(d);
    const Interval whole{0, shape[dim]};
    const absl::Span<const Interval> held =
        deals[dim].has_value() ? Held(d, mesh_index)
                               : absl::MakeConstSpan(&whole, 1);
    std::vector<std::vector<Interval>> next_dims;
    std::vector<LocalPiece> next;
    for (size_t p = 0; p < pieces.size(); ++p) {
      int64_t at = 0;
      for (const Interval& part : held) {
        if (part.empty()) continue;
        next_dims.push_back(dims[p]);
        next_dims.back().push_back(part);
        next.push_back(pieces[p]);
        next.back().at.push_back(at);
        at += part.size();
      }
    }
    pieces = std::move(next);
    dims = std::move(next_dims);
  }
  for (size_t p = 0; p < pieces.size(); ++p) {
    pieces[p].box = Box(std::move(dims[p]));
  }
  return pieces;
}

std::vector<LocalPiece> ResolvedClass::PiecesOn(int64_t mesh_index) const {
  std::vector<LocalPiece> split = SplitPieces(mesh_index);
  if (unit == nullptr || split.empty()) return split;
  const FlatUnit::Variant& on = unit->On(mesh_index);
  const int64_t begin = unit->positions->Of(mesh_index) * on.range;
  const int64_t start = on.starts[member];
  const int64_t end = on.starts[member + 1];
  const Interval mine{std::max(begin, start) - start,
                      std::min(begin + on.range, end) - start};
  const Box& region = split[0].box;  // flat rules leave one
  std::vector<LocalPiece> out;
  for (FlatPiece& piece : CutFlatRange(region.shape(), mine)) {
    for (int d = 0; d < region.rank(); ++d) {
      piece.box.dim(d).lo += region.dim(d).lo;
      piece.box.dim(d).hi += region.dim(d).lo;
    }
    out.push_back({std::move(piece.box), {start + piece.begin - begin}});
  }
  return out;
}

absl::StatusOr<ResolvedLayout> ResolvedLayout::Create(const ModelSpec& model,
                                                      const Layout& layout,
                                                      const Mesh& mesh) {
  SLUICE_ASSIGN_OR_RETURN(LayoutAxes axes, LayoutAxes::Create(layout, mesh));
  ResolvedLayout out(model, layout, mesh, std::move(axes));
  SLUICE_RETURN_IF_ERROR(out.CheckAxes());
  SLUICE_RETURN_IF_ERROR(out.ParseRules());
  SLUICE_RETURN_IF_ERROR(out.MatchTensors());
  SLUICE_RETURN_IF_ERROR(out.DealLayers());
  SLUICE_RETURN_IF_ERROR(out.PlaceExperts());
  SLUICE_RETURN_IF_ERROR(out.MakeClasses());
  out.MakeCells();
  SLUICE_RETURN_IF_ERROR(out.NameParams());
  SLUICE_RETURN_IF_ERROR(out.SortAndCheckMembers());
  SLUICE_RETURN_IF_ERROR(out.MakeFlatUnits());
  out.MakePatterns();
  return out;
}

absl::Status ResolvedLayout::CheckAxes() const {
  const auto check = [this](const std::string& axis, absl::string_view user) {
    return axes_.Require(
        axis, absl::StrCat("layout \"", layout_->name, "\", ", user));
  };
  if (!layout_->stage_axis.empty()) {
    SLUICE_RETURN_IF_ERROR(check(layout_->stage_axis, "stage axis"));
  }
  for (const std::string& axis : layout_->replica_axes) {
    SLUICE_RETURN_IF_ERROR(check(axis, "replica axes"));
  }
  for (const LayoutRule& rule : layout_->rules) {
    std::vector<std::string> used = rule.experts.axes;
    used.insert(used.end(), rule.flat.axes.begin(), rule.flat.axes.end());
    for (const DimSplit& split : rule.splits) {
      used.insert(used.end(), split.axes.begin(), split.axes.end());
    }
    for (const std::string& axis : used) {
      SLUICE_RETURN_IF_ERROR(check(axis, Describe(rule)));
    }
  }
  return absl::OkStatus();
}

absl::Status ResolvedLayout::ParseRules() {
  for (const LayoutRule& rule : layout_->rules) {
    SLUICE_ASSIGN_OR_RETURN(NamePattern pattern,
                            NamePattern::Parse(rule.pattern));
    const std::string fault = FaultOf(rule, pattern);
    if (!fault.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(Describe(rule), ": ", fault));
    }
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
  const int64_t num_stages = axes_.CountOver({layout_->stage_axis});
  for (int64_t i = 0; i < mesh_->size(); ++i) {
    stage_of_index_.push_back(axes_.PositionOver(i, {layout_->stage_axis}));
  }
  int64_t num_layers = 0;
  for (size_t t = 0; t < rule_of_.size(); ++t) {
    if (layout_->rules[rule_of_[t]].stage != StageRule::kByLayer) continue;
    num_layers = std::max(num_layers, match_of_[t].layer + 1);
  }
  SLUICE_ASSIGN_OR_RETURN(stages_,
                          StageDeal::Create(*layout_, num_layers, num_stages));
  return absl::OkStatus();
}

absl::Status ResolvedLayout::PlaceExperts() {
  static const auto* const kEverywhere =
      new std::vector<ExpertPlace>{ExpertPlace{}};
  std::vector<int64_t> num_experts(layout_->rules.size(), 0);
  for (size_t t = 0; t < rule_of_.size(); ++t) {
    num_experts[rule_of_[t]] =
        std::max(num_experts[rule_of_[t]], match_of_[t].expert + 1);
  }
  places_of_.reserve(rule_of_.size());
  for (size_t t = 0; t < rule_of_.size(); ++t) {
    const size_t r = rule_of_[t];
    const LayoutRule& rule = layout_->rules[r];
    if (!patterns_[r].has_expert()) {
      places_of_.push_back(kEverywhere);
      continue;
    }
    int64_t map = -1;
    if (!rule.experts.axes.empty()) {
      SLUICE_ASSIGN_OR_RETURN(map, FindExpertMap(*layout_, match_of_[t].layer));
    }
    const auto [it, inserted] = expert_deals_.try_emplace({r, map});
    if (inserted) {
      SLUICE_ASSIGN_OR_RETURN(
          it->second,
          In(DealExperts(rule.experts,
                         map < 0
                             ? nullptr
                             : &layout_->expert_maps[static_cast<size_t>(map)],
                         num_experts[r], axes_.CountOver(rule.experts.axes)),
             absl::StrCat("layout \"", layout_->name, "\", ", Describe(rule))));
    }
    places_of_.push_back(
        &it->second.places[static_cast<size_t>(match_of_[t].expert)]);
  }
  return absl::OkStatus();
}

const AxisPositions& ResolvedLayout::PositionsOver(
    const std::vector<std::string>& axes) {
  const auto [it, inserted] = positions_.try_emplace(axes);
  AxisPositions& made = it->second;
  if (inserted) {
    made.count = axes_.CountOver(axes);
    for (int64_t i = 0; i < mesh_->size(); ++i) {
      made.of_index.push_back(axes_.PositionOver(i, axes));
    }
  }
  return made;
}

absl::StatusOr<ResolvedClass> ResolvedLayout::MakeClass(
    const TensorSpec& tensor, const LayoutRule& rule, int64_t stage) {
  ResolvedClass c;
  c.rule = &rule;
  c.shape = tensor.shape;
  c.dtype = rule.dtype == DType::kUnspecified ? tensor.dtype : rule.dtype;
  c.stage = stage;
  c.deals.resize(tensor.shape.size());
  c.positions.resize(tensor.shape.size(), nullptr);
  c.expert_positions = &PositionsOver(rule.experts.axes);
  const std::string where =
      absl::StrCat("tensor \"", tensor.name, "\", ", Describe(rule));
  if (!Convertible(tensor.dtype, c.dtype)) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": there is no conversion from ",
                     DTypeName(tensor.dtype), " to ", DTypeName(c.dtype)));
  }
  if (!rule.dim_order.empty() && rule.dim_order.size() != c.shape.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": dim_order has ", rule.dim_order.size(),
                     " dimensions: expected ", c.shape.size()));
  }
  for (const DimSplit& split : rule.splits) {
    const auto dim = static_cast<size_t>(split.dim);
    if (dim >= tensor.shape.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": split of dimension ", split.dim,
                       ": expected below ", tensor.shape.size()));
    }
    c.positions[dim] = &PositionsOver(split.axes);
    SLUICE_ASSIGN_OR_RETURN(
        c.deals[dim],
        In(DealDim(split, tensor.shape[dim], c.positions[dim]->count), where));
  }
  return c;
}

absl::Status ResolvedLayout::MakeClasses() {
  // Classes differ by homes: the lists of positions, numbered.
  using Key = std::tuple<size_t, int, int64_t, Shape, std::vector<int64_t>>;
  absl::flat_hash_map<Key, int32_t> index;
  for (size_t t = 0; t < rule_of_.size(); ++t) {
    const TensorSpec& tensor = model_->tensors[t];
    const LayoutRule& rule = layout_->rules[rule_of_[t]];
    const int64_t stage = rule.stage == StageRule::kByLayer
                              ? stages_.PlaceOf(match_of_[t].layer).stage
                              : -1;
    std::vector<int64_t> homes;
    for (const ExpertPlace& place : *places_of_[t]) {
      homes.push_back(place.position);
    }
    const auto [it, inserted] =
        index.try_emplace(Key{rule_of_[t], static_cast<int>(tensor.dtype),
                              stage, tensor.shape, homes},
                          static_cast<int32_t>(classes_.size()));
    class_of_.push_back(it->second);
    if (inserted) {
      SLUICE_ASSIGN_OR_RETURN(ResolvedClass c, MakeClass(tensor, rule, stage));
      c.homes = std::move(homes);
      classes_.push_back(std::move(c));
    }
    classes_[static_cast<size_t>(it->second)].tensors.push_back(
        TensorIndex(static_cast<int32_t>(t)));
  }
  return absl::OkStatus();
}

std::vector<int64_t> ResolvedLayout::StagesOf(const LayoutRule& rule,
                                              int64_t layer_stage) const {
  const int64_t last = stages_.num_stages() - 1;
  switch (rule.stage) {
    case StageRule::kByLayer:
      return {layer_stage};
    case StageRule::kFirst:
      return {0};
    case StageRule::kLast:
      return {last};
    case StageRule::kFirstAndLast:
      if (last == 0) return {0};
      return {0, last};
    case StageRule::kAll:
      break;
  }
  std::vector<int64_t> all;
  for (int64_t s = 0; s <= last; ++s) all.push_back(s);
  return all;
}

void ResolvedLayout::MakeCells() {
  for (const ResolvedClass& c : classes_) {
    const AxisPositions& at = *c.expert_positions;
    const auto [it, inserted] = cells_.try_emplace(&at);
    if (!inserted) continue;
    cell_lists_.push_back(&at);
    it->second.resize(static_cast<size_t>(stages_.num_stages() * at.count));
    for (int64_t i = 0; i < mesh_->size(); ++i) {
      const int64_t stage = stage_of_index_[static_cast<size_t>(i)];
      it->second[CellIndex(stage, at, at.Of(i))].mesh_indices.push_back(i);
    }
  }
}

std::vector<int64_t> ResolvedLayout::HoldersOf(const ResolvedClass& c) const {
  const AxisPositions& at = *c.expert_positions;
  const std::vector<Cell>& cells = cells_.at(&at);
  std::vector<int64_t> out;
  for (const int64_t stage : StagesOf(*c.rule, c.stage)) {
    for (const int64_t home : c.homes) {
      const Cell& cell = cells[CellIndex(stage, at, home)];
      out.insert(out.end(), cell.mesh_indices.begin(), cell.mesh_indices.end());
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::vector<const std::vector<ParamPattern>*> ResolvedLayout::PatternsOf(
    int64_t mesh_index) const {
  std::vector<const std::vector<ParamPattern>*> out;
  const int64_t stage = stage_of_index_[static_cast<size_t>(mesh_index)];
  for (const AxisPositions* at : cell_lists_) {
    out.push_back(
        &cells_.at(at)[CellIndex(stage, *at, at->Of(mesh_index))].patterns);
  }
  return out;
}

}  // namespace sluice
