// Tensors that are flattened and joined: where each begins on each agent.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/layout_resolve.h"

namespace sluice {
namespace {

// The number of elements that the splits leave an agent.
int64_t ElementsOn(const ResolvedClass& c, int64_t mesh_index) {
  int64_t elements = 1;
  for (const int64_t extent : c.LocalShape(mesh_index)) elements *= extent;
  return elements;
}

FlatUnit::Variant MakeVariant(const std::vector<const ResolvedClass*>& members,
                              const FlatRule& rule, int64_t positions,
                              int64_t mesh_index) {
  FlatUnit::Variant out;
  int64_t total = 0;
  for (const ResolvedClass* member : members) {
    out.starts.push_back(total);
    total += ElementsOn(*member, mesh_index);
  }
  out.starts.push_back(total);
  const int64_t range = total / positions + (total % positions != 0 ? 1 : 0);
  const int64_t odd = range % rule.unit;
  out.range = odd == 0 ? range : range + (rule.unit - odd);
  return out;
}

}  // namespace

int32_t ResolvedLayout::FindFlatUnit(const std::vector<int32_t>& members) {
  const auto [it, inserted] = unit_of_members_.try_emplace(
      members, static_cast<int32_t>(units_.size()));
  if (!inserted) return it->second;
  auto unit = std::make_unique<FlatUnit>();
  unit->members = members;
  std::vector<const ResolvedClass*> classes;
  std::vector<const AxisPositions*> split_over;
  for (const int32_t member : members) {
    classes.push_back(&classes_[static_cast<size_t>(member)]);
    for (const AxisPositions* at : classes.back()->positions) {
      if (at != nullptr && std::find(split_over.begin(), split_over.end(),
                                     at) == split_over.end()) {
        split_over.push_back(at);
      }
    }
  }
  const FlatRule& rule = classes[0]->rule->flat;
  unit->positions = &PositionsOver(rule.axes);
  std::map<std::vector<int64_t>, int32_t> variants;
  for (int64_t i = 0; i < mesh_->size(); ++i) {
    std::vector<int64_t> key;
    for (const AxisPositions* at : split_over) key.push_back(at->Of(i));
    const auto variant = variants.try_emplace(
        std::move(key), static_cast<int32_t>(unit->variants.size()));
    if (variant.second) {
      unit->variants.push_back(
          MakeVariant(classes, rule, unit->positions->count, i));
    }
    unit->variant_of_index.push_back(variant.first->second);
  }
  units_.push_back(std::move(unit));
  return it->second;
}

absl::Status ResolvedLayout::MakeFlatUnits() {
  if (std::none_of(
          layout_->rules.begin(), layout_->rules.end(),
          [](const LayoutRule& rule) { return !rule.flat.axes.empty(); })) {
    return absl::OkStatus();
  }
  const std::pair<int32_t, size_t> none(-1, 0);
  std::vector<std::pair<int32_t, size_t>> place_of_tensor(rule_of_.size(),
                                                          none);
  for (const AxisPositions* at : cell_lists_) {
    for (const Cell& cell : cells_.at(at)) {
      for (const Cell::Param& param : cell.params) {
        if (RuleOf(param.members[0].tensor).flat.axes.empty()) continue;
        std::vector<int32_t> members;
        for (const Cell::Member& member : param.members) {
          members.push_back(
              class_of_[static_cast<size_t>(member.tensor.value())]);
        }
        const int32_t unit = FindFlatUnit(members);
        for (size_t m = 0; m < members.size(); ++m) {
          const TensorIndex tensor = param.members[m].tensor;
          auto& place = place_of_tensor[static_cast<size_t>(tensor.value())];
          if (place == none) place = {unit, m};
          if (place == std::make_pair(unit, m)) continue;
          return absl::InvalidArgumentError(absl::StrCat(
              "flat parameter \"", param.name, "\": tensor \"",
              model_->tensor(tensor).name,
              "\" lies with others elsewhere: expected the same tensors on "
              "all its stages and expert positions"));
        }
      }
    }
  }
  SplitClassesByUnit(place_of_tensor);
  return absl::OkStatus();
}

// A class becomes one per place in a unit.
void ResolvedLayout::SplitClassesByUnit(
    const std::vector<std::pair<int32_t, size_t>>& place_of_tensor) {
  std::vector<ResolvedClass> classes;
  std::map<std::pair<int32_t, std::pair<int32_t, size_t>>, int32_t> index;
  for (size_t t = 0; t < class_of_.size(); ++t) {
    const auto [it, inserted] =
        index.try_emplace({class_of_[t], place_of_tensor[t]},
                          static_cast<int32_t>(classes.size()));
    if (inserted) {
      ResolvedClass c = classes_[static_cast<size_t>(class_of_[t])];
      c.tensors.clear();
      const auto [unit, member] = place_of_tensor[t];
      if (unit >= 0) {
        c.unit = units_[static_cast<size_t>(unit)].get();
        c.member = member;
      }
      classes.push_back(std::move(c));
    }
    class_of_[t] = it->second;
    classes[static_cast<size_t>(it->second)].tensors.push_back(
        TensorIndex(static_cast<int32_t>(t)));
  }
  classes_ = std::move(classes);
}

}  // namespace sluice
