#include "coordinator/planner/two_stage_routes.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/layout.h"
#include "common/mesh.h"
#include "common/status_macros.h"

namespace sluice::coordinator {

using reference::Fanout;
using reference::RankMapping;
using reference::RankMappingInput;
using reference::SenderMapping;

namespace {

// The size of an axis that a layout makes of others; 1 where there is none.
int64_t RegroupedSize(const Layout& layout, absl::string_view axis) {
  for (const AxisRegroup& regroup : layout.regroups) {
    for (const MeshAxis& into : regroup.into) {
      if (into.name == axis && into.size > 0) return into.size;
    }
  }
  return 1;
}

// The mapping pairs ranks that hold all that their tensor, pipe and expert
// ranks say. Errors: INVALID_ARGUMENT - names another axis that the source is
// cut over.
absl::Status CheckCuts(const PlacementGeometry& source) {
  constexpr absl::string_view kKnown[] = {"tensor", "expert", "expert_tensor"};
  const auto check = [&](const std::vector<std::string>& axes) {
    for (const std::string& axis : axes) {
      const int64_t size = source.mesh.AxisSize(axis);
      if (size <= 1 || std::count(std::begin(kKnown), std::end(kKnown),
                                  absl::string_view(axis)) > 0) {
        continue;
      }
      return absl::InvalidArgumentError(absl::StrCat(
          "rank mapping: expected a source cut over tensor, pipe and expert "
          "ranks only, found parameters cut over axis \"",
          axis, "\" of ", size, " ranks"));
    }
    return absl::OkStatus();
  };
  for (const LayoutRule& rule : source.layout->rules) {
    SLUICE_RETURN_IF_ERROR(check(rule.flat.axes));
    for (const DimSplit& split : rule.splits) {
      SLUICE_RETURN_IF_ERROR(check(split.axes));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RankMappingInput> RankMappingOf(const ReshardInput& input) {
  if (input.destinations.size() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank mapping: expected one destination, found ",
                     input.destinations.size()));
  }
  SLUICE_RETURN_IF_ERROR(CheckCuts(input.source));
  RankMappingInput out;
  out.regroup_type = reference::RegroupType::kAllGather;
  const Mesh& from = input.source.mesh;
  out.source.tensor = static_cast<int32_t>(from.AxisSize("tensor"));
  out.source.pipe = static_cast<int32_t>(from.AxisSize("pipe"));
  out.source.data = static_cast<int32_t>(
      from.size() / (from.AxisSize("tensor") * from.AxisSize("pipe")));
  // Ranks that experts are dealt over, of which tensor ranks are a part. The
  // base variant would send an expert rank's own experts only.
  const int64_t experts = RegroupedSize(*input.source.layout, "expert") *
                          RegroupedSize(*input.source.layout, "expert_tensor");
  if (experts > 1 && experts % out.source.tensor == 0) {
    out.source.expert = static_cast<int32_t>(experts / out.source.tensor);
    out.variant = reference::MappingVariant::kHyperExpert;
  }
  const Mesh& to = input.destinations[0].mesh;
  const int64_t tensor = to.AxisSize("tensor");
  out.destination.tensor = static_cast<int32_t>(tensor);
  out.destination.pipe = static_cast<int32_t>(to.AxisSize("pipe"));
  out.destination.replicas =
      static_cast<int32_t>(to.size() / (tensor * to.AxisSize("pipe")));
  out.destination.is_vllm = true;
  for (const Rank rank : from.ranks) out.source_gpus.push_back(rank.value());
  for (const Rank rank : to.ranks) out.destination_gpus.push_back(rank.value());
  out.colocated = std::any_of(to.ranks.begin(), to.ranks.end(), [&](Rank rank) {
    return std::find(from.ranks.begin(), from.ranks.end(), rank) !=
           from.ranks.end();
  });
  return out;
}

bool IsRoutedExpert(absl::string_view tensor) {
  return absl::StrContains(tensor, ".experts.");
}

absl::StatusOr<TwoStageRouter> TwoStageRouter::Create(
    const ReshardInput& input) {
  SLUICE_ASSIGN_OR_RETURN(const RankMappingInput question,
                          RankMappingOf(input));
  SLUICE_ASSIGN_OR_RETURN(const RankMapping mapping,
                          reference::MapRanks(question));
  // Source ranks come first in the mapping's numbers.
  std::vector<Rank> rank_of = input.source.mesh.ranks;
  const std::vector<Rank>& takers = input.destinations[0].mesh.ranks;
  rank_of.insert(rank_of.end(), takers.begin(), takers.end());
  const auto rank = [&](int32_t mapped) {
    return rank_of[static_cast<size_t>(mapped)];
  };
  const auto by_taker = [&](const SenderMapping& senders) {
    Senders out;
    for (const Fanout& fanout : senders) {
      for (const int32_t receiver : fanout.receivers) {
        out[rank(receiver)].push_back(rank(fanout.sender));
      }
    }
    return out;
  };
  TwoStageRouter router;
  router.stage1_ = by_taker(mapping.stage1);
  router.passed_on_ = by_taker(mapping.stage2);
  router.routed_ =
      by_taker(mapping.routed.empty() ? mapping.stage1 : mapping.routed);
  if (mapping.regroup.has_value()) {
    for (const std::vector<int32_t>& group : *mapping.regroup) {
      std::vector<Rank> ranks;
      for (const int32_t member : group) ranks.push_back(rank(member));
      for (const Rank member : ranks) router.regroup_[member] = ranks;
    }
  }
  return router;
}

Rank TwoStageRouter::SenderOf(const RankSets& sets, const Demand& demand,
                              const Senders& senders, Rank taker) const {
  const auto it = senders.find(taker);
  if (it == senders.end()) return kNoRank;
  for (const Rank sender : it->second) {
    if (sets.Contains(demand.holders, sender)) return sender;
  }
  if (&senders != &routed_) return kNoRank;
  for (const Rank sender : it->second) {
    const auto group = regroup_.find(sender);
    if (group == regroup_.end()) continue;
    for (const Rank member : group->second) {
      if (sets.Contains(demand.holders, member)) return member;
    }
  }
  return kNoRank;
}

TwoStageRouter::Unserved TwoStageRouter::Route(const RankSets& sets,
                                               int32_t index,
                                               const Demand& demand,
                                               bool routed_expert,
                                               std::vector<Leg>& legs) const {
  const Senders& senders = routed_expert ? routed_ : stage1_;
  absl::flat_hash_map<Rank, int32_t> leg_of;  // round 0, by taker
  std::vector<Rank> later;
  for (const Rank taker : sets.Ranks(demand.missing)) {
    const Rank sender = SenderOf(sets, demand, senders, taker);
    if (sender == kNoRank) {
      later.push_back(taker);
      continue;
    }
    leg_of[taker] = static_cast<int32_t>(legs.size());
    legs.push_back({index, 0, sender, taker, -1});
  }
  for (const Rank taker : later) {
    const auto it = passed_on_.find(taker);
    if (it == passed_on_.end()) return {index, taker};
    std::optional<Leg> leg;
    for (const Rank first : it->second) {
      if (const auto had = leg_of.find(first); had != leg_of.end()) {
        leg = Leg{index, 1, first, taker, had->second};
      } else if (sets.Contains(demand.holders, first)) {
        leg = Leg{index, 0, first, taker, -1};
      } else if (const Rank sender = SenderOf(sets, demand, senders, first);
                 sender != kNoRank) {
        leg = Leg{index, 0, sender, taker, -1};
      }
      if (leg.has_value()) break;
    }
    if (!leg.has_value()) return {index, taker};
    legs.push_back(*leg);
  }
  return {};
}

}  // namespace sluice::coordinator
