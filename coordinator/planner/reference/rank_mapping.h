#ifndef SLUICE_COORDINATOR_PLANNER_REFERENCE_RANK_MAPPING_H_
#define SLUICE_COORDINATOR_PLANNER_REFERENCE_RANK_MAPPING_H_

// Which trainer rank sends its parameters to which inference rank. As
// ChatLearn's ParameterSyncGroup and ParameterSyncGroupwithHEP
// (chatlearn/synchronizer/parameter_sync.py), which pair ranks by position and
// therefore want sizes that divide. The reshard planner has no such limits;
// this is the mapping to compare it with.
//
// Ranks of both sides are numbered together. Source ranks are [0, S): tensor
// varies fastest, then expert, then data / expert, then pipe. Destination ranks
// follow, replica by replica: tensor fastest, then expert, then pipe.
//
// With a larger destination tensor size, `tensor_ratio` destination ranks need
// slices of one source rank. Then there are two stages: the source sends to
// one of them (stage 1), which sends to the others (stage 2).

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/planner/reference/sync_groups.h"

namespace sluice::coordinator::reference {

enum class MappingVariant {
  kBase,
  // Routed experts are split over tensor x expert ranks together ("hyper
  // expert parallel") and travel apart from all other parameters.
  kHyperExpert,
};
enum class SyncType { kBroadcast, kPointToPoint };
enum class RegroupType { kAllGather, kAllToAll };

struct SourceSizes {
  int32_t tensor = 1;
  int32_t pipe = 1;
  int32_t expert = 1;
  int32_t data = 1;  // a multiple of expert: experts are over data ranks
  int32_t num_ranks() const { return tensor * pipe * data; }
};

struct DestinationSizes {
  int32_t tensor = 1;
  int32_t pipe = 1;
  int32_t expert = 1;
  int32_t replicas = 1;
  bool is_vllm = false;  // kHyperExpert: how routed experts are wanted
  int32_t ranks_per_replica() const { return tensor * pipe * expert; }
};

// What a source process says of itself.
struct SourceActor {
  int32_t copy = 0;            // which copy of the parameters it belongs to
  int32_t parameter_rank = 0;  // the source rank that stands for it there
  int32_t data_rank = 0;
};

struct RankMappingInput {
  SourceSizes source;
  DestinationSizes destination;
  MappingVariant variant = MappingVariant::kBase;
  bool colocated = false;                             // both on the same GPUs
  SyncType sync_type = SyncType::kBroadcast;          // wanted
  RegroupType regroup_type = RegroupType::kAllToAll;  // wanted
  // By source rank; empty: MegatronActors().
  std::vector<SourceActor> actors;
  // Numbers of GPUs by rank: equal numbers are one GPU. Empty: all different.
  std::vector<int32_t> source_gpus, destination_gpus;
};

struct RankMapping {
  int32_t tensor_ratio = 1;  // destination tensor size over the source's
  SyncType sync_type = SyncType::kBroadcast;
  RegroupType regroup_type = RegroupType::kAllToAll;
  // Source ranks of each copy of all parameters, and of each copy of those that
  // are not routed experts (an expert rank has them all). The latter is empty
  // where copies do not divide into expert ranks.
  std::vector<std::vector<int32_t>> copies, copies_except_routed;
  std::vector<std::vector<int32_t>> replicas;  // destination ranks of each
  SenderMapping stage1, stage2;
  SenderMapping routed;  // kHyperExpert: routed experts alone
  // Source ranks that regroup their experts before sending; none where that is
  // not part of this mapping.
  std::optional<std::vector<std::vector<int32_t>>> regroup;
  // Pairs of stage 1 on one GPU: a copy on the device, never a communicator,
  // which would hold one GPU twice.
  std::vector<std::pair<int32_t, int32_t>> local_pairs;
};

// What Megatron's processes say.
std::vector<SourceActor> MegatronActors(const SourceSizes& source);

// Pairs ranks. Receivers are chosen so that a group's ranks receive about
// equally often and none from a source on its own GPU.
//
// Where the reference is wrong: several copies in one list are used in turns
// over and over; each of a destination's expert ranks is served; candidates
// that collide are tried once; sizes that do not divide are refused instead of
// leaving ranks out; two stages always broadcast.
//
// Errors: INVALID_ARGUMENT - sizes below 1 or that do not divide as the variant
// needs (both named), lists of another length than there are ranks, an actor's
// rank outside the source, every candidate of a source on its own GPU.
absl::StatusOr<RankMapping> MapRanks(const RankMappingInput& input);

// Returns which slice of its source's parameters a destination rank needs, of
// tensor_ratio: by its tensor rank. (The reference takes its number among all
// ranks, which swaps slices unless the source ranks divide by the ratio.)
int32_t TensorSlice(const RankMappingInput& input, int32_t destination_rank);

}  // namespace sluice::coordinator::reference

#endif  // SLUICE_COORDINATOR_PLANNER_REFERENCE_RANK_MAPPING_H_
