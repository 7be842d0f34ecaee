#ifndef SLUICE_COORDINATOR_PLANNER_REFERENCE_RANK_MAPPING_BUILDER_H_
#define SLUICE_COORDINATOR_PLANNER_REFERENCE_RANK_MAPPING_BUILDER_H_

// The pieces that rank mappings of both variants are made of.

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/planner/reference/rank_mapping.h"
#include "coordinator/planner/reference/receiver_balancer.h"

namespace sluice::coordinator::reference {

// A sender mapping under construction.
class MappingWriter {
 public:
  MappingWriter(SenderMapping& mapping, int32_t num_ranks)
      : mapping_(mapping), position_(static_cast<size_t>(num_ranks), -1) {}
  void Add(int32_t sender, int32_t receiver);

 private:
  SenderMapping& mapping_;
  std::vector<int32_t> position_;  // of each sender in the mapping, or -1
};

// Takes a checked input. Each method adds to `mapping`.
class RankMappingBuilder {
 public:
  RankMappingBuilder(const RankMappingInput& input, RankMapping& mapping);

  // Position by position: tensor x expert ranks of a source stage to those of
  // its destination stage, copies in turns. Experts are regrouped in each.
  absl::Status AddDirect(SenderMapping& to);
  // Through one rank of each group of tensor_ratio receivers.
  absl::Status AddTwoStage();
  // Every expert rank regroups its experts with the others of its stage; with
  // `to`, the stage's expert ranks then serve a destination stage in turns.
  absl::Status AddExperts(SenderMapping* to);

 private:
  using RankList = std::vector<int32_t>;

  // Cuts a list into runs of `size`.
  absl::StatusOr<std::vector<RankList>> Cut(const RankList& ranks,
                                            int32_t size) const;
  // Copies in the order in which replicas use them.
  std::vector<const RankList*> CopiesInTurns() const;
  // Stages of a replica for each expert rank: groups of tensor ranks, those of
  // expert rank 0 first.
  std::vector<std::vector<RankList>> StagesByExpert(
      const RankList& replica) const;
  absl::Status CheckPipes() const;
  void AddRegroup(const std::vector<RankList>& groups);
  // Stage 1 of one replica (one of its expert ranks) from one copy.
  absl::Status AddStageOne(const std::vector<RankList>& source_groups,
                           const std::vector<RankList>& stages,
                           int32_t first_block, MappingWriter& writer);
  void AddStageTwo(const std::vector<RankList>& stages, MappingWriter& writer);
  bool SameGpu(int32_t source, int32_t destination) const;

  const RankMappingInput& input_;
  RankMapping& mapping_;
  const int32_t num_sources_;
  const int32_t num_ranks_;  // of both sides
  const int32_t ratio_;
  ReceiverBalancer balancer_;
  std::vector<char> receives_;  // by rank: stage 1 has it
  // The first group of a copy's list that the next replica uses; lists that
  // hold several copies are used in turns.
  size_t offset_ = 0;
};

}  // namespace sluice::coordinator::reference

#endif  // SLUICE_COORDINATOR_PLANNER_REFERENCE_RANK_MAPPING_BUILDER_H_
