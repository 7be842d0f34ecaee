// Random models, layouts and meshes against the oracle.

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "common/layout.h"
#include "tests/property/layout_oracle.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using Case = ::sluice::testing::LayoutCase;
using ::sluice::testing::ElementValue;
using ::sluice::testing::OracleParams;
using Rng = std::mt19937_64;

int64_t Draw(Rng& rng, int64_t lo, int64_t hi) {
  return lo + static_cast<int64_t>(rng() % static_cast<uint64_t>(hi - lo + 1));
}

// --- A random case ----------------------------------------------------------

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
  const bool turned = Draw(rng, 0, 1) == 1;
  for (int m = 0; m < 2; ++m) {
    const std::string name = m == 0 ? "gate" : "up";
    DimSplit split = MakeSplit(split_dim, 1);
    split.pad_units = pad;
    LayoutRule rule =
        MakeRule("layers.{layer}." + name, "l.{layer}.fc1", {split});
    rule.fuse_index = m;
    rule.fuse_dim = fuse_dim;
    if (turned) rule.dim_order = {1, 0};
    c.layout.rules.push_back(rule);
    for (int64_t l = 0; l < layers; ++l) {
      c.model.tensors.push_back(
          {"layers." + std::to_string(l) + "." + name, DType::kI64, shape});
    }
  }
}

// Every expert once, and some a second time on another of `ep` positions.
ExpertMap RandomMap(Rng& rng, int64_t layers, int64_t experts, int64_t ep) {
  ExpertMap map;
  map.first_layer = Draw(rng, 0, layers - 1);
  map.num_layers = Draw(rng, 1, 2);
  for (int64_t e = 0; e < experts; ++e) map.slots.push_back(e);
  std::shuffle(map.slots.begin(), map.slots.end(), rng);
  const int64_t block = (experts + ep - 1) / ep;
  const int64_t full = ep * block;
  if (experts == full && ep > 1 && Draw(rng, 0, 1) == 1) {
    // Each position gets one more: the first of the position before it.
    std::vector<int64_t> slots;
    for (int64_t p = 0; p < ep; ++p) {
      for (int64_t s = 0; s < block; ++s) {
        slots.push_back(map.slots[static_cast<size_t>(p * block + s)]);
      }
      slots.push_back(
          map.slots[static_cast<size_t>((p + ep - 1) % ep * block)]);
    }
    map.slots = std::move(slots);
  }
  return map;
}

// Experts on a second grid: stacked and fused, or one by one; some twice.
void AddExperts(Rng& rng, int64_t layers, Case& c) {
  const int64_t positions =
      c.mesh.AxisSize("tensor") * c.mesh.AxisSize("extra");
  std::vector<int64_t> divisors;
  for (int64_t d = 1; d <= positions; ++d) {
    if (positions % d == 0) divisors.push_back(d);
  }
  const int64_t ep =
      divisors[static_cast<size_t>(Draw(rng, 0, std::ssize(divisors) - 1))];
  c.layout.regroups = {{{"extra", "tensor"}, {{"etp", 0}, {"ep", ep}}}};
  const bool stacked = Draw(rng, 0, 1) == 1;
  const bool fused = Draw(rng, 0, 1) == 1;
  const int64_t experts = Draw(rng, 1, 6);
  const Shape shape = {Draw(rng, 1, 5), Draw(rng, 1, 3)};
  for (int m = 0; m < 2; ++m) {
    const std::string name = m == 0 ? "gate" : "up";
    DimSplit split = MakeSplit(0, 1);
    split.axes = {"etp"};
    LayoutRule rule =
        MakeRule("layers.{layer}.e.{expert}." + name, "l.{layer}.x", {split});
    if (!fused) rule.local_name += "." + name;
    if (!stacked) rule.local_name += ".{local_expert}";
    if (fused) rule.fuse_index = 1 - m;
    rule.experts = {{"ep"}, {}, stacked};
    c.layout.rules.push_back(rule);
    for (int64_t l = 0; l < layers; ++l) {
      for (int64_t e = 0; e < experts; ++e) {
        c.model.tensors.push_back({"layers." + std::to_string(l) + ".e." +
                                       std::to_string(e) + "." + name,
                                   DType::kI64, shape});
      }
    }
  }
  if (Draw(rng, 0, 1) == 0) return;
  c.layout.expert_maps = {RandomMap(rng, layers, experts, ep)};
}

// Tensors of a layer flattened and joined, or each by itself, after a split.
void AddFlat(Rng& rng, int64_t layers, Case& c) {
  const bool joined = Draw(rng, 0, 1) == 1;
  FlatRule flat;
  flat.axes = {"tensor"};
  flat.unit = Draw(rng, 1, 3);
  const bool split = Draw(rng, 0, 1) == 1;
  if (!split) flat.axes.emplace_back("extra");
  const Shape shapes[] = {{Draw(rng, 1, 4), Draw(rng, 1, 4)},
                          {Draw(rng, 1, 6)},
                          {Draw(rng, 1, 3), Draw(rng, 1, 3), Draw(rng, 1, 4)}};
  for (int m = 0; m < 3; ++m) {
    const std::string name = "flat" + std::to_string(m);
    LayoutRule rule = MakeRule("layers.{layer}." + name, "l.{layer}.flat", {});
    if (!joined) rule.local_name += std::to_string(m);
    if (split) {
      rule.splits = {MakeSplit(m == 2 ? 1 : 0, 1)};
      rule.splits[0].axes = {"extra"};
    }
    rule.fuse_index = m == 1 ? 0 : -1;
    rule.flat = flat;
    c.layout.rules.push_back(rule);
    for (int64_t l = 0; l < layers; ++l) {
      c.model.tensors.push_back(
          {"layers." + std::to_string(l) + "." + name, DType::kI64, shapes[m]});
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
  if (Draw(rng, 0, 1) == 1) both.dim_order = {2, 0, 1};
  LayoutRule parts = MakeRule("parts", "", {MakeSplit(1, 2)});
  parts.splits[0].parts = {2 * Draw(rng, 0, 3), 2 * Draw(rng, 1, 4),
                           2 * Draw(rng, 0, 2)};
  parts.stage = StageRule::kAll;
  int64_t columns = 0;
  for (const int64_t part : parts.splits[0].parts) columns += part;
  c.model.tensors.push_back({"parts", DType::kI64, {2, columns}});
  c.model.tensors.push_back({"both", DType::kI64, {2, Draw(rng, 1, 9), 2}});
  LayoutRule rest = MakeRule("rest.*", "", {});
  rest.stage = StageRule::kAll;
  c.model.tensors.push_back({"rest.vector", DType::kI64, {Draw(rng, 1, 5)}});
  c.model.tensors.push_back({"rest.scalar", DType::kI64, {}});
  c.layout.rules.insert(c.layout.rules.end(), {embed, both, parts, rest});
}

// Blocks of layers per stage, listed ones, or chunks that go round.
void DealStages(Rng& rng, int64_t layers, Case& c) {
  switch (Draw(rng, 0, 2)) {
    case 0:
      return;
    case 1:
      c.layout.chunk_layers = Draw(rng, 1, 3);
      return;
    default:
      break;
  }
  const int64_t chunks = c.mesh.AxisSize("pipe") * Draw(rng, 1, 2);
  c.layout.stage_layers.assign(static_cast<size_t>(chunks), 0);
  for (int64_t l = 0; l < layers; ++l) {
    ++c.layout.stage_layers[static_cast<size_t>(Draw(rng, 0, chunks - 1))];
  }
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
  DealStages(rng, layers, c);
  AddAttention(rng, layers, c);
  AddGateUp(rng, layers, c);
  AddExperts(rng, layers, c);
  AddFlat(rng, layers, c);
  AddOthers(rng, c);
  std::shuffle(c.model.tensors.begin(), c.model.tensors.end(), rng);
  return c;
}

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
      cell = cell == 0
                 ? ElementValue(static_cast<size_t>(view.tensor.value()), flat)
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
      CHECK(held == OracleParams(c, i));
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
    REQUIRE_OK_AND_ASSIGN(const std::vector<int64_t> bytes,
                          LayoutBytesOnAll(c.model, c.layout, c.mesh));
    std::vector<int> seen(c.model.tensors.size(), 0);
    for (int64_t i = 0; i < c.mesh.size(); ++i) {
      REQUIRE_OK_AND_ASSIGN(const RankLayout rank,
                            ExpandLayout(c.model, c.layout, c.mesh, i));
      CHECK(rank.buffer_bytes == bytes[static_cast<size_t>(i)]);
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
