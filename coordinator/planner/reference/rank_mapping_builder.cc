#include "coordinator/planner/reference/rank_mapping_builder.h"

#include <algorithm>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace sluice::coordinator::reference {

void MappingWriter::Add(int32_t sender, int32_t receiver) {
  int32_t& position = position_[static_cast<size_t>(sender)];
  if (position < 0) {
    position = static_cast<int32_t>(mapping_.size());
    mapping_.push_back({sender, {}});
  }
  mapping_[static_cast<size_t>(position)].receivers.push_back(receiver);
}

RankMappingBuilder::RankMappingBuilder(const RankMappingInput& input,
                                       RankMapping& mapping)
    : input_(input),
      mapping_(mapping),
      num_sources_(input.source.num_ranks()),
      num_ranks_(num_sources_ + input.destination.replicas *
                                    input.destination.ranks_per_replica()),
      ratio_(mapping.tensor_ratio),
      balancer_(input.destination.replicas * input.destination.expert *
                    input.destination.pipe * input.source.tensor,
                std::max(ratio_, 1)),
      receives_(static_cast<size_t>(num_ranks_)) {}

absl::StatusOr<std::vector<RankMappingBuilder::RankList>>
RankMappingBuilder::Cut(const RankList& ranks, int32_t size) const {
  const auto step = static_cast<size_t>(size);
  if (ranks.empty() || ranks.size() % step != 0 ||
      ranks.size() / step % static_cast<size_t>(input_.source.pipe) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "rank mapping: expected a copy's ranks in ", input_.source.pipe,
        " stages of groups of ", size, ", found ", ranks.size(), " ranks"));
  }
  std::vector<RankList> groups;
  for (size_t i = 0; i < ranks.size(); i += step) {
    groups.emplace_back(ranks.begin() + static_cast<int64_t>(i),
                        ranks.begin() + static_cast<int64_t>(i + step));
  }
  return groups;
}

std::vector<const RankMappingBuilder::RankList*>
RankMappingBuilder::CopiesInTurns() const {
  std::vector<const RankList*> lists;
  for (const RankList& copy : mapping_.copies) lists.push_back(&copy);
  // Colocated models with an odd tensor size start from the other end, away
  // from their own GPUs.
  if (input_.colocated && input_.source.tensor % 2 == 1) {
    std::reverse(lists.begin(), lists.end());
  }
  return lists;
}

std::vector<std::vector<RankMappingBuilder::RankList>>
RankMappingBuilder::StagesByExpert(const RankList& replica) const {
  const DestinationSizes& to = input_.destination;
  std::vector<std::vector<RankList>> stages(static_cast<size_t>(to.expert));
  auto first = replica.begin();
  for (int32_t pipe = 0; pipe < to.pipe; ++pipe) {
    for (std::vector<RankList>& of_expert : stages) {
      of_expert.emplace_back(first, first + to.tensor);
      first += to.tensor;
    }
  }
  return stages;
}

absl::Status RankMappingBuilder::CheckPipes() const {
  if (input_.source.pipe % input_.destination.pipe == 0) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "rank mapping: expected the source's pipeline stages to be a multiple of "
      "the destination's ",
      input_.destination.pipe, ", found ", input_.source.pipe));
}

void RankMappingBuilder::AddRegroup(const std::vector<RankList>& groups) {
  if (!mapping_.regroup.has_value()) mapping_.regroup.emplace();
  mapping_.regroup->insert(mapping_.regroup->end(), groups.begin(),
                           groups.end());
}

bool RankMappingBuilder::SameGpu(int32_t source, int32_t destination) const {
  if (input_.source_gpus.empty()) return false;
  return input_.source_gpus[static_cast<size_t>(source)] ==
         input_
             .destination_gpus[static_cast<size_t>(destination - num_sources_)];
}

absl::Status RankMappingBuilder::AddDirect(SenderMapping& to) {
  const int32_t from_size = input_.source.tensor * input_.source.expert;
  const int32_t to_size = input_.destination.tensor * input_.destination.expert;
  if (from_size != to_size) {
    return absl::InvalidArgumentError(absl::StrCat(
        "rank mapping: expected equal tensor x expert sizes, found ", from_size,
        " and ", to_size));
  }
  SLUICE_RETURN_IF_ERROR(CheckPipes());
  const int32_t interval = input_.source.pipe / input_.destination.pipe;
  const std::vector<const RankList*> copies = CopiesInTurns();
  MappingWriter writer(to, num_ranks_);
  for (size_t replica = 0; replica < mapping_.replicas.size(); ++replica) {
    SLUICE_ASSIGN_OR_RETURN(const std::vector<RankList> groups,
                            Cut(*copies[replica % copies.size()], from_size));
    AddRegroup(groups);
    if (offset_ >= groups.size()) offset_ = 0;
    for (int32_t i = 0; i < input_.source.pipe; ++i) {
      const RankList& senders = groups[offset_ + static_cast<size_t>(i)];
      const int32_t* receivers =
          &mapping_
               .replicas[replica][static_cast<size_t>(i / interval * to_size)];
      for (size_t k = 0; k < senders.size(); ++k) {
        writer.Add(senders[k], receivers[k]);
      }
    }
    offset_ += static_cast<size_t>(input_.source.pipe);
    if (offset_ == groups.size()) offset_ = 0;
  }
  return absl::OkStatus();
}

absl::Status RankMappingBuilder::AddTwoStage() {
  if (ratio_ < 1 || input_.destination.tensor % input_.source.tensor != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "rank mapping: expected the destination's tensor size to "
        "be a multiple of the source's ",
        input_.source.tensor, ", found ", input_.destination.tensor));
  }
  SLUICE_RETURN_IF_ERROR(CheckPipes());
  if (mapping_.copies_except_routed.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "rank mapping: expected each copy's ranks to be a multiple of tensor x "
        "expert = ",
        input_.source.tensor * input_.source.expert, ", found other copies"));
  }
  MappingWriter stage1(mapping_.stage1, num_ranks_);
  MappingWriter stage2(mapping_.stage2, num_ranks_);
  size_t turn = 0;
  int32_t block = 0;
  for (const RankList& replica : mapping_.replicas) {
    for (const std::vector<RankList>& stages : StagesByExpert(replica)) {
      const RankList& copy =
          mapping_.copies_except_routed[turn++ %
                                        mapping_.copies_except_routed.size()];
      SLUICE_ASSIGN_OR_RETURN(const std::vector<RankList> groups,
                              Cut(copy, input_.source.tensor));
      SLUICE_RETURN_IF_ERROR(AddStageOne(groups, stages, block, stage1));
      AddStageTwo(stages, stage2);
      block += input_.destination.pipe * input_.source.tensor;
    }
  }
  return absl::OkStatus();
}

absl::Status RankMappingBuilder::AddStageOne(
    const std::vector<RankList>& source_groups,
    const std::vector<RankList>& stages, int32_t first_block,
    MappingWriter& writer) {
  const int32_t interval = input_.source.pipe / input_.destination.pipe;
  const int32_t tensor = input_.source.tensor;
  if (offset_ >= source_groups.size()) offset_ = 0;
  // Sources that collide with a candidate choose first, then the others.
  std::vector<char> waits(static_cast<size_t>(input_.source.pipe * tensor), 1);
  for (const bool only_if_collides : {true, false}) {
    for (int32_t i = 0; i < input_.source.pipe; ++i) {
      const int32_t stage = i / interval;
      const int32_t mod = i % ratio_;
      const int32_t start = i < ratio_ ? mod : ratio_ - mod - 1;
      const RankList& group = source_groups[offset_ + static_cast<size_t>(i)];
      for (int32_t s = 0; s < tensor; ++s) {
        char& wait = waits[static_cast<size_t>(i * tensor + s)];
        if (!wait) continue;
        const int32_t source = group[static_cast<size_t>(s)];
        const int32_t* candidates = &stages[static_cast<size_t>(stage)]
                                           [static_cast<size_t>(s * ratio_)];
        const ReceiverBalancer::Choice choice = balancer_.Choose(
            first_block + stage * tensor + s, start, only_if_collides,
            [&](int32_t c) { return SameGpu(source, candidates[c]); });
        if (choice.outcome == ReceiverBalancer::Outcome::kDeferred) continue;
        if (choice.outcome == ReceiverBalancer::Outcome::kInfeasible) {
          return absl::InvalidArgumentError(absl::StrCat(
              "rank mapping: source rank ", source,
              ": expected a receiver on another GPU, found all of ",
              candidates[0], " to ", candidates[ratio_ - 1], " on its own"));
        }
        wait = 0;
        const int32_t receiver = candidates[choice.candidate];
        writer.Add(source, receiver);
        receives_[static_cast<size_t>(receiver)] = 1;
      }
    }
  }
  offset_ += static_cast<size_t>(input_.source.pipe);
  if (offset_ == source_groups.size()) offset_ = 0;
  return absl::OkStatus();
}

void RankMappingBuilder::AddStageTwo(const std::vector<RankList>& stages,
                                     MappingWriter& writer) {
  for (const RankList& stage : stages) {
    for (size_t first = 0; first < stage.size();
         first += static_cast<size_t>(ratio_)) {
      const size_t end = first + static_cast<size_t>(ratio_);
      for (size_t s = first; s < end; ++s) {
        if (!receives_[static_cast<size_t>(stage[s])]) continue;
        for (size_t d = first; d < end; ++d) {
          if (s != d) writer.Add(stage[s], stage[d]);
        }
      }
    }
  }
}

absl::Status RankMappingBuilder::AddExperts(SenderMapping* to) {
  SLUICE_RETURN_IF_ERROR(CheckPipes());
  const size_t per_replica = mapping_.replicas.front().size();
  if (mapping_.copies.front().size() % per_replica != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "rank mapping: expected a copy's ranks to be a multiple of a "
        "replica's ",
        per_replica, ", found ", mapping_.copies.front().size()));
  }
  const int32_t tensor = input_.source.tensor;
  const int32_t interval = input_.source.pipe / input_.destination.pipe;
  const int32_t senders_each = input_.destination.tensor / tensor;
  const std::vector<const RankList*> copies = CopiesInTurns();
  SenderMapping none;
  MappingWriter writer(to == nullptr ? none : *to, num_ranks_);
  struct Turn {
    bool regrouped = false;
    size_t group = 0;    // the first of the next copy in the list
    int32_t expert = 0;  // which sends next
  };
  std::vector<Turn> turns(copies.size());
  for (size_t replica = 0; replica < mapping_.replicas.size(); ++replica) {
    const RankList& copy = *copies[replica % copies.size()];
    SLUICE_ASSIGN_OR_RETURN(const std::vector<RankList> groups,
                            Cut(copy, tensor * input_.source.expert));
    Turn& turn = turns[replica % copies.size()];
    if (!std::exchange(turn.regrouped, true)) AddRegroup(groups);
    if (to == nullptr) continue;
    const std::vector<RankList> stages =
        StagesByExpert(mapping_.replicas[replica]).front();
    for (int32_t i = 0; i < input_.source.pipe; ++i) {
      const RankList& experts = groups[turn.group + static_cast<size_t>(i)];
      const RankList& receivers = stages[static_cast<size_t>(i / interval)];
      for (int32_t k = 0; k < senders_each * tensor; ++k) {
        const int32_t expert =
            (turn.expert + k / tensor) % input_.source.expert;
        writer.Add(experts[static_cast<size_t>(expert * tensor + k % tensor)],
                   receivers[static_cast<size_t>(k)]);
      }
      turn.expert = (turn.expert + senders_each) % input_.source.expert;
    }
    turn.group += static_cast<size_t>(input_.source.pipe);
    if (turn.group == groups.size()) turn.group = 0;
  }
  return absl::OkStatus();
}

}  // namespace sluice::coordinator::reference
