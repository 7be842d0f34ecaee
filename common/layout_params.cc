// Which tensors make which local parameter, and which parameters are alike.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/layout_resolve.h"
#include "common/status_macros.h"

namespace sluice {

absl::StatusOr<std::string> ResolvedLayout::LocalName(TensorIndex tensor,
                                                      int64_t stage,
                                                      int64_t slot) const {
  const auto t = static_cast<size_t>(tensor.value());
  const LayoutRule& rule = RuleOf(tensor);
  const bool last = !rule.last_stage_name.empty() && stage > 0 &&
                    stage == stages_.num_stages() - 1;
  const std::string& name = last ? rule.last_stage_name : rule.local_name;
  if (name.empty()) return model_->tensors[t].name;
  NameNumbers numbers;
  numbers.global_layer = match_of_[t].layer;
  numbers.layer = match_of_[t].layer;
  numbers.expert = match_of_[t].expert;
  if (numbers.expert >= 0) numbers.local_expert = slot;
  if (rule.stage == StageRule::kByLayer) {
    const LayerPlace place = stages_.PlaceOf(match_of_[t].layer);
    numbers.layer = place.layer;
    numbers.chunk = place.chunk;
    numbers.chunk_layer = place.chunk_layer;
  }
  absl::StatusOr<std::string> expanded = ExpandName(name, numbers);
  if (expanded.ok()) return expanded;
  return Annotate(expanded.status(),
                  absl::StrCat("rule \"", rule.pattern, "\""));
}

absl::Status ResolvedLayout::NameTensor(const ResolvedClass& c,
                                        TensorIndex tensor, int64_t stage) {
  const AxisPositions& at = *c.expert_positions;
  std::vector<Cell>& cells = cells_.at(&at);
  for (const ExpertPlace& place :
       *places_of_[static_cast<size_t>(tensor.value())]) {
    SLUICE_ASSIGN_OR_RETURN(std::string name,
                            LocalName(tensor, stage, place.slot));
    if (!list_of_name_.empty()) {
      const auto it =
          list_of_name_[static_cast<size_t>(stage)].try_emplace(name, &at);
      if (it.first->second != &at) {
        return absl::InvalidArgumentError(absl::StrCat(
            "local parameter \"", name, "\" on stage ", stage, ": rule \"",
            c.rule->pattern,
            "\" and another both make it, but deal experts over different "
            "axes"));
      }
    }
    Cell& cell = cells[CellIndex(stage, at, place.position)];
    const auto [it, inserted] =
        cell.param_of_name.try_emplace(name, cell.params.size());
    if (inserted) cell.params.push_back({std::move(name), {}});
    cell.params[it->second].members.push_back({tensor, place.slot});
  }
  return absl::OkStatus();
}

absl::Status ResolvedLayout::NameParams() {
  if (cell_lists_.size() > 1) {
    list_of_name_.resize(static_cast<size_t>(stages_.num_stages()));
  }
  for (const ResolvedClass& c : classes_) {
    for (const int64_t stage : StagesOf(*c.rule, c.stage)) {
      for (const TensorIndex tensor : c.tensors) {
        SLUICE_RETURN_IF_ERROR(NameTensor(c, tensor, stage));
      }
    }
  }
  list_of_name_.clear();
  return absl::OkStatus();
}

// Whether two tensors fit side by side in one parameter.
std::string ResolvedLayout::FaultOfFused(TensorIndex tensor,
                                         TensorIndex first) const {
  const LayoutRule& rule = RuleOf(tensor);
  const LayoutRule& first_rule = RuleOf(first);
  const Shape& shape = model_->tensor(tensor).shape;
  if (rule.fuse_dim != first_rule.fuse_dim ||
      rule.interleave != first_rule.interleave ||
      rule.dim_order != first_rule.dim_order ||
      rule.experts.stacked != first_rule.experts.stacked) {
    return "fuse_dim, interleave, dim_order or stacked differs";
  }
  if (HeldDType(tensor) != HeldDType(first) ||
      shape.size() != model_->tensor(first).shape.size()) {
    return "dtype or number of dimensions differs";
  }
  if (rule.fuse_index >= 0 &&
      static_cast<size_t>(rule.fuse_dim) >= shape.size()) {
    return absl::StrCat("fuse_dim ", rule.fuse_dim, " is not below ",
                        shape.size());
  }
  if (rule.interleave != 0 &&
      shape[static_cast<size_t>(rule.fuse_dim)] % rule.interleave != 0) {
    return absl::StrCat("dimension ", rule.fuse_dim, " is no multiple of ",
                        rule.interleave, " groups");
  }
  return "";
}

// What is wrong with member m, of slices of `slice` members; "" = nothing.
std::string ResolvedLayout::FaultOfMember(const Cell::Param& param, size_t m,
                                          size_t slice) const {
  const Cell::Member& member = param.members[m];
  const TensorIndex first = param.members[0].tensor;
  const LayoutRule& rule = RuleOf(member.tensor);
  if (rule.flat.axes != RuleOf(first).flat.axes ||
      rule.flat.unit != RuleOf(first).flat.unit) {
    return "flat differs";
  }
  if (!rule.flat.axes.empty()) {
    return HeldDType(member.tensor) == HeldDType(first) ? "" : "dtype differs";
  }
  std::string fault = FaultOfFused(member.tensor, first);
  if (!fault.empty()) return fault;
  if (m % slice > 0) {
    const LayoutRule& previous = RuleOf(param.members[m - 1].tensor);
    if (rule.fuse_index < 0 || rule.fuse_index == previous.fuse_index) {
      return "both make it, and are not fused or have the same fuse_index";
    }
  }
  if (!rule.experts.stacked) return "";
  // Slices are alike: the same rules with the same shapes, none missing.
  const Cell::Member& like = param.members[m % slice];
  if (static_cast<size_t>(member.slot) != m / slice) {
    return absl::StrCat("a slice is missing or has other members: found slot ",
                        member.slot, ", expected ", m / slice);
  }
  if (&rule != &RuleOf(like.tensor) || model_->tensor(member.tensor).shape !=
                                           model_->tensor(like.tensor).shape) {
    return "slices differ by rule or shape";
  }
  return "";
}

absl::Status ResolvedLayout::CheckMembers(const Cell::Param& param,
                                          int64_t stage) const {
  size_t slice = param.members.size();
  if (RuleOf(param.members[0].tensor).experts.stacked) {
    slice = 1;
    while (slice < param.members.size() &&
           param.members[slice].slot == param.members[0].slot) {
      ++slice;
    }
  }
  for (size_t m = 0; m < param.members.size(); ++m) {
    const std::string fault = FaultOfMember(param, m, slice);
    if (fault.empty() &&
        (m + 1 < param.members.size() || param.members.size() % slice == 0)) {
      continue;
    }
    const TensorIndex one = param.members[m == 0 ? 0 : m - 1].tensor;
    const TensorIndex other = param.members[m].tensor;
    return absl::InvalidArgumentError(absl::StrCat(
        "local parameter \"", param.name, "\" on stage ", stage, ": tensors \"",
        model_->tensor(one).name, "\" (rule \"", RuleOf(one).pattern,
        "\") and \"", model_->tensor(other).name, "\" (rule \"",
        RuleOf(other).pattern,
        "\"): ", fault.empty() ? "the last slice has members missing" : fault));
  }
  return absl::OkStatus();
}

absl::Status ResolvedLayout::SortAndCheckMembers() {
  for (const AxisPositions* at : cell_lists_) {
    std::vector<Cell>& cells = cells_.at(at);
    for (size_t index = 0; index < cells.size(); ++index) {
      Cell& cell = cells[index];
      cell.param_of_name.clear();
      for (Cell::Param& param : cell.params) {
        const bool stacked = RuleOf(param.members[0].tensor).experts.stacked;
        std::stable_sort(param.members.begin(), param.members.end(),
                         [&](const Cell::Member& a, const Cell::Member& b) {
                           if (stacked && a.slot != b.slot)
                             return a.slot < b.slot;
                           const int one = RuleOf(a.tensor).fuse_index;
                           const int other = RuleOf(b.tensor).fuse_index;
                           return one != other ? one < other
                                               : a.tensor < b.tensor;
                         });
        SLUICE_RETURN_IF_ERROR(
            CheckMembers(param, static_cast<int64_t>(index) / at->count));
      }
    }
  }
  return absl::OkStatus();
}

namespace {

void AddOnce(const AxisPositions* at, std::vector<const AxisPositions*>& out) {
  if (at != nullptr && std::find(out.begin(), out.end(), at) == out.end()) {
    out.push_back(at);
  }
}

// What the looks of a parameter of these classes depend on.
std::vector<const AxisPositions*> DependsOn(
    const std::vector<ResolvedClass>& classes,
    const std::vector<int32_t>& members) {
  std::vector<const AxisPositions*> out;
  const auto add = [&out](const ResolvedClass& c) {
    for (const AxisPositions* at : c.positions) AddOnce(at, out);
  };
  for (const int32_t member : members) {
    const ResolvedClass& c = classes[static_cast<size_t>(member)];
    add(c);
    if (c.unit != nullptr) AddOnce(c.unit->positions, out);
  }
  return out;
}

}  // namespace

void ResolvedLayout::MakePatterns() {
  for (const AxisPositions* at : cell_lists_) {
    for (Cell& cell : cells_.at(at)) {
      absl::flat_hash_map<std::vector<int32_t>, size_t> index;
      for (Cell::Param& param : cell.params) {
        std::vector<int32_t> key;
        ParamPattern::Instance instance{std::move(param.name), {}};
        for (const Cell::Member& member : param.members) {
          key.push_back(class_of_[static_cast<size_t>(member.tensor.value())]);
          instance.members.push_back(member.tensor);
        }
        const auto [it, inserted] =
            index.try_emplace(key, cell.patterns.size());
        if (inserted) {
          ParamPattern& pattern = cell.patterns.emplace_back();
          if (RuleOf(param.members[0].tensor).experts.stacked) {
            pattern.slots = static_cast<size_t>(param.members.back().slot) + 1;
          }
          pattern.depends_on = DependsOn(classes_, key);
          pattern.classes = std::move(key);
        }
        cell.patterns[it->second].instances.push_back(std::move(instance));
      }
      cell.params.clear();
    }
  }
}

}  // namespace sluice
