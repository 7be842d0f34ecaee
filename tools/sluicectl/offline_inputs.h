#ifndef SLUICE_TOOLS_SLUICECTL_OFFLINE_INPUTS_H_
#define SLUICE_TOOLS_SLUICECTL_OFFLINE_INPUTS_H_

// From what a user says to what the planners ask, without a cluster: presets or
// files, meshes, and nodes as a link table has them.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/link_table.h"
#include "coordinator/planner/planner_inputs.h"

namespace sluice::ctl {

// One placement.
struct OfflineSide {
  std::string layout;     // preset or JSON file
  std::string mesh;       // "pipe=2,tensor=4"; missing axes are 1
  std::string variables;  // "expert_parallel=8" for the layout's preset
  std::string matrices;   // "F8_E4M3": holds matrices so; empty: as the layout
  int32_t first_rank = 0;
};

struct OfflineReshard {
  std::string model;      // preset or JSON file
  std::string variables;  // "num_hidden_layers=4" for the model
  OfflineSide from, to;
};

// A batch: either a file, or made of these numbers.
struct OfflineBatch {
  std::string file;
  int64_t samples = 0;
  int64_t keys = 1;
  int64_t bytes = 64 << 10;  // of one (sample, key)
  std::string from_mesh, to_mesh;
  int32_t from_rank = 0, to_rank = 0;
};

// Returns the preset of that name, or what the JSON file holds (a name with a
// '/' or that ends in ".json"). Errors: NOT_FOUND, INVALID_ARGUMENT.
absl::StatusOr<LinkTable> ReadLinks(const std::string& name);

// Reads a JSON file. Errors: NOT_FOUND - cannot be read; INVALID_ARGUMENT.
absl::StatusOr<nlohmann::json> ReadJsonFile(const std::string& path);

// Returns the ranks on nodes: as the table has them, or as `nodes` says
// ("0,0,1,1": the node of each rank). Errors: INVALID_ARGUMENT - no numbers, or
// another number of them than ranks.
absl::StatusOr<coordinator::Topology> PlaceRanks(const LinkTable& links,
                                                 int32_t num_ranks,
                                                 absl::string_view nodes);

// Errors: NOT_FOUND - no such preset or file; INVALID_ARGUMENT - as presets,
// layouts and meshes have it; names the side.
absl::StatusOr<coordinator::ReshardInput> MakeReshard(
    const OfflineReshard& asked, const LinkTable& links,
    absl::string_view nodes);

// A made batch: sample i is held by producer i modulo their number (position 0
// of every axis but the first of --from-mesh), and all ranks of a consumer
// (first axis of --to-mesh) want an equal run of samples.
//
// A file is an object as in the golden vectors of patterns: "tracker" with
// "storages" and "owners", "dests", "keys"; "bytes" gives the bytes of a key's
// tensor by key, else they have `bytes`. docs/planning_cli.md has an example.
// Errors: as above; INVALID_ARGUMENT - a (sample, key) that is wanted and held
// by nobody.
absl::StatusOr<coordinator::RedistributionInput> MakeRedistribution(
    const OfflineBatch& asked, const LinkTable& links, absl::string_view nodes);

}  // namespace sluice::ctl

#endif  // SLUICE_TOOLS_SLUICECTL_OFFLINE_INPUTS_H_
