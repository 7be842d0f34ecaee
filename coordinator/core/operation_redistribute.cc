// Part of OperationTracker: what is wanted where, and who holds it.

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/core/operation_tracker.h"

namespace sluice::coordinator {

// Resolves the names of each want's agents.
absl::Status OperationTracker::CheckWants(
    const RedistributeRequest& request,
    std::vector<std::vector<Rank>>* ranks) const {
  if (request.pattern != Pattern::kDirect &&
      request.pattern != Pattern::kGatherScatter &&
      request.pattern != Pattern::kBroadcast) {
    return absl::InvalidArgumentError(absl::StrCat(
        "pattern: expected DIRECT, GATHER_SCATTER or BROADCAST, got ",
        static_cast<int>(request.pattern)));
  }
  if (request.wants.empty()) {
    return absl::InvalidArgumentError("wants: expected at least one");
  }
  for (size_t i = 0; i < request.wants.size(); ++i) {
    const WantSpec& want = request.wants[i];
    if (want.agents.empty() || want.sample_ids.empty() || want.keys.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "want ", i, ": expected agents, sample ids and keys, got ",
          want.agents.size(), ", ", want.sample_ids.size(), " and ",
          want.keys.size()));
    }
    std::vector<Rank> wanting;
    for (const std::string& name : want.agents) {
      const Agent* agent = d_.agents.Find(name);
      if (agent == nullptr) {
        return absl::InvalidArgumentError(
            absl::StrCat("want ", i, ": agent \"", name, "\" is unknown"));
      }
      SLUICE_RETURN_IF_ERROR(d_.agents.CheckUsable(agent->rank));
      wanting.push_back(agent->rank);
    }
    ranks->push_back(std::move(wanting));
  }
  return absl::OkStatus();
}

absl::StatusOr<SampleHolding> OperationTracker::MakeHolding(
    const Catalog::Located& located) const {
  SampleHolding holding;
  holding.entry = located.entry;
  absl::Status unusable;
  for (const Rank rank : located.holders) {
    absl::Status status = d_.agents.CheckUsable(rank);
    if (status.ok()) {
      holding.holders.push_back(rank);
    } else {
      unusable = std::move(status);
    }
  }
  if (holding.holders.empty()) {
    // All of them may come back: their holdings stay until then.
    return absl::UnavailableError(
        absl::StrCat("sample \"", located.entry.sample_id, "\", key \"",
                     located.entry.key, "\": ", unusable.message()));
  }
  const bool owner_usable =
      std::find(holding.holders.begin(), holding.holders.end(),
                located.owner) != holding.holders.end();
  holding.owner = owner_usable ? located.owner : holding.holders.front();
  return holding;
}

absl::StatusOr<RedistributionInput> OperationTracker::Resolve(
    const RedistributeRequest& request, Operation& op) const {
  std::vector<std::vector<Rank>> ranks;
  SLUICE_RETURN_IF_ERROR(CheckWants(request, &ranks));
  // Ordered by (sample, key), each once.
  std::map<std::pair<std::string, std::string>, std::set<Rank>> wanted;
  for (size_t i = 0; i < request.wants.size(); ++i) {
    for (const std::string& sample_id : request.wants[i].sample_ids) {
      for (const std::string& key : request.wants[i].keys) {
        wanted[{sample_id, key}].insert(ranks[i].begin(), ranks[i].end());
      }
    }
  }
  RedistributionInput input;
  input.pattern = request.pattern;
  input.topology = MakeTopology();
  op.claims.entries.clear();
  for (const auto& [name, wanting] : wanted) {
    SLUICE_ASSIGN_OR_RETURN(const Catalog::Located located,
                            d_.catalog.Find(name.first, name.second));
    SLUICE_ASSIGN_OR_RETURN(SampleHolding holding, MakeHolding(located));
    if (!op.plan_only) op.claims.entries.insert(located.id);
    input.holdings.push_back(std::move(holding));
    input.wanted.emplace_back(wanting.begin(), wanting.end());
  }
  return input;
}

absl::Status OperationTracker::Check(const RedistributeRequest& request,
                                     Operation& op) {
  SLUICE_ASSIGN_OR_RETURN(const RedistributionInput input,
                          Resolve(request, op));
  op.description = absl::StrCat(input.holdings.size(), " sample tensors to ",
                                request.wants.size(),
                                request.wants.size() == 1 ? " want" : " wants");
  return absl::OkStatus();
}

void OperationTracker::AdmitRedistribute(Operation& op) {
  absl::StatusOr<RedistributionInput> input =
      Resolve(std::get<RedistributeRequest>(op.request), op);
  if (!input.ok()) {
    Fail(op, input.status());
    return;
  }
  op.plan_ranks = input->topology.num_ranks();
  Enter(op, OperationPhase::kPlanning);
  d_.context.Emit(MakePlan{op.id, *std::move(input)});
}

}  // namespace sluice::coordinator
