#include "coordinator/planner/reference/rank_mapping.h"

#include <algorithm>
#include <map>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/status_macros.h"
#include "coordinator/planner/reference/rank_mapping_builder.h"

namespace sluice::coordinator::reference {
namespace {

constexpr int64_t kMaxRanks = 1 << 24;  // of one side

absl::Status CheckSizes(const RankMappingInput& input) {
  const SourceSizes& from = input.source;
  const DestinationSizes& to = input.destination;
  int64_t sources = 1, destinations = 1;
  for (const int32_t size : {from.tensor, from.pipe, from.data, from.expert}) {
    if (size < 1) {
      return absl::InvalidArgumentError(absl::StrCat(
          "rank mapping: source: expected sizes of at least 1, found ", size));
    }
    sources = std::min(sources * size, kMaxRanks * kMaxRanks);
  }
  for (const int32_t size : {to.tensor, to.pipe, to.expert, to.replicas}) {
    if (size < 1) {
      return absl::InvalidArgumentError(absl::StrCat(
          "rank mapping: destination: expected sizes of at least 1, found ",
          size));
    }
    destinations = std::min(destinations * size, kMaxRanks * kMaxRanks);
  }
  if (sources / from.expert > kMaxRanks || destinations > kMaxRanks) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank mapping: expected at most ", kMaxRanks,
                     " ranks on each side, found ", sources / from.expert,
                     " and ", destinations));
  }
  if (from.data % from.expert != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank mapping: source: expected a data size that is a "
                     "multiple of the expert size ",
                     from.expert, ", found ", from.data));
  }
  return absl::OkStatus();
}

absl::Status CheckLists(const RankMappingInput& input) {
  const auto sources = static_cast<size_t>(input.source.num_ranks());
  const auto destinations =
      static_cast<size_t>(input.destination.replicas) *
      static_cast<size_t>(input.destination.ranks_per_replica());
  const auto check = [](absl::string_view what, size_t expected, size_t found) {
    if (found == 0 || found == expected) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("rank mapping: ", what,
                     ": expected none or one for each "
                     "of ",
                     expected, " ranks, found ", found));
  };
  SLUICE_RETURN_IF_ERROR(check("actors", sources, input.actors.size()));
  SLUICE_RETURN_IF_ERROR(
      check("source GPUs", sources, input.source_gpus.size()));
  SLUICE_RETURN_IF_ERROR(
      check("destination GPUs", destinations, input.destination_gpus.size()));
  if (input.source_gpus.empty() != input.destination_gpus.empty()) {
    return absl::InvalidArgumentError(
        "rank mapping: expected GPUs of both sides or of none, found one");
  }
  for (const SourceActor& actor : input.actors) {
    if (actor.parameter_rank >= 0 &&
        actor.parameter_rank < input.source.num_ranks()) {
      continue;
    }
    return absl::InvalidArgumentError(
        absl::StrCat("rank mapping: actors: expected a rank of [0, ", sources,
                     "), found ", actor.parameter_rank));
  }
  return absl::OkStatus();
}

// Reads the copies from what the actors say. An expert rank's share of a copy
// holds all parameters but routed experts: a copy of those.
void FindCopies(const RankMappingInput& input, RankMapping& mapping) {
  const std::vector<SourceActor> actors =
      input.actors.empty() ? MegatronActors(input.source) : input.actors;
  std::map<int32_t, size_t> position;  // in `seen`
  std::vector<std::vector<int32_t>> seen;
  for (const SourceActor& actor : actors) {
    const auto it = position.try_emplace(actor.copy, seen.size());
    if (it.second) seen.emplace_back();
    seen[it.first->second].push_back(actor.parameter_rank);
  }
  for (const auto& entry : position) {
    mapping.copies.push_back(seen[entry.second]);
  }
  const auto tensor = static_cast<size_t>(input.source.tensor);
  const auto expert = static_cast<size_t>(input.source.expert);
  for (const std::vector<int32_t>& copy : seen) {
    if (copy.size() % (tensor * expert) != 0) {
      mapping.copies_except_routed.clear();
      return;
    }
    for (size_t e = 0; e < expert; ++e) {
      std::vector<int32_t>& ranks = mapping.copies_except_routed.emplace_back();
      for (size_t i = e * tensor; i < copy.size(); i += tensor * expert) {
        ranks.insert(ranks.end(), copy.begin() + static_cast<int64_t>(i),
                     copy.begin() + static_cast<int64_t>(i + tensor));
      }
    }
  }
}

void ListReplicas(const RankMappingInput& input, RankMapping& mapping) {
  int32_t rank = input.source.num_ranks();
  for (int32_t r = 0; r < input.destination.replicas; ++r) {
    std::vector<int32_t>& replica = mapping.replicas.emplace_back();
    for (int32_t i = 0; i < input.destination.ranks_per_replica(); ++i) {
      replica.push_back(rank++);
    }
  }
}

// The kinds of communication that will do.
void ChooseTypes(const RankMappingInput& input, RankMapping& mapping) {
  const SourceSizes& from = input.source;
  const DestinationSizes& to = input.destination;
  mapping.tensor_ratio = to.tensor / from.tensor;
  mapping.sync_type = input.sync_type;
  if (input.colocated && input.sync_type == SyncType::kBroadcast &&
      from.tensor % 2 == 1 && to.tensor % 2 == 1 && mapping.tensor_ratio == 1) {
    mapping.sync_type = SyncType::kPointToPoint;
  }
  mapping.regroup_type = input.regroup_type;
  if (to.tensor * to.expert != from.tensor * from.expert) {
    mapping.regroup_type = RegroupType::kAllGather;
  }
}

absl::Status MapBase(const RankMappingInput& input, RankMapping& mapping) {
  RankMappingBuilder builder(input, mapping);
  if (mapping.tensor_ratio != 1) return builder.AddTwoStage();
  if (input.destination.tensor != input.source.tensor) {
    return absl::InvalidArgumentError(absl::StrCat(
        "rank mapping: expected the destination's tensor size to "
        "be a multiple of the source's ",
        input.source.tensor, ", found ", input.destination.tensor));
  }
  return builder.AddDirect(mapping.stage1);
}

absl::Status CheckHyperExpert(const RankMappingInput& input) {
  const SourceSizes& from = input.source;
  const DestinationSizes& to = input.destination;
  if (to.tensor % from.tensor != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank mapping: expected the destination's tensor size to "
                     "be a multiple of the source's ",
                     from.tensor, ", found ", to.tensor));
  }
  if (to.expert > from.expert) {
    return absl::InvalidArgumentError(absl::StrCat(
        "rank mapping: expected a destination's expert size of at most the "
        "source's ",
        from.expert, ", found ", to.expert));
  }
  return absl::OkStatus();
}

absl::Status MapHyperExpert(const RankMappingInput& input,
                            RankMapping& mapping) {
  SLUICE_RETURN_IF_ERROR(CheckHyperExpert(input));
  const int32_t from = input.source.tensor * input.source.expert;
  const int32_t to = input.destination.tensor * input.destination.expert;
  const bool same_expert = input.source.expert == input.destination.expert;
  RankMappingBuilder builder(input, mapping);
  if (mapping.tensor_ratio == 1 && same_expert) {
    return builder.AddDirect(mapping.stage1);
  }
  if (input.destination.is_vllm) {
    if (mapping.tensor_ratio == 1) return builder.AddExperts(&mapping.stage1);
    SLUICE_RETURN_IF_ERROR(
        builder.AddExperts(from == to ? &mapping.routed : nullptr));
    return RankMappingBuilder(input, mapping).AddTwoStage();
  }
  if (from != to) {
    return absl::InvalidArgumentError(absl::StrCat(
        "rank mapping: expected equal tensor x expert sizes, found ", from,
        " and ", to));
  }
  SLUICE_RETURN_IF_ERROR(builder.AddDirect(mapping.routed));
  return RankMappingBuilder(input, mapping).AddTwoStage();
}

void FindLocalPairs(const RankMappingInput& input, RankMapping& mapping) {
  if (input.source_gpus.empty()) return;
  for (const Fanout& fanout : mapping.stage1) {
    for (const int32_t receiver : fanout.receivers) {
      const auto to = static_cast<size_t>(receiver - input.source.num_ranks());
      if (input.source_gpus[static_cast<size_t>(fanout.sender)] ==
          input.destination_gpus[to]) {
        mapping.local_pairs.emplace_back(fanout.sender, receiver);
      }
    }
  }
}

}  // namespace

std::vector<SourceActor> MegatronActors(const SourceSizes& source) {
  std::vector<SourceActor> actors;
  const int32_t copies = source.data / source.expert;
  for (int32_t rank = 0; rank < source.num_ranks(); ++rank) {
    actors.push_back({rank / (source.tensor * source.expert) % copies, rank,
                      rank / source.tensor % source.data});
  }
  return actors;
}

absl::StatusOr<RankMapping> MapRanks(const RankMappingInput& input) {
  SLUICE_RETURN_IF_ERROR(CheckSizes(input));
  SLUICE_RETURN_IF_ERROR(CheckLists(input));
  RankMapping mapping;
  ChooseTypes(input, mapping);
  FindCopies(input, mapping);
  ListReplicas(input, mapping);
  SLUICE_RETURN_IF_ERROR(input.variant == MappingVariant::kBase
                             ? MapBase(input, mapping)
                             : MapHyperExpert(input, mapping));
  FindLocalPairs(input, mapping);
  return mapping;
}

int32_t TensorSlice(const RankMappingInput& input, int32_t destination_rank) {
  const int32_t tensor_rank =
      (destination_rank - input.source.num_ranks()) % input.destination.tensor;
  return tensor_rank % (input.destination.tensor / input.source.tensor);
}

}  // namespace sluice::coordinator::reference
