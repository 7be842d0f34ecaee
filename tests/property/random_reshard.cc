#include "tests/property/random_reshard.h"

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/check.h"
#include "common/dtype.h"
#include "common/layout.h"

namespace sluice::testing {
namespace {

constexpr int kMaxRanks = 14;

// What is drawn once per model, so that all its layouts fit it.
struct Family {
  int64_t layers = 1;
  int64_t kv_heads = 1, heads = 1, width = 1;
  int64_t experts = 1;
  // Types between any two of which there is a conversion; empty: none is cast.
  std::vector<DType> castable;
};

template <typename T>
const T& OneOf(Rng& rng, const std::vector<T>& items) {
  return items[static_cast<size_t>(Draw(rng, 0, std::ssize(items) - 1))];
}

// In what a placement holds a tensor of this type; kUnspecified: in its own.
DType HeldAs(Rng& rng, const Family& family, DType own) {
  if (std::count(family.castable.begin(), family.castable.end(), own) == 0 ||
      Draw(rng, 0, 2) == 0) {
    return DType::kUnspecified;
  }
  return OneOf(rng, family.castable);
}

// Draws each rule's element type; rules of one local name get one.
void DrawTypes(Rng& rng, const ModelSpec& model, const Family& family,
               Layout& layout) {
  std::map<std::string, DType> known;
  for (LayoutRule& rule : layout.rules) {
    const std::string like = absl::StrReplaceAll(
        rule.pattern, {{"{layer}", "0"}, {"{expert}", "0"}});
    const auto tensor = std::find_if(
        model.tensors.begin(), model.tensors.end(),
        [&like](const TensorSpec& spec) { return spec.name == like; });
    SLUICE_CHECK(tensor != model.tensors.end()) << like;
    const auto [it, inserted] = known.try_emplace(
        rule.local_name.empty() ? rule.pattern : rule.local_name);
    if (inserted) it->second = HeldAs(rng, family, tensor->dtype);
    rule.dtype = it->second;
  }
}

DimSplit RandomSplit(Rng& rng, int dim, int64_t size, const Mesh& mesh) {
  DimSplit split;
  split.dim = dim;
  split.axes = {"tensor"};
  if (Draw(rng, 0, 2) == 0) split.axes.emplace_back("extra");
  if (Draw(rng, 0, 1) == 1) std::reverse(split.axes.begin(), split.axes.end());
  if (size % 2 == 0 && Draw(rng, 0, 1) == 1) split.unit = 2;
  const int64_t positions = mesh.PositionOver(0, split.axes).second;
  switch (Draw(rng, 0, 3)) {
    case 0:
      split.pad_units = Draw(rng, 1, 3);
      break;
    case 1: {  // listed sizes: some positions get nothing
      split.sizes.assign(static_cast<size_t>(positions), 0);
      for (int64_t u = 0; u < size / split.unit; ++u) {
        ++split.sizes[static_cast<size_t>(Draw(rng, 0, positions - 1))];
      }
      break;
    }
    default:
      break;
  }
  return split;
}

LayoutRule MakeRule(std::string pattern, StageRule stage) {
  LayoutRule rule;
  rule.pattern = std::move(pattern);
  rule.stage = stage;
  return rule;
}

// A matrix or vector family with random splits of some dimensions.
LayoutRule RandomRule(Rng& rng, std::string pattern, StageRule stage,
                      const Shape& shape, const Mesh& mesh) {
  LayoutRule rule = MakeRule(std::move(pattern), stage);
  std::vector<std::string> used;
  for (size_t d = 0; d < shape.size(); ++d) {
    if (Draw(rng, 0, 1) == 0) continue;
    DimSplit split = RandomSplit(rng, static_cast<int>(d), shape[d], mesh);
    const bool again = std::any_of(
        split.axes.begin(), split.axes.end(), [&](const std::string& axis) {
          return std::find(used.begin(), used.end(), axis) != used.end();
        });
    if (again) continue;  // an axis splits one dimension
    used.insert(used.end(), split.axes.begin(), split.axes.end());
    rule.splits.push_back(std::move(split));
  }
  return rule;
}

void AddAttention(Rng& rng, const Family& family, Layout& layout) {
  const int64_t style = Draw(rng, 0, 2);  // separate, fused, interleaved
  const char* const names[] = {"q", "k", "v"};
  for (int m = 0; m < 3; ++m) {
    LayoutRule rule = MakeRule(absl::StrCat("layers.{layer}.", names[m]),
                               StageRule::kByLayer);
    DimSplit split;
    split.axes = {"tensor"};
    split.unit = family.width;
    if (m > 0) split.driver_units = family.heads;
    rule.splits = {split};
    if (style > 0) {
      rule.local_name = "l.{layer}.qkv";
      rule.fuse_index = m;
    }
    if (style == 2) rule.interleave = family.kv_heads;
    layout.rules.push_back(rule);
  }
}

// Experts on a second grid over the agents of a stage and replica: stacked,
// fused or one by one; where it comes out even, some stand twice.
void AddExperts(Rng& rng, const Family& family, const Mesh& mesh,
                Layout& layout) {
  const int64_t agents = mesh.AxisSize("tensor") * mesh.AxisSize("extra");
  std::vector<int64_t> divisors;
  for (int64_t d = 1; d <= agents; ++d) {
    if (agents % d == 0) divisors.push_back(d);
  }
  const int64_t ep =
      divisors[static_cast<size_t>(Draw(rng, 0, std::ssize(divisors) - 1))];
  layout.regroups = {{{"tensor", "extra"}, {{"expert", ep}, {"etp", 0}}}};
  const bool stacked = Draw(rng, 0, 1) == 1;
  for (const char* name : {"up", "down"}) {
    LayoutRule rule = MakeRule(absl::StrCat("layers.{layer}.x.{expert}.", name),
                               StageRule::kByLayer);
    rule.local_name =
        absl::StrCat("l.{layer}.", name, stacked ? "" : ".{local_expert}");
    rule.experts = {{"expert"}, {}, stacked};
    rule.splits.emplace_back();
    rule.splits.back().dim = static_cast<int>(Draw(rng, 0, 1));
    rule.splits.back().axes = {"etp"};
    if (Draw(rng, 0, 1) == 1) rule.dim_order = {1, 0};
    layout.rules.push_back(rule);
  }
  if (ep == 1 || family.experts % ep != 0 || Draw(rng, 0, 1) == 0) return;
  ExpertMap map;  // each position has the first of the one before it as well
  map.num_layers = Draw(rng, 0, 1);
  const int64_t block = family.experts / ep;
  for (int64_t p = 0; p < ep; ++p) {
    for (int64_t e = 0; e < block; ++e) map.slots.push_back(p * block + e);
    map.slots.push_back((p + ep - 1) % ep * block);
  }
  layout.expert_maps = {map};
}

// Two tensors of a layer flattened, joined or each by itself.
void AddFlat(Rng& rng, Layout& layout) {
  const bool joined = Draw(rng, 0, 1) == 1;
  FlatRule flat;
  flat.axes = {"tensor"};
  if (Draw(rng, 0, 1) == 1) flat.axes.emplace_back("extra");
  flat.unit = Draw(rng, 1, 3);
  for (const char* name : {"flat", "pair"}) {
    LayoutRule rule =
        MakeRule(absl::StrCat("layers.{layer}.", name), StageRule::kByLayer);
    rule.local_name = absl::StrCat("l.{layer}.", joined ? "flat" : name);
    rule.flat = flat;
    layout.rules.push_back(rule);
  }
}

// A stored q-k-v: each part dealt by itself.
void AddParts(Rng& rng, const Family& family, Layout& layout) {
  LayoutRule rule = MakeRule("layers.{layer}.parts", StageRule::kByLayer);
  DimSplit split;
  split.axes = {"tensor"};
  split.unit = family.width;
  split.parts = {family.heads * family.width, family.kv_heads * family.width,
                 family.kv_heads * family.width};
  rule.splits = {split};
  if (Draw(rng, 0, 1) == 1) rule.dim_order = {1, 0};
  layout.rules.push_back(rule);
}

Mesh RandomMesh(Rng& rng, int num_ranks) {
  Mesh mesh;
  int64_t size = 0;
  do {
    mesh.axes = {{"pipe", Draw(rng, 1, 3)},
                 {"data", Draw(rng, 1, 3)},
                 {"tensor", Draw(rng, 1, 6)},
                 {"extra", Draw(rng, 1, 2)}};
    size = 1;
    for (const MeshAxis& axis : mesh.axes) size *= axis.size;
  } while (size > num_ranks);
  std::shuffle(mesh.axes.begin(), mesh.axes.end(), rng);
  std::vector<Rank> ranks;
  for (int r = 0; r < num_ranks; ++r) ranks.emplace_back(r);
  std::shuffle(ranks.begin(), ranks.end(), rng);
  ranks.resize(static_cast<size_t>(size));
  mesh.ranks = std::move(ranks);
  return mesh;
}

// Even stages, listed ones or chunks that go round.
void DealStages(Rng& rng, const Family& family, const Mesh& mesh,
                Layout& layout) {
  const int64_t stages = mesh.AxisSize("pipe");
  switch (Draw(rng, 0, 3)) {
    case 0: {  // uneven stages or chunks, some empty
      const int64_t chunks = stages * Draw(rng, 1, 2);
      layout.stage_layers.assign(static_cast<size_t>(chunks), 0);
      for (int64_t l = 0; l < family.layers; ++l) {
        ++layout.stage_layers[static_cast<size_t>(Draw(rng, 0, chunks - 1))];
      }
      break;
    }
    case 1:
      layout.chunk_layers = Draw(rng, 1, 2);
      break;
    default:
      break;
  }
}

Layout RandomRules(Rng& rng, const ModelSpec& model, const Family& family,
                   const Mesh& mesh) {
  Layout layout;
  layout.stage_axis = "pipe";
  layout.replica_axes = {"data"};
  DealStages(rng, family, mesh, layout);
  AddExperts(rng, family, mesh, layout);
  AddFlat(rng, layout);
  AddParts(rng, family, layout);
  AddAttention(rng, family, layout);
  const auto shape_of = [&](const std::string& name) {
    for (const TensorSpec& tensor : model.tensors) {
      if (tensor.name == name) return tensor.shape;
    }
    return Shape();
  };
  for (const char* name : {"gate", "up", "norm"}) {
    layout.rules.push_back(RandomRule(
        rng, absl::StrCat("layers.{layer}.", name), StageRule::kByLayer,
        shape_of(absl::StrCat("layers.0.", name)), mesh));
  }
  const StageRule stages[] = {StageRule::kAll, StageRule::kFirst,
                              StageRule::kLast, StageRule::kFirstAndLast};
  for (const char* name : {"embed", "cube", "scalar"}) {
    layout.rules.push_back(
        RandomRule(rng, name, stages[Draw(rng, 0, 3)], shape_of(name), mesh));
  }
  DrawTypes(rng, model, family, layout);
  return layout;
}

// Cuts a box at random faces into pieces.
void CutRandomly(Rng& rng, const Box& box, int depth, std::vector<Box>& out) {
  const bool can_cut = box.rank() > 0 && depth > 0 && Draw(rng, 0, 3) > 0;
  const int dim = can_cut ? static_cast<int>(Draw(rng, 0, box.rank() - 1)) : 0;
  if (!can_cut || box.dim(dim).size() < 2) {
    out.push_back(box);
    return;
  }
  Box low = box;
  Box high = box;
  const int64_t at = Draw(rng, box.dim(dim).lo + 1, box.dim(dim).hi - 1);
  low.dim(dim).hi = at;
  high.dim(dim).lo = at;
  CutRandomly(rng, low, depth - 1, out);
  CutRandomly(rng, high, depth - 1, out);
}

// No rules: pieces of each tensor on random agents of each replica, each as a
// parameter of its own.
Layout RandomExplicit(Rng& rng, const ModelSpec& model, const Family& family,
                      const Mesh& mesh) {
  Layout layout;
  layout.replica_axes = {"data"};
  layout.explicit_ranks.resize(mesh.ranks.size());
  layout.replicated_views = true;
  for (size_t t = 0; t < model.tensors.size(); ++t) {
    const TensorSpec& tensor = model.tensors[t];
    DType held = HeldAs(rng, family, tensor.dtype);
    if (held == DType::kUnspecified) held = tensor.dtype;
    for (int64_t replica = 0; replica < NumReplicas(layout, mesh); ++replica) {
      std::vector<size_t> agents;
      for (int64_t i = 0; i < mesh.size(); ++i) {
        if (ReplicaOf(layout, mesh, i) == replica) {
          agents.push_back(static_cast<size_t>(i));
        }
      }
      std::vector<Box> boxes;
      CutRandomly(rng, Box::Whole(tensor.shape), 4, boxes);
      for (const Box& box : boxes) {
        std::shuffle(agents.begin(), agents.end(), rng);
        const int64_t copies =
            Draw(rng, 1, std::min<int64_t>(3, std::ssize(agents)));
        for (int64_t c = 0; c < copies; ++c) {
          RankLayout& rank =
              layout.explicit_ranks[agents[static_cast<size_t>(c)]];
          const auto param = static_cast<int32_t>(rank.params.size());
          rank.params.push_back(
              {absl::StrCat("p", param), held, box.shape(), 0});
          rank.views.push_back({TensorIndex(static_cast<int32_t>(t)), box,
                                param, 0, RowMajorStrides(box.shape())});
        }
      }
    }
  }
  return layout;
}

coordinator::PlacementGeometry RandomPlacement(Rng& rng, std::string name,
                                               const ModelSpec& model,
                                               const Family& family,
                                               int num_ranks) {
  coordinator::PlacementGeometry placement;
  placement.name = std::move(name);
  absl::Status status;
  do {  // a fused group may come out with members that disagree
    placement.mesh = RandomMesh(rng, num_ranks);
    Layout layout = Draw(rng, 0, 3) == 0
                        ? RandomExplicit(rng, model, family, placement.mesh)
                        : RandomRules(rng, model, family, placement.mesh);
    layout.name = placement.name;
    placement.layout = std::make_shared<const Layout>(std::move(layout));
    status = CheckLayout(model, *placement.layout, placement.mesh);
    SLUICE_CHECK_OK(status);
  } while (!status.ok());
  return placement;
}

Family RandomFamily(Rng& rng) {
  Family family;
  family.layers = Draw(rng, 1, 4);
  family.kv_heads = Draw(rng, 1, 3);
  family.heads = family.kv_heads * Draw(rng, 1, 4);
  family.width = Draw(rng, 1, 3);
  family.experts = Draw(rng, 1, 6);
  if (Draw(rng, 0, 1) == 1) {
    family.castable = {DType::kF32, DType::kBF16, DType::kF16};
    // No conversion joins these two.
    family.castable.push_back(Draw(rng, 0, 1) == 1 ? DType::kF64
                                                   : DType::kF8E4M3);
  }
  return family;
}

std::shared_ptr<const ModelSpec> RandomModel(Rng& rng, const Family& family) {
  auto model = std::make_shared<ModelSpec>();
  model->name = "m";
  const auto add = [&](std::string name, DType dtype, Shape shape) {
    model->tensors.push_back({std::move(name), dtype, std::move(shape)});
  };
  const auto type = [&](DType plain) {
    if (family.castable.empty() || Draw(rng, 0, 3) == 0) return plain;
    return OneOf(rng, family.castable);
  };
  const DType experts = type(DType::kI16), flats = type(DType::kF32),
              heads = type(DType::kI16), matrices = type(DType::kF32),
              norms = type(DType::kF32), cubes = type(DType::kF64);
  const int64_t hidden = Draw(rng, 1, 4);
  const Shape matrix = {Draw(rng, 1, 9), Draw(rng, 1, 9)};
  const Shape expert = {Draw(rng, 1, 4), Draw(rng, 1, 3)};
  const Shape cube = {Draw(rng, 1, 3), Draw(rng, 1, 3), Draw(rng, 1, 3)};
  for (int64_t l = 0; l < family.layers; ++l) {
    const std::string prefix = absl::StrCat("layers.", l, ".");
    for (int64_t e = 0; e < family.experts; ++e) {
      add(absl::StrCat(prefix, "x.", e, ".up"), experts, expert);
      add(absl::StrCat(prefix, "x.", e, ".down"), experts, expert);
    }
    add(prefix + "flat", flats, cube);
    add(prefix + "pair", flats, matrix);
    add(prefix + "parts", matrices,
        {(family.heads + 2 * family.kv_heads) * family.width, hidden});
    add(prefix + "q", heads, {family.heads * family.width, hidden});
    add(prefix + "k", heads, {family.kv_heads * family.width, hidden});
    add(prefix + "v", heads, {family.kv_heads * family.width, hidden});
    add(prefix + "gate", matrices, matrix);
    add(prefix + "up", matrices, matrix);
    add(prefix + "norm", norms, {hidden});
  }
  add("embed", DType::kI16, {Draw(rng, 1, 13), hidden});
  add("cube", cubes, {Draw(rng, 1, 4), Draw(rng, 1, 4), Draw(rng, 1, 4)});
  add("scalar", DType::kF32, {});
  std::shuffle(model->tensors.begin(), model->tensors.end(), rng);
  return model;
}

}  // namespace

int64_t Draw(Rng& rng, int64_t lo, int64_t hi) {
  return lo + static_cast<int64_t>(rng() % static_cast<uint64_t>(hi - lo + 1));
}

coordinator::ReshardInput RandomReshard(Rng& rng) {
  const Family family = RandomFamily(rng);
  std::shared_ptr<const ModelSpec> model = RandomModel(rng, family);
  coordinator::ReshardInput input;
  const auto num_ranks = static_cast<int>(Draw(rng, 1, kMaxRanks));
  const int64_t nodes = Draw(rng, 1, 4);
  for (int r = 0; r < num_ranks; ++r) {
    input.topology.node_of_rank.push_back(
        static_cast<int32_t>(Draw(rng, 0, nodes - 1)));
  }
  input.source = RandomPlacement(rng, "from", *model, family, num_ranks);
  const int64_t replicas = NumReplicas(*input.source.layout, input.source.mesh);
  const int64_t sure = Draw(rng, 0, replicas - 1);
  for (int64_t r = 0; r < replicas; ++r) {
    if (r == sure || Draw(rng, 0, 1) == 1) input.source_replicas.push_back(r);
  }
  const int64_t destinations = Draw(rng, 0, 3) == 0 ? 2 : 1;
  for (int64_t d = 0; d < destinations; ++d) {
    input.destinations.push_back(
        RandomPlacement(rng, absl::StrCat("to", d), *model, family, num_ranks));
  }
  input.model = std::move(model);
  return input;
}

}  // namespace sluice::testing
