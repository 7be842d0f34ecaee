#include "bench/planner/published_cases.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/ids.h"
#include "common/layout.h"
#include "common/layout_cast.h"
#include "common/layout_json.h"
#include "common/mesh.h"
#include "common/status_macros.h"
#include "presets/layout_presets.h"
#include "presets/model_presets.h"

namespace sluice::bench {
namespace {

using coordinator::PlacementGeometry;
using coordinator::ReshardInput;

PublishedCase Case(std::string name, std::string model, CaseSide trainer,
                   CaseSide rollout) {
  PublishedCase out;
  out.name = std::move(name);
  out.model = std::move(model);
  out.trainer = std::move(trainer);
  out.rollout = std::move(rollout);
  out.links = "h100_infiniband";
  return out;
}

// Experts dealt over `experts` ranks of each stage, tensors over the last axis.
CaseSide MegatronMoe(std::string axes, int64_t experts) {
  return {"megatron_moe", {{"expert_parallel", experts}}, std::move(axes), 0};
}
CaseSide Vllm(std::string axes, int32_t first_rank) {
  return {"vllm", {}, std::move(axes), first_rank};
}
// Experts dealt over a replica's ranks.
CaseSide VllmMoe(std::string axes, int32_t first_rank) {
  return {"vllm_moe", {}, std::move(axes), first_rank};
}
// Each expert cut over a replica's ranks.
CaseSide VllmMoeCut(std::string axes, int32_t first_rank) {
  return {"vllm_moe", {{"expert_parallel", 0}}, std::move(axes), first_rank};
}

std::vector<PublishedCase> MakeCases() {
  std::vector<PublishedCase> out;
  out.push_back(Case("deepseek-v3-256-to-256", "deepseek-v3",
                     MegatronMoe("pipe=16,data=16,context=1,tensor=1", 16),
                     VllmMoe("data=8,attention_data=1,tensor=32", 256)));
  out.push_back(Case("deepseek-v3-4096-to-2048", "deepseek-v3",
                     MegatronMoe("pipe=16,data=32,context=1,tensor=8", 64),
                     VllmMoe("data=64,attention_data=1,tensor=32", 4096)));
  out.push_back(Case("qwen3-235b-256-to-256", "qwen3-235b-a22b",
                     MegatronMoe("pipe=8,data=4,context=1,tensor=8", 32),
                     VllmMoeCut("data=16,attention_data=1,tensor=16", 256)));
  out.push_back(Case("qwen3.5-397b-256-to-256", "qwen3.5-397b-a17b",
                     MegatronMoe("pipe=8,data=4,context=1,tensor=8", 32),
                     VllmMoe("data=16,attention_data=1,tensor=16", 256)));
  out.push_back(Case("kimi-k2-256-to-128", "kimi-k2",
                     MegatronMoe("pipe=8,data=16,context=1,tensor=2", 32),
                     VllmMoe("data=1,attention_data=16,tensor=8", 256)));
  out.back().cast = DType::kF8E4M3;
  out.push_back(Case("llama-405b-128-to-128", "llama-3.1-405b",
                     {"megatron", {}, "pipe=16,data=1,tensor=8", 0},
                     Vllm("data=8,tensor=16", 128)));
  out.push_back(Case("llama-405b-fsdp-512-to-128", "llama-3.1-405b",
                     {"fsdp_flat", {}, "data=1,shard=512", 0},
                     Vllm("data=8,tensor=16", 512)));
  // The second half of the trainers' devices runs engines as well.
  out.push_back(Case("qwen3-235b-partly-colocated", "qwen3-235b-a22b",
                     MegatronMoe("pipe=4,data=8,context=1,tensor=4", 32),
                     VllmMoe("data=16,attention_data=1,tensor=8", 64)));
  out.push_back(Case("qwen3-30b-colocated", "qwen3-30b-a3b",
                     MegatronMoe("pipe=2,data=4,context=1,tensor=4", 8),
                     VllmMoe("data=8,attention_data=1,tensor=4", 0)));
  out.push_back(Case("qwen3-30b-ethernet", "qwen3-30b-a3b",
                     {"fsdp", {}, "data=1,shard=32", 0},
                     VllmMoe("data=8,attention_data=1,tensor=4", 32)));
  out.back().links = "ethernet_100g";
  out.back().cards_per_node = 1;
  out.push_back(Case("kimi-k2-nvl72", "kimi-k2",
                     MegatronMoe("pipe=4,data=9,context=1,tensor=4", 12),
                     VllmMoe("data=2,attention_data=9,tensor=4", 144)));
  out.back().links = "gb200_nvl72";
  out.back().ranks_per_node = 72;
  out.back().cards_per_node = 72;
  return out;
}

absl::StatusOr<PlacementGeometry> MakePlacement(std::string name,
                                                const CaseSide& side,
                                                const ModelPreset& model,
                                                DType matrices) {
  PlacementGeometry out;
  out.name = std::move(name);
  std::map<std::string, int64_t> variables = model.variables;
  for (const auto& [variable, value] : side.variables) {
    variables[variable] = value;
  }
  SLUICE_ASSIGN_OR_RETURN(const absl::string_view text,
                          FindLayoutPreset(side.layout));
  SLUICE_ASSIGN_OR_RETURN(Layout layout, ResolvePreset(text, variables));
  if (matrices != DType::kUnspecified) {
    SLUICE_RETURN_IF_ERROR(CastMatrices(model.model, matrices, layout));
  }
  out.layout = std::make_shared<const Layout>(std::move(layout));
  SLUICE_ASSIGN_OR_RETURN(out.mesh.axes, ParseAxes(side.axes));
  for (int32_t i = 0; i < side.num_ranks(); ++i) {
    out.mesh.ranks.emplace_back(side.first_rank + i);
  }
  return out;
}

}  // namespace

int32_t CaseSide::num_ranks() const {
  const auto parsed = ParseAxes(axes);
  if (!parsed.ok()) return 0;
  int64_t size = 1;
  for (const MeshAxis& axis : *parsed) size *= axis.size;
  return static_cast<int32_t>(size);
}

int32_t PublishedCase::num_ranks() const {
  return trainer.num_ranks() + rollout.num_ranks() - num_colocated();
}

int32_t PublishedCase::num_colocated() const {
  const int32_t first = std::max(trainer.first_rank, rollout.first_rank);
  const int32_t last = std::min(trainer.first_rank + trainer.num_ranks(),
                                rollout.first_rank + rollout.num_ranks());
  return std::max(last - first, 0);
}

const std::vector<PublishedCase>& PublishedCases() {
  static const auto* const cases = new std::vector<PublishedCase>(MakeCases());
  return *cases;
}

absl::StatusOr<PublishedCase> FindPublishedCase(absl::string_view name) {
  std::string names;
  for (const PublishedCase& published : PublishedCases()) {
    if (published.name == name) return published;
    absl::StrAppend(&names, names.empty() ? "" : ", ", published.name);
  }
  return absl::NotFoundError(
      absl::StrCat("case \"", name, "\": expected one of ", names));
}

absl::StatusOr<ReshardInput> MakeReshardInput(
    const PublishedCase& published,
    const std::map<std::string, int64_t>& overrides) {
  SLUICE_ASSIGN_OR_RETURN(ModelPreset preset,
                          FindModelPreset(published.model, overrides));
  ReshardInput input;
  SLUICE_ASSIGN_OR_RETURN(
      input.source,
      MakePlacement("trainer", published.trainer, preset, DType::kUnspecified));
  SLUICE_ASSIGN_OR_RETURN(
      PlacementGeometry rollout,
      MakePlacement("rollout", published.rollout, preset, published.cast));
  input.destinations.push_back(std::move(rollout));
  input.model = std::make_shared<const ModelSpec>(std::move(preset.model));
  const int64_t replicas = NumReplicas(*input.source.layout, input.source.mesh);
  for (int64_t r = 0; r < replicas; ++r) input.source_replicas.push_back(r);
  const int32_t end =
      std::max(published.trainer.first_rank + published.trainer.num_ranks(),
               published.rollout.first_rank + published.rollout.num_ranks());
  for (int32_t rank = 0; rank < end; ++rank) {
    const int32_t place = rank % published.ranks_per_node;
    input.topology.node_of_rank.push_back(rank / published.ranks_per_node);
    input.topology.card_of_rank.push_back(place * published.cards_per_node /
                                          published.ranks_per_node);
  }
  return input;
}

}  // namespace sluice::bench
