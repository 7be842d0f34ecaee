#include "tests/property/layout_oracle.h"

#include <algorithm>
#include <stdexcept>

namespace sluice::testing {
namespace {

// Does position p of P hold unit u of n?
bool PositionHoldsUnit(const DimSplit& split, int64_t n, int64_t unit,
                       int64_t p, int64_t positions) {
  if (!split.sizes.empty()) {
    int64_t before = 0;
    for (int64_t i = 0; i < p; ++i) before += split.sizes[i];
    return unit >= before && unit < before + split.sizes[p];
  }
  if (split.driver_units != 0) {
    // Some driver of this position uses the unit: driver d uses every unit
    // that shares a part of [d/D, (d+1)/D) with [unit/n, (unit+1)/n).
    const int64_t drivers = split.driver_units;
    const int64_t block = (drivers + positions - 1) / positions;
    for (int64_t d = 0; d < drivers; ++d) {
      if (d / block == p && d * n < (unit + 1) * drivers &&
          unit * drivers < (d + 1) * n) {
        return true;
      }
    }
    return false;
  }
  int64_t total = n;
  if (split.pad_units != 0) {
    while (total % (split.pad_units * positions) != 0) ++total;
  }
  return unit / ((total + positions - 1) / positions) == p;
}

// Does it hold element e of a dimension of n elements?
bool PositionHolds(const DimSplit& split, int64_t n, int64_t e, int64_t p,
                   int64_t positions) {
  for (const int64_t part : split.parts) {
    if (e < part) {
      n = part;
      break;
    }
    e -= part;
  }
  return PositionHoldsUnit(split, n / split.unit, e / split.unit, p, positions);
}

int64_t CoordinateOnMesh(const Mesh& mesh, int64_t index,
                         const std::string& axis) {
  int64_t inner = 1;
  for (size_t a = mesh.axes.size(); a-- > 0;) {
    if (mesh.axes[a].name == axis) return index / inner % mesh.axes[a].size;
    inner *= mesh.axes[a].size;
  }
  return 0;
}

// Position and count over axes of the mesh or of its regroups.
std::pair<int64_t, int64_t> Position(const LayoutCase& c, int64_t index,
                                     const std::vector<std::string>& axes) {
  int64_t position = 0;
  int64_t count = 1;
  for (const std::string& name : axes) {
    int64_t size = c.mesh.AxisSize(name);
    int64_t at = CoordinateOnMesh(c.mesh, index, name);
    for (const AxisRegroup& regroup : c.layout.regroups) {
      if (c.mesh.FindAxis(name) >= 0) break;
      // Peel the new axes off the joint position, the last first.
      auto [left, left_count] = Position(c, index, regroup.axes);
      for (size_t i = regroup.into.size(); i-- > 0;) {
        int64_t new_size = regroup.into[i].size;
        if (new_size == 0) {
          new_size = left_count;
          for (size_t j = 0; j < i; ++j) new_size /= regroup.into[j].size;
        }
        if (regroup.into[i].name == name) {
          size = new_size;
          at = left % new_size;
        }
        left /= new_size;
        left_count /= new_size;
      }
    }
    position = position * size + at;
    count *= size;
  }
  return {position, count};
}

struct Cell {
  std::vector<int64_t> key;  // order inside the parameter
  int64_t value;
};

class Oracle {
 public:
  Oracle(const LayoutCase& c, int64_t index) : case_(c), index_(index) {
    for (const TensorSpec& tensor : c.model.tensors) {
      const Name name = Parse(tensor.name);
      if (RuleOf(name).stage == StageRule::kByLayer) {
        layers_ = std::max(layers_, name.layer + 1);
      }
      experts_ = std::max(experts_, name.expert + 1);
    }
    for (size_t t = 0; t < c.model.tensors.size(); ++t) AddTensor(t);
  }

  std::map<std::string, std::vector<int64_t>> Params() {
    std::map<std::string, std::vector<int64_t>> out;
    for (auto& [name, cells] : cells_) {
      std::sort(cells.begin(), cells.end(),
                [](const Cell& a, const Cell& b) { return a.key < b.key; });
      const auto [begin, end] = RangeOf(name, std::ssize(cells));
      for (int64_t i = begin; i < end; ++i) {
        out[name].push_back(cells[static_cast<size_t>(i)].value);
      }
    }
    return out;
  }

 private:
  struct Name {
    std::string pattern;
    int64_t layer = -1;
    int64_t expert = -1;
  };

  static Name Parse(const std::string& name) {
    Name out{name};
    if (name.rfind("rest.", 0) == 0) return {"rest.*"};
    if (name.rfind("layers.", 0) != 0) return out;
    size_t dot = name.find('.', 7);
    out.layer = std::stoll(name.substr(7, dot - 7));
    out.pattern = "layers.{layer}";
    if (name.compare(dot, 3, ".e.") == 0) {
      const size_t end = name.find('.', dot + 3);
      out.expert = std::stoll(name.substr(dot + 3, end - dot - 3));
      out.pattern += ".e.{expert}";
      dot = end;
    }
    out.pattern += name.substr(dot);
    return out;
  }

  const LayoutRule& RuleOf(const Name& name) const {
    for (const LayoutRule& rule : case_.layout.rules) {
      if (rule.pattern == name.pattern) return rule;
    }
    throw std::logic_error("no rule for " + name.pattern);
  }

  int64_t StageOf(int64_t layer) const {
    const int64_t stages = case_.mesh.AxisSize("pipe");
    if (case_.layout.chunk_layers != 0) {
      return layer / case_.layout.chunk_layers % stages;
    }
    if (!case_.layout.stage_layers.empty()) {
      int64_t chunk = 0;
      while (layer >= case_.layout.stage_layers[chunk]) {
        layer -= case_.layout.stage_layers[chunk++];
      }
      return chunk % stages;
    }
    return layer / ((layers_ + stages - 1) / stages);
  }

  // The agent's slot of an expert, or -1; agents get ceil(n/p) slots.
  int64_t SlotOf(const LayoutRule& rule, const Name& name) const {
    std::vector<int64_t> slots;
    for (const ExpertMap& map : case_.layout.expert_maps) {
      if (name.layer >= map.first_layer &&
          name.layer < map.first_layer + map.num_layers) {
        slots = map.slots;
      }
    }
    if (slots.empty() || rule.experts.axes.empty()) {
      slots.clear();
      for (int64_t e = 0; e < experts_; ++e) slots.push_back(e);
    }
    const auto [p, count] = Position(case_, index_, rule.experts.axes);
    const int64_t block = (std::ssize(slots) + count - 1) / count;
    for (int64_t s = 0; s < std::ssize(slots); ++s) {
      if (slots[static_cast<size_t>(s)] == name.expert && s / block == p) {
        return s % block;
      }
    }
    return -1;
  }

  static void Replace(std::string& text, const std::string& from, int64_t to) {
    const size_t at = text.find(from);
    if (at != std::string::npos) {
      text.replace(at, from.size(), std::to_string(to));
    }
  }

  // The name on this agent's stage, or "" if the stage has it not.
  std::string LocalName(const std::string& whole, const Name& name,
                        const LayoutRule& rule, int64_t slot) const {
    const int64_t stages = case_.mesh.AxisSize("pipe");
    const int64_t stage = CoordinateOnMesh(case_.mesh, index_, "pipe");
    if (rule.stage == StageRule::kByLayer) {
      if (StageOf(name.layer) != stage) return "";
      int64_t before = 0;
      for (int64_t l = 0; l < name.layer; ++l) before += StageOf(l) == stage;
      std::string local = rule.local_name;
      Replace(local, "{layer}", before);
      Replace(local, "{local_expert}", slot);
      return local;
    }
    const bool last = stage == stages - 1;
    if (rule.stage == StageRule::kLast) return last ? whole : "";
    if (rule.stage == StageRule::kFirstAndLast) {
      if (stage == 0) return whole;
      return last ? rule.last_stage_name : "";
    }
    return whole;
  }

  // Order: by dimension, but along fuse_dim first by group and member.
  std::vector<int64_t> KeyOf(const LayoutRule& rule, size_t tensor,
                             const std::vector<int64_t>& e,
                             const Shape& shape) const {
    std::vector<int64_t> key;
    if (!rule.flat.axes.empty()) {
      key = {rule.fuse_index, static_cast<int64_t>(tensor)};
      key.insert(key.end(), e.begin(), e.end());
      return key;
    }
    for (size_t i = 0; i < e.size(); ++i) {
      const size_t d =
          rule.dim_order.empty() ? i : static_cast<size_t>(rule.dim_order[i]);
      if (rule.fuse_index >= 0 && static_cast<int>(d) == rule.fuse_dim) {
        key.push_back(
            rule.interleave == 0 ? 0 : e[d] / (shape[d] / rule.interleave));
        key.push_back(rule.fuse_index);
      }
      key.push_back(e[d]);
    }
    return key;
  }

  void AddTensor(size_t t) {
    const TensorSpec& tensor = case_.model.tensors[t];
    const Name name = Parse(tensor.name);
    const LayoutRule& rule = RuleOf(name);
    const int64_t slot = name.expert < 0 ? 0 : SlotOf(rule, name);
    if (slot < 0) return;
    const std::string local = LocalName(tensor.name, name, rule, slot);
    if (local.empty()) return;
    flat_of_[local] = &rule.flat;
    for (int64_t flat = 0; flat < tensor.num_elements(); ++flat) {
      std::vector<int64_t> e(tensor.shape.size());
      int64_t rest = flat;
      for (size_t d = e.size(); d-- > 0;) {
        e[d] = rest % tensor.shape[d];
        rest /= tensor.shape[d];
      }
      bool held = true;
      for (const DimSplit& split : rule.splits) {
        const auto d = static_cast<size_t>(split.dim);
        const auto [p, count] = Position(case_, index_, split.axes);
        held &= PositionHolds(split, tensor.shape[d], e[d], p, count);
      }
      if (!held) continue;
      std::vector<int64_t> key = KeyOf(rule, t, e, tensor.shape);
      if (rule.experts.stacked) key.insert(key.begin(), slot);
      cells_[local].push_back({std::move(key), ElementValue(t, flat)});
    }
  }

  // What the agent keeps of a parameter's elements: its flat range, or all.
  std::pair<int64_t, int64_t> RangeOf(const std::string& name,
                                      int64_t elements) const {
    const FlatRule& flat = *flat_of_.at(name);
    if (flat.axes.empty()) return {0, elements};
    const auto [p, count] = Position(case_, index_, flat.axes);
    int64_t range = 0;
    while (range * count < elements || range % flat.unit != 0) ++range;
    return {std::min(p * range, elements), std::min((p + 1) * range, elements)};
  }

  const LayoutCase& case_;
  int64_t index_;
  int64_t layers_ = 0;
  int64_t experts_ = 0;
  std::map<std::string, std::vector<Cell>> cells_;
  std::map<std::string, const FlatRule*> flat_of_;
};

}  // namespace

int64_t ElementValue(size_t tensor, int64_t flat) {
  return 1 + static_cast<int64_t>(tensor) * 1'000'000 + flat;
}

std::map<std::string, std::vector<int64_t>> OracleParams(const LayoutCase& c,
                                                         int64_t mesh_index) {
  return Oracle(c, mesh_index).Params();
}

}  // namespace sluice::testing
