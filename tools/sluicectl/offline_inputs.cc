#include "tools/sluicectl/offline_inputs.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/dtype.h"
#include "common/ids.h"
#include "common/json_strict.h"
#include "common/layout.h"
#include "common/layout_cast.h"
#include "common/mesh.h"
#include "common/status_macros.h"
#include "coordinator/planner/simulation/link_graph.h"
#include "presets/link_presets.h"
#include "presets/model_presets.h"
#include "tools/registration/registration.h"

namespace sluice::ctl {
namespace {

using coordinator::PlacementGeometry;
using coordinator::RedistributionInput;
using coordinator::ReshardInput;
using coordinator::SampleHolding;
using coordinator::Topology;
using Json = nlohmann::json;

constexpr int64_t kMaxRanks = 65536;

bool IsFile(absl::string_view name) {
  return absl::StrContains(name, '/') || absl::EndsWith(name, ".json");
}

absl::StatusOr<std::string> ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  return std::string{std::istreambuf_iterator<char>(file), {}};
}

absl::StatusOr<ModelPreset> ReadModel(const OfflineReshard& asked) {
  SLUICE_ASSIGN_OR_RETURN(const auto overrides,
                          registration::ParseVariables(asked.variables));
  if (!IsFile(asked.model)) return FindModelPreset(asked.model, overrides);
  SLUICE_ASSIGN_OR_RETURN(const std::string text, ReadText(asked.model));
  absl::StatusOr<ModelPreset> model = ParseModelPreset(text, overrides);
  if (!model.ok()) return Annotate(model.status(), asked.model);
  return model;
}

// A mesh over ranks first, first + 1, ...
absl::StatusOr<Mesh> MakeMesh(absl::string_view axes, int32_t first) {
  Mesh mesh;
  SLUICE_ASSIGN_OR_RETURN(mesh.axes, ParseAxes(axes));
  int64_t size = 1;
  for (const MeshAxis& axis : mesh.axes) {
    if (axis.size > kMaxRanks || (size *= axis.size) > kMaxRanks) {
      return absl::InvalidArgumentError(absl::StrCat(
          "mesh ", axes, ": expected at most ", kMaxRanks, " ranks"));
    }
  }
  if (first < 0 || first + size > kMaxRanks) {
    return absl::InvalidArgumentError(
        absl::StrCat("mesh ", axes, ": expected a first rank of [0, ",
                     kMaxRanks - size, "], found ", first));
  }
  for (int64_t i = 0; i < size; ++i) {
    mesh.ranks.emplace_back(first + static_cast<int32_t>(i));
  }
  return mesh;
}

absl::StatusOr<PlacementGeometry> MakePlacement(std::string name,
                                                const OfflineSide& side,
                                                const ModelPreset& model) {
  PlacementGeometry out;
  out.name = std::move(name);
  std::map<std::string, int64_t> variables = model.variables;
  SLUICE_ASSIGN_OR_RETURN(const auto given,
                          registration::ParseVariables(side.variables));
  for (const auto& [variable, value] : given) variables[variable] = value;
  SLUICE_ASSIGN_OR_RETURN(
      Layout layout,
      registration::FindLayout(side.layout, model.model, variables));
  if (!side.matrices.empty()) {
    SLUICE_ASSIGN_OR_RETURN(const DType dtype, ParseDType(side.matrices));
    SLUICE_RETURN_IF_ERROR(CastMatrices(model.model, dtype, layout));
  }
  SLUICE_ASSIGN_OR_RETURN(const std::string axes,
                          registration::CompleteAxes(layout, side.mesh));
  SLUICE_ASSIGN_OR_RETURN(out.mesh, MakeMesh(axes, side.first_rank));
  out.layout = std::make_shared<const Layout>(std::move(layout));
  return out;
}

int32_t EndOf(const Mesh& mesh) { return mesh.ranks.back().value() + 1; }

SampleHolding MakeHolding(std::string sample, std::string key, int64_t bytes) {
  SampleHolding out;
  out.entry.sample_id = std::move(sample);
  out.entry.key = std::move(key);
  out.entry.dtype = DType::kU8;
  out.entry.sequence_lengths = {bytes};
  return out;
}

// The ranks that stand at position `i` of the mesh's first axis.
std::vector<Rank> RanksAt(const Mesh& mesh, int64_t i) {
  const int64_t width = mesh.size() / mesh.axes[0].size;
  return {mesh.ranks.begin() + i * width, mesh.ranks.begin() + (i + 1) * width};
}

absl::StatusOr<RedistributionInput> MadeBatch(const OfflineBatch& asked,
                                              int32_t& num_ranks) {
  if (asked.samples < 1 || asked.keys < 1 || asked.bytes < 0 ||
      asked.samples > (int64_t{1} << 24) / asked.keys) {
    return absl::InvalidArgumentError(
        absl::StrCat("batch: expected 1 to 2^24 samples times keys, found ",
                     asked.samples, " samples and ", asked.keys, " keys"));
  }
  SLUICE_ASSIGN_OR_RETURN(const Mesh from,
                          MakeMesh(asked.from_mesh, asked.from_rank));
  SLUICE_ASSIGN_OR_RETURN(const Mesh to,
                          MakeMesh(asked.to_mesh, asked.to_rank));
  num_ranks = std::max(EndOf(from), EndOf(to));
  const int64_t producers = from.axes[0].size;
  const int64_t consumers = to.axes[0].size;
  const int64_t share = (asked.samples + consumers - 1) / consumers;
  RedistributionInput input;
  for (int64_t i = 0; i < asked.samples; ++i) {
    const Rank holder = RanksAt(from, i % producers)[0];
    const std::vector<Rank> takers = RanksAt(to, i / share);
    for (int64_t k = 0; k < asked.keys; ++k) {
      SampleHolding& holding = input.holdings.emplace_back(MakeHolding(
          absl::StrCat("s", absl::Dec(i, absl::kZeroPad8)),
          absl::StrCat("k", absl::Dec(k, absl::kZeroPad4)), asked.bytes));
      holding.holders = {holder};
      holding.owner = holder;
      input.wanted.push_back(takers);
    }
  }
  return input;
}

// Reads a file's batch. Members of another type throw, which the caller turns
// into a status.
class BatchReader {
 public:
  BatchReader(const Json& batch, int64_t bytes)
      : batch_(batch), bytes_(bytes) {}

  absl::StatusOr<RedistributionInput> Read(int32_t& num_ranks) {
    const Json& storages = batch_.at("tracker").at("storages");
    num_ranks = static_cast<int32_t>(storages.size());
    for (const Json& key : batch_.at("keys")) {
      keys_.push_back(key.get<std::string>());
    }
    for (size_t rank = 0; rank < storages.size(); ++rank) {
      for (const Json& held : storages[rank]) {
        for (const Json& key : held.at(1)) {
          held_[{Id(held.at(0)), key.get<std::string>()}].insert(
              static_cast<int32_t>(rank));
        }
      }
    }
    for (const Json& owner : batch_.at("tracker").at("owners")) {
      owner_[{Id(owner.at(0)), owner.at(1).get<std::string>()}] =
          owner.at(2).get<int32_t>();
    }
    for (const Json& dest : batch_.at("dests")) {
      const auto rank = dest.at(0).get<int32_t>();
      if (rank < 0 || rank >= num_ranks) {
        return absl::InvalidArgumentError(
            absl::StrCat("dests: expected ranks of [0, ", num_ranks,
                         "), as there are storages, found ", rank));
      }
      for (const Json& id : dest.at(1)) {
        for (const std::string& key : keys_)
          wanted_[{Id(id), key}].insert(rank);
      }
    }
    return Make();
  }

 private:
  using Name = std::pair<std::string, std::string>;  // sample, key

  static std::string Id(const Json& id) {
    return id.is_string() ? id.get<std::string>() : id.dump();
  }

  absl::StatusOr<RedistributionInput> Make() const {
    RedistributionInput input;
    for (const auto& [name, ranks] : wanted_) {
      const auto held = held_.find(name);
      if (held == held_.end()) {
        return absl::InvalidArgumentError(absl::StrCat(
            "sample \"", name.first, "\" key \"", name.second,
            "\": wanted by rank ", *ranks.begin(), ", held by nobody"));
      }
      int64_t bytes = bytes_;
      if (batch_.contains("bytes") && batch_["bytes"].contains(name.second)) {
        bytes = batch_["bytes"][name.second].get<int64_t>();
      }
      SampleHolding& holding = input.holdings.emplace_back(
          MakeHolding(name.first, name.second, bytes));
      for (const int32_t rank : held->second) {
        holding.holders.emplace_back(rank);
      }
      const auto owner = owner_.find(name);
      holding.owner =
          owner == owner_.end() ? holding.holders[0] : Rank(owner->second);
      std::vector<Rank>& wanted = input.wanted.emplace_back();
      for (const int32_t rank : ranks) wanted.emplace_back(rank);
    }
    return input;
  }

  const Json& batch_;
  const int64_t bytes_;
  std::vector<std::string> keys_;
  std::map<Name, std::set<int32_t>> held_, wanted_;
  std::map<Name, int32_t> owner_;
};

}  // namespace

absl::StatusOr<Json> ReadJsonFile(const std::string& path) {
  SLUICE_ASSIGN_OR_RETURN(const std::string text, ReadText(path));
  absl::StatusOr<Json> json = ParseJson(text);
  if (!json.ok()) return Annotate(json.status(), path);
  return json;
}

absl::StatusOr<LinkTable> ReadLinks(const std::string& name) {
  if (!IsFile(name)) return FindLinkPreset(name);
  SLUICE_ASSIGN_OR_RETURN(const std::string text, ReadText(name));
  absl::StatusOr<LinkTable> table = ParseLinkTable(text);
  if (!table.ok()) return Annotate(table.status(), name);
  return table;
}

absl::StatusOr<Topology> PlaceRanks(const LinkTable& links, int32_t num_ranks,
                                    absl::string_view nodes) {
  SLUICE_ASSIGN_OR_RETURN(
      Topology topology, coordinator::simulation::TopologyOf(links, num_ranks));
  if (nodes.empty()) return topology;
  const std::vector<std::string> given = absl::StrSplit(nodes, ',');
  if (static_cast<int64_t>(given.size()) != num_ranks) {
    return absl::InvalidArgumentError(
        absl::StrCat("nodes: expected one for each of ", num_ranks,
                     " ranks, found ", given.size()));
  }
  std::map<int32_t, int32_t> on_node;  // ranks so far
  for (size_t r = 0; r < given.size(); ++r) {
    int32_t node = 0;
    if (!absl::SimpleAtoi(given[r], &node) || node < 0 || node > kMaxRanks) {
      return absl::InvalidArgumentError(
          absl::StrCat("nodes: rank ", r, ": expected a number of 0 or more, ",
                       "found \"", given[r], "\""));
    }
    topology.node_of_rank[r] = node;
    topology.card_of_rank[r] = on_node[node]++ % links.ranks_per_node *
                               links.cards_per_node / links.ranks_per_node;
  }
  return topology;
}

absl::StatusOr<ReshardInput> MakeReshard(const OfflineReshard& asked,
                                         const LinkTable& links,
                                         absl::string_view nodes) {
  SLUICE_ASSIGN_OR_RETURN(ModelPreset model, ReadModel(asked));
  ReshardInput input;
  absl::StatusOr<PlacementGeometry> from =
      MakePlacement("from", asked.from, model);
  if (!from.ok()) return Annotate(from.status(), "--from");
  absl::StatusOr<PlacementGeometry> to = MakePlacement("to", asked.to, model);
  if (!to.ok()) return Annotate(to.status(), "--to");
  input.source = *std::move(from);
  input.destinations = {*std::move(to)};
  input.model = std::make_shared<const ModelSpec>(std::move(model.model));
  const int64_t replicas = NumReplicas(*input.source.layout, input.source.mesh);
  for (int64_t r = 0; r < replicas; ++r) input.source_replicas.push_back(r);
  SLUICE_ASSIGN_OR_RETURN(
      input.topology, PlaceRanks(links,
                                 std::max(EndOf(input.source.mesh),
                                          EndOf(input.destinations[0].mesh)),
                                 nodes));
  return input;
}

absl::StatusOr<RedistributionInput> MakeRedistribution(
    const OfflineBatch& asked, const LinkTable& links,
    absl::string_view nodes) {
  int32_t num_ranks = 0;
  absl::StatusOr<RedistributionInput> input;
  if (asked.file.empty()) {
    input = MadeBatch(asked, num_ranks);
  } else {
    SLUICE_ASSIGN_OR_RETURN(const Json batch, ReadJsonFile(asked.file));
    try {
      input = BatchReader(batch, asked.bytes).Read(num_ranks);
    } catch (const Json::exception& error) {
      // A member that is missing or of another type.
      input = absl::InvalidArgumentError(error.what());
    }
    if (!input.ok()) return Annotate(input.status(), asked.file);
  }
  if (!input.ok()) return input.status();
  SLUICE_ASSIGN_OR_RETURN(input->topology, PlaceRanks(links, num_ranks, nodes));
  return input;
}

}  // namespace sluice::ctl
