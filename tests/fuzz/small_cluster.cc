#include "tests/fuzz/small_cluster.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/layout.h"

namespace sluice::testing {
namespace {

coordinator::Topology SmallTopology() {
  coordinator::Topology topology;
  topology.node_of_rank = {0, 0, 0, 0, 1, 1, 1, 1};
  return topology;
}

ModelSpec MakeModel() {
  ModelSpec model;
  model.name = "small";
  const auto add = [&model](std::string name, Shape shape) {
    model.tensors.push_back({std::move(name), DType::kBF16, std::move(shape)});
  };
  add("embed", {10, 8});
  for (int layer = 0; layer < 2; ++layer) {
    const std::string prefix = absl::StrCat("layers.", layer, ".");
    add(prefix + "q", {8, 8});
    add(prefix + "k", {4, 8});
    add(prefix + "v", {4, 8});
    add(prefix + "norm", {8});
    for (int expert = 0; expert < 4; ++expert) {
      add(absl::StrCat(prefix, "experts.", expert, ".up"), {6, 8});
    }
  }
  add("scale", {});
  return model;
}

}  // namespace

const ModelSpec& SmallModel() {
  static const auto* const model = new ModelSpec(MakeModel());
  return *model;
}

Mesh SmallMesh(absl::string_view axes) {
  Mesh mesh;
  auto parsed = ParseAxes(axes);
  SLUICE_CHECK_OK(parsed.status());
  mesh.axes = *std::move(parsed);
  int64_t size = 1;
  for (const MeshAxis& axis : mesh.axes) size *= axis.size;
  for (int64_t i = 0; i < size; ++i) {
    mesh.ranks.emplace_back(static_cast<int32_t>(i));
  }
  return mesh;
}

coordinator::PlacementGeometry WholePlacement() {
  auto layout = std::make_shared<Layout>();
  layout->name = "whole";
  layout->replica_axes = {"data"};
  layout->rules.emplace_back().pattern = "**";
  Mesh mesh = SmallMesh("data=2");
  mesh.ranks = {Rank(1), Rank(6)};
  return {"whole", std::move(layout), std::move(mesh)};
}

coordinator::ReshardInput SmallReshard(coordinator::PlacementGeometry from,
                                       coordinator::PlacementGeometry to) {
  coordinator::ReshardInput input;
  input.model =
      std::shared_ptr<const ModelSpec>(std::shared_ptr<void>(), &SmallModel());
  for (int64_t r = 0; r < NumReplicas(*from.layout, from.mesh); ++r) {
    input.source_replicas.push_back(r);
  }
  input.source = std::move(from);
  input.destinations.push_back(std::move(to));
  input.topology = SmallTopology();
  return input;
}

coordinator::RedistributionInput SmallRedistribution() {
  coordinator::RedistributionInput input;
  input.pattern = coordinator::Pattern::kDirect;
  input.topology = SmallTopology();
  for (int s = 0; s < 6; ++s) {
    coordinator::SampleHolding& holding = input.holdings.emplace_back();
    holding.entry.sample_id = absl::StrCat("s", s);
    holding.entry.key = "x";
    holding.entry.dtype = DType::kI32;
    holding.entry.sequence_lengths = {3, s};
    holding.holders = {Rank(s)};
    holding.owner = Rank(s);
    input.wanted.push_back({Rank(s % 3), Rank(5), Rank(7)});
  }
  return input;
}

}  // namespace sluice::testing
