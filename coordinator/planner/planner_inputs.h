#ifndef SLUICE_COORDINATOR_PLANNER_PLANNER_INPUTS_H_
#define SLUICE_COORDINATOR_PLANNER_PLANNER_INPUTS_H_

// Immutable snapshots the planners and the validator read: projections of what
// was asked, never the whole catalogue.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/ids.h"
#include "common/layout.h"
#include "common/mesh.h"
#include "common/model.h"
#include "common/plan.h"

namespace sluice::coordinator {

// Where agents stand: which node each rank is on. Ranks not listed do not
// exist. Rates in bytes per second are for estimates only.
struct Topology {
  std::vector<int32_t> node_of_rank;  // -1: no such agent
  // Which of its node's network cards each rank uses, numbered from 0 per node;
  // empty: one card per node.
  std::vector<int32_t> card_of_rank;
  double same_device_rate = 10e9;
  double same_node_rate = 10e9;
  double between_nodes_rate = 5e9;

  int32_t num_ranks() const {
    return static_cast<int32_t>(node_of_rank.size());
  }
  LinkClass Between(Rank a, Rank b) const;
};

// A placement's geometry.
struct PlacementGeometry {
  std::string name;
  std::shared_ptr<const Layout> layout;
  Mesh mesh;
};

// How a movement is planned. Samples: all but kTwoStage; parameters: kDirect
// and kTwoStage.
enum class Pattern {
  kUnspecified = 0,
  kDirect = 1,
  kGatherScatter = 2,
  kBroadcast = 3,
  kTwoStage = 4,
};

struct ReshardInput {
  std::shared_ptr<const ModelSpec> model;
  PlacementGeometry source;
  // Replicas of the source that hold the version; others are not read.
  std::vector<int64_t> source_replicas;
  std::vector<PlacementGeometry> destinations;
  Pattern pattern = Pattern::kDirect;
  Topology topology;
};

// One (sample, key) tensor that is wanted, and who holds it.
struct SampleHolding {
  SampleEntry entry;
  std::vector<Rank> holders;  // ascending, not empty
  // One of the holders. What is held but owned by nobody is refused: where an
  // owner is lost, the catalogue makes the lowest holder the owner first.
  Rank owner = kNoRank;
};

struct RedistributionInput {
  // Every (sample, key) that anybody wants, each once; ordered by (sample,
  // key).
  std::vector<SampleHolding> holdings;
  // wanted[i]: ranks that want holdings[i], ascending; may include holders.
  std::vector<std::vector<Rank>> wanted;
  Pattern pattern = Pattern::kUnspecified;
  Topology topology;
};

// Agents pack what crosses between nodes into buckets of at least this size.
inline constexpr int64_t kSmallestBucketBytes = int64_t{1} << 20;

// Limits that fail closed with RESOURCE_EXHAUSTED.
struct PlanningLimits {
  int64_t max_transfers = int64_t{1} << 22;
  int64_t max_ranks = 65536;
  int64_t max_bytes = int64_t{1} << 58;  // moved by one plan
  // Staging memory of an agent, 0 = as much as it has. Not less than
  // kSmallestBucketBytes where anything crosses between nodes.
  int64_t staging_bytes = 0;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_PLANNER_PLANNER_INPUTS_H_
