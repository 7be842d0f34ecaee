// Random models, layouts and meshes against an oracle that knows nothing of
// boxes: it decides for each single element who holds it, and builds each local
// parameter by listing elements in order.

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "common/layout.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using Rng = std::mt19937_64;

int64_t Draw(Rng& rng, int64_t lo, int64_t hi) {
  return lo + static_cast<int64_t>(rng() % static_cast<uint64_t>(hi - lo + 1));
}

// A value that names one element of one tensor; 0 is padding.
int64_t ValueOf(size_t tensor, int64_t flat) {
  return 1 + static_cast<int64_t>(tensor) * 1'000'000 + flat;
}

// --- A random case ----------------------------------------------------------

struct Case {
  ModelSpec model;
  Layout layout;
  Mesh mesh;
};

DimSplit MakeSplit(int dim, int64_t unit) {
  DimSplit split;
  split.dim = dim;
  split.axes = {"tensor"};
  split.unit = unit;
  return split;
}

LayoutRule MakeRule(std::string pattern, std::string local_name,
                    std::vector<DimSplit> splits) {
  LayoutRule rule;
  rule.pattern = std::move(pattern);
  rule.local_name = std::move(local_name);
  rule.stage = StageRule::kByLayer;
  rule.splits = std::move(splits);
  return rule;
}

// q, k and v of one layer: fused, interleaved or separate.
void AddAttention(Rng& rng, int64_t layers, Case& c) {
  const int64_t kv_heads = Draw(rng, 1, 3);
  const int64_t heads = kv_heads * Draw(rng, 1, 4);
  const int64_t width = Draw(rng, 1, 3);
  const int64_t hidden = Draw(rng, 1, 3);
  const int64_t style = Draw(rng, 0, 2);
  const char* const names[] = {"q", "k", "v"};
  for (int m = 0; m < 3; ++m) {
    const std::string prefix = "layers.";
    DimSplit split = MakeSplit(0, width);
    if (m > 0) split.driver_units = heads;
    LayoutRule rule = MakeRule(
        prefix + "{layer}." + names[m],
        style == 0 ? "l.{layer}." + std::string(names[m]) : "l.{layer}.qkv",
        {split});
    if (style > 0) rule.fuse_index = m;
    if (style == 2) rule.interleave = kv_heads;
    c.layout.rules.push_back(rule);
    for (int64_t l = 0; l < layers; ++l) {
      c.model.tensors.push_back(
          {prefix + std::to_string(l) + "." + names[m],
           DType::kI64,
           {(m == 0 ? heads : kv_heads) * width, hidden}});
    }
  }
}

// Two matrices fused along a random dimension, split along another or the same.
void AddGateUp(Rng& rng, int64_t layers, Case& c) {
  const Shape shape = {Draw(rng, 1, 7), Draw(rng, 1, 7)};
  const int split_dim = static_cast<int>(Draw(rng, 0, 1));
  const int fuse_dim = static_cast<int>(Draw(rng, 0, 1));
  const int64_t pad = Draw(rng, 0, 1) * Draw(rng, 1, 3);
  for (int m = 0; m < 2; ++m) {
    const std::string name = m == 0 ? "gate" : "up";
    DimSplit split = MakeSplit(split_dim, 1);
    split.pad_units = pad;
    LayoutRule rule =
        MakeRule("layers.{layer}." + name, "l.{layer}.fc1", {split});
    rule.fuse_index = m;
    rule.fuse_dim = fuse_dim;
    c.layout.rules.push_back(rule);
    for (int64_t l = 0; l < layers; ++l) {
      c.model.tensors.push_back(
          {"layers." + std::to_string(l) + "." + name, DType::kI64, shape});
    }
  }
}

// Unlayered tensors: a padded or listed vocabulary, a split over two axes, a
// replicated vector and a scalar.
void AddOthers(Rng& rng, Case& c) {
  const int64_t tensor = c.mesh.AxisSize("tensor");
  LayoutRule embed = MakeRule("embed", "", {MakeSplit(0, 1)});
  embed.stage = StageRule::kFirstAndLast;
  embed.last_stage_name = "head";
  int64_t rows = Draw(rng, 1, 11);
  if (Draw(rng, 0, 1) == 1) {
    embed.splits[0].pad_units = Draw(rng, 1, 4);
  } else if (Draw(rng, 0, 1) == 1) {
    rows = 0;
    for (int64_t p = 0; p < tensor; ++p) {
      embed.splits[0].sizes.push_back(Draw(rng, 0, 3));
      rows += embed.splits[0].sizes.back();
    }
  }
  c.model.tensors.push_back({"embed", DType::kI64, {rows, 2}});
  LayoutRule both = MakeRule("both", "", {MakeSplit(1, 1)});
  both.splits[0].axes = {"tensor", "extra"};
  both.stage = StageRule::kLast;
  c.model.tensors.push_back({"both", DType::kI64, {2, Draw(rng, 1, 9), 2}});
  LayoutRule rest = MakeRule("rest.*", "", {});
  rest.stage = StageRule::kAll;
  c.model.tensors.push_back({"rest.vector", DType::kI64, {Draw(rng, 1, 5)}});
  c.model.tensors.push_back({"rest.scalar", DType::kI64, {}});
  c.layout.rules.insert(c.layout.rules.end(), {embed, both, rest});
}

Case MakeCase(Rng& rng) {
  Case c;
  c.model.name = "m";
  c.layout.name = "l";
  c.layout.stage_axis = "pipe";
  c.layout.replica_axes = {"data"};
  c.mesh.axes = {{"pipe", Draw(rng, 1, 3)},
                 {"data", Draw(rng, 1, 2)},
                 {"tensor", Draw(rng, 1, 8)},
                 {"extra", Draw(rng, 1, 2)}};
  std::shuffle(c.mesh.axes.begin(), c.mesh.axes.end(), rng);
  int64_t size = 1;
  for (const MeshAxis& axis : c.mesh.axes) size *= axis.size;
  for (int64_t i = 0; i < size; ++i) {
    c.mesh.ranks.push_back(Rank(static_cast<int32_t>(size - 1 - i)));
  }
  const int64_t layers = Draw(rng, 1, 5);
  AddAttention(rng, layers, c);
  AddGateUp(rng, layers, c);
  AddOthers(rng, c);
  std::shuffle(c.model.tensors.begin(), c.model.tensors.end(), rng);
  return c;
}

// --- The oracle -------------------------------------------------------------

// Does position p of P hold element e of a dimension of n elements?
bool PositionHolds(const DimSplit& split, int64_t n, int64_t e, int64_t p,
                   int64_t positions) {
  const int64_t unit = e / split.unit;
  const int64_t units = n / split.unit;
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
      if (d / block == p && d * units < (unit + 1) * drivers &&
          unit * drivers < (d + 1) * units) {
        return true;
      }
    }
    return false;
  }
  int64_t total = units;
  if (split.pad_units != 0) {
    while (total % (split.pad_units * positions) != 0) ++total;
  }
  return unit / ((total + positions - 1) / positions) == p;
}

int64_t CoordinateOn(const Mesh& mesh, int64_t index, const std::string& axis) {
  int64_t inner = 1;
  for (size_t a = mesh.axes.size(); a-- > 0;) {
    if (mesh.axes[a].name == axis) return index / inner % mesh.axes[a].size;
    inner *= mesh.axes[a].size;
  }
  return 0;
}

std::pair<int64_t, int64_t> Position(const Mesh& mesh, int64_t index,
                                     const std::vector<std::string>& axes) {
  int64_t position = 0;
  int64_t count = 1;
  for (const std::string& axis : axes) {
    position = position * mesh.AxisSize(axis) + CoordinateOn(mesh, index, axis);
    count *= mesh.AxisSize(axis);
  }
  return {position, count};
}

struct Cell {
  std::vector<int64_t> key;  // order inside the parameter
  int64_t value;
};

// Local parameters of one agent: name -> values in memory order, padding left
// out (its place is checked through the view's parameter being zero there).
class Oracle {
 public:
  Oracle(const Case& c, int64_t index) : case_(c), index_(index) {
    for (size_t t = 0; t < c.model.tensors.size(); ++t) AddTensor(t);
  }

  // Values of each parameter, without padding, in memory order.
  std::map<std::string, std::vector<int64_t>> Params() {
    std::map<std::string, std::vector<int64_t>> out;
    for (auto& [name, cells] : cells_) {
      std::sort(cells.begin(), cells.end(),
                [](const Cell& a, const Cell& b) { return a.key < b.key; });
      for (const Cell& cell : cells) out[name].push_back(cell.value);
    }
    return out;
  }

 private:
  const LayoutRule& RuleOf(const std::string& name, int64_t& layer) const {
    layer = -1;
    std::string pattern = name;
    if (name.rfind("layers.", 0) == 0) {
      const size_t dot = name.find('.', 7);
      layer = std::stoll(name.substr(7, dot - 7));
      pattern = "layers.{layer}" + name.substr(dot);
    } else if (name.rfind("rest.", 0) == 0) {
      pattern = "rest.*";
    }
    for (const LayoutRule& rule : case_.layout.rules) {
      if (rule.pattern == pattern) return rule;
    }
    throw std::logic_error("no rule for " + name);
  }

  // The name on this agent's stage, or "" if the stage has it not.
  std::string LocalName(const std::string& name, const LayoutRule& rule,
                        int64_t layer) const {
    const int64_t stages = case_.mesh.AxisSize("pipe");
    const int64_t stage = CoordinateOn(case_.mesh, index_, "pipe");
    if (rule.stage == StageRule::kByLayer) {
      int64_t layers = 0;
      for (const TensorSpec& t : case_.model.tensors) {
        int64_t l = -1;
        RuleOf(t.name, l);
        layers = std::max(layers, l + 1);
      }
      const int64_t block = (layers + stages - 1) / stages;
      if (layer / block != stage) return "";
      std::string local = rule.local_name;
      return local.replace(local.find("{layer}"), 7,
                           std::to_string(layer % block));
    }
    const bool last = stage == stages - 1;
    if (rule.stage == StageRule::kLast) return last ? name : "";
    if (rule.stage == StageRule::kFirstAndLast) {
      if (stage == 0) return name;
      return last ? rule.last_stage_name : "";
    }
    return name;
  }

  void AddTensor(size_t t) {
    const TensorSpec& tensor = case_.model.tensors[t];
    int64_t layer = -1;
    const LayoutRule& rule = RuleOf(tensor.name, layer);
    const std::string local = LocalName(tensor.name, rule, layer);
    if (local.empty()) return;
    const int64_t elements = tensor.num_elements();
    for (int64_t flat = 0; flat < elements; ++flat) {
      std::vector<int64_t> e(tensor.shape.size());
      int64_t rest = flat;
      for (size_t d = e.size(); d-- > 0;) {
        e[d] = rest % tensor.shape[d];
        rest /= tensor.shape[d];
      }
      bool held = true;
      for (const DimSplit& split : rule.splits) {
        const auto d = static_cast<size_t>(split.dim);
        const auto [p, count] = Position(case_.mesh, index_, split.axes);
        held &= PositionHolds(split, tensor.shape[d], e[d], p, count);
      }
      if (!held) continue;
      // Order: by dimension, but along fuse_dim first by group and member.
      std::vector<int64_t> key;
      for (size_t d = 0; d < e.size(); ++d) {
        if (rule.fuse_index >= 0 && static_cast<int>(d) == rule.fuse_dim) {
          key.push_back(rule.interleave == 0
                            ? 0
                            : e[d] / (tensor.shape[d] / rule.interleave));
          key.push_back(rule.fuse_index);
        }
        key.push_back(e[d]);
      }
      cells_[local].push_back({key, ValueOf(t, flat)});
    }
  }

  const Case& case_;
  int64_t index_;
  std::map<std::string, std::vector<Cell>> cells_;
};

// --- The layout's answer ----------------------------------------------------

// Fills local parameters through the views; a cell written twice becomes -1.
std::map<std::string, std::vector<int64_t>> Fill(const Case& c,
                                                 const RankLayout& rank) {
  std::map<std::string, std::vector<int64_t>> params;
  for (const LocalParam& param : rank.params) {
    params[param.name].assign(
        static_cast<size_t>(Box::Whole(param.shape).num_elements()), 0);
  }
  for (const View& view : rank.views) {
    const TensorSpec& tensor = c.model.tensor(view.tensor);
    std::vector<int64_t>& out =
        params[rank.params[static_cast<size_t>(view.param)].name];
    for (int64_t flat = 0; flat < tensor.num_elements(); ++flat) {
      int64_t rest = flat;
      int64_t at = view.offset;
      bool inside = true;
      for (size_t d = tensor.shape.size(); d-- > 0;) {
        const int64_t e = rest % tensor.shape[d];
        rest /= tensor.shape[d];
        const Interval& held = view.box.dim(static_cast<int>(d));
        inside &= e >= held.lo && e < held.hi;
        at += (e - held.lo) * view.strides[d];
      }
      if (!inside) continue;
      int64_t& cell = out.at(static_cast<size_t>(at));
      cell = cell == 0 ? ValueOf(static_cast<size_t>(view.tensor.value()), flat)
                       : -1;
    }
  }
  return params;
}

TEST_CASE("each local parameter holds what the oracle lists",
          "[layout][property]") {
  Rng rng(Catch::rngSeed() + 20240607);
  for (int round = 0; round < 150; ++round) {
    CAPTURE(round);
    const Case c = MakeCase(rng);
    REQUIRE_OK(CheckLayout(c.model, c.layout, c.mesh));
    REQUIRE_OK_AND_ASSIGN(const std::vector<RankLayout> ranks,
                          ExpandLayoutOnAll(c.model, c.layout, c.mesh));
    for (int64_t i = 0; i < c.mesh.size(); ++i) {
      CAPTURE(i, c.mesh.ToString());
      const RankLayout& rank = ranks[static_cast<size_t>(i)];
      std::map<std::string, std::vector<int64_t>> held = Fill(c, rank);
      for (auto& [name, values] : held) {
        std::erase(values, 0);  // padding
      }
      std::erase_if(held, [](const auto& p) { return p.second.empty(); });
      CHECK(held == Oracle(c, i).Params());
    }
  }
}

TEST_CASE("expanding one agent or all is the same", "[layout][property]") {
  Rng rng(Catch::rngSeed() + 7);
  for (int round = 0; round < 20; ++round) {
    const Case c = MakeCase(rng);
    REQUIRE_OK_AND_ASSIGN(const std::vector<RankLayout> ranks,
                          ExpandLayoutOnAll(c.model, c.layout, c.mesh));
    for (int64_t i = 0; i < c.mesh.size(); ++i) {
      REQUIRE_OK_AND_ASSIGN(const RankLayout one,
                            ExpandLayout(c.model, c.layout, c.mesh, i));
      CHECK(one == ranks[static_cast<size_t>(i)]);
    }
  }
}

TEST_CASE("classes hold the same elements as views", "[layout][property]") {
  Rng rng(Catch::rngSeed() + 99);
  for (int round = 0; round < 60; ++round) {
    CAPTURE(round);
    const Case c = MakeCase(rng);
    REQUIRE_OK_AND_ASSIGN(const std::vector<TensorClass> classes,
                          ClassifyLayout(c.model, c.layout, c.mesh));
    std::vector<int> seen(c.model.tensors.size(), 0);
    for (int64_t i = 0; i < c.mesh.size(); ++i) {
      REQUIRE_OK_AND_ASSIGN(const RankLayout rank,
                            ExpandLayout(c.model, c.layout, c.mesh, i));
      std::map<int32_t, int64_t> elements;
      for (const View& view : rank.views) {
        elements[view.tensor.value()] += view.box.num_elements();
      }
      for (const TensorClass& tc : classes) {
        int64_t held = 0;
        for (const Box& box : tc.BoxesOn(i)) {
          held += box.num_elements();
        }
        for (const TensorIndex t : tc.tensors) {
          CHECK(elements[t.value()] == held);
          if (i == 0) ++seen[static_cast<size_t>(t.value())];
        }
      }
    }
    CHECK(std::all_of(seen.begin(), seen.end(), [](int n) { return n == 1; }));
  }
}

}  // namespace
}  // namespace sluice
