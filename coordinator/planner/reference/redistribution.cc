#include "coordinator/planner/reference/redistribution.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/planner/planner_inputs.h"
#include "coordinator/planner/rank_sets.h"
#include "coordinator/planner/reference/broadcast.h"
#include "coordinator/planner/reference/gather_scatter.h"
#include "coordinator/planner/reference/id_order.h"

namespace sluice::coordinator::reference {
namespace {

// The question in numbers: samples by id, keys as requested.
class Question {
 public:
  Question(const StorageSnapshot& storage, const RedistributionRequest& request)
      : storage_(storage),
        request_(request),
        topology_(TopologyOf(storage, request)),
        sets_(topology_) {}

  absl::Status Read() {
    SLUICE_RETURN_IF_ERROR(ReadKeys());
    SLUICE_RETURN_IF_ERROR(ReadGroups());
    if (request_.keys.empty()) return absl::OkStatus();
    return ReadSamples();
  }

  absl::Span<const WantedTensor> tensors() const { return tensors_; }
  RankSets& sets() { return sets_; }
  std::vector<std::string> TakeIds() { return std::move(ids_); }

 private:
  static Topology TopologyOf(const StorageSnapshot& storage,
                             const RedistributionRequest& request) {
    Topology topology;
    const int32_t per_node = std::max(request.ranks_per_node, 1);
    for (int32_t rank = 0; rank < storage.num_ranks(); ++rank) {
      topology.node_of_rank.push_back(rank / per_node);
    }
    return topology;
  }

  absl::Status ReadKeys() {
    if (request_.ranks_per_node < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("redistribution: expected at least one rank per node, "
                       "found ",
                       request_.ranks_per_node));
    }
    absl::flat_hash_set<absl::string_view> seen;
    for (const std::string& key : request_.keys) {
      if (!seen.insert(key).second) {
        return absl::InvalidArgumentError(absl::StrCat(
            "redistribution: expected each key once, found ", key, " twice"));
      }
      keys_.push_back(storage_.keys().Find(key));
    }
    return absl::OkStatus();
  }

  absl::Status ReadGroups() {
    std::vector<bool> seen(topology_.node_of_rank.size());
    for (const DestinationGroup& group : request_.destinations) {
      for (const Rank rank : group.ranks) {
        if (rank.value() < 0 || rank.value() >= storage_.num_ranks()) {
          return absl::InvalidArgumentError(absl::StrCat(
              "redistribution: destination: expected a rank of [0, ",
              storage_.num_ranks(), "), found ", rank.value()));
        }
        if (seen[static_cast<size_t>(rank.value())]) {
          return absl::InvalidArgumentError(
              absl::StrCat("redistribution: destination: expected rank ",
                           rank.value(), " once, found it twice"));
        }
        seen[static_cast<size_t>(rank.value())] = true;
      }
      group_sets_.push_back(sets_.Intern(group.ranks));
    }
    return absl::OkStatus();
  }

  absl::Status ReadSamples() {
    std::vector<IdOrder::Entry> wants;
    for (size_t g = 0; g < request_.destinations.size(); ++g) {
      if (request_.destinations[g].ranks.empty()) continue;
      for (const std::string& id : request_.destinations[g].ids) {
        wants.push_back({0, &id, static_cast<int32_t>(g)});
      }
    }
    IdOrder::Sort(wants);
    tensors_.reserve(wants.size() * keys_.size());
    for (size_t begin = 0, end = 0; begin < wants.size(); begin = end) {
      while (end < wants.size() && *wants[end].id == *wants[begin].id) ++end;
      std::vector<RankSets::Id> groups;
      for (size_t i = begin; i < end; ++i) {
        if (i > begin && wants[i].group == wants[i - 1].group) {
          return absl::InvalidArgumentError(
              absl::StrCat("redistribution: destination: expected sample ",
                           *wants[i].id, " once, found it twice"));
        }
        groups.push_back(group_sets_[static_cast<size_t>(wants[i].group)]);
      }
      SLUICE_RETURN_IF_ERROR(AddSample(*wants[begin].id, sets_.Union(groups)));
    }
    return absl::OkStatus();
  }

  absl::Status AddSample(const std::string& id, RankSets::Id wanted) {
    const SampleRecord* record = storage_.Find(id);
    if (record == nullptr) {
      return absl::NotFoundError(
          absl::StrCat("sample ", id, ": expected a holder, found none"));
    }
    const std::vector<RankSets::Id>& holders = HoldersOf(record->holdings);
    const auto sample = static_cast<int32_t>(ids_.size());
    for (size_t k = 0; k < keys_.size(); ++k) {
      const auto owner =
          std::find_if(record->owners.begin(), record->owners.end(),
                       [&](const KeyOwner& o) { return o.key == keys_[k]; });
      if (owner == record->owners.end()) {
        const bool held = !sets_.Ranks(holders[k]).empty();
        const std::string what =
            absl::StrCat("sample ", id, " key ", request_.keys[k]);
        return held ? absl::FailedPreconditionError(absl::StrCat(
                          what, ": expected an owner, found holders only"))
                    : absl::NotFoundError(absl::StrCat(
                          what, ": expected a holder, found none"));
      }
      tensors_.push_back(
          {sample, static_cast<int32_t>(k), owner->rank, holders[k], wanted});
    }
    ids_.push_back(id);
    return absl::OkStatus();
  }

  // Returns the set of ranks that hold each requested key.
  const std::vector<RankSets::Id>& HoldersOf(
      const std::vector<Holding>& holdings) {
    if (last_ != nullptr && *last_holdings_ == holdings) return *last_;
    std::vector<std::pair<Rank, KeyTable::List>> name;
    name.reserve(holdings.size());
    for (const Holding& h : holdings) name.emplace_back(h.rank, h.keys);
    const auto [it, inserted] = holders_.try_emplace(std::move(name));
    if (inserted) {
      for (const KeyTable::Key key : keys_) {
        std::vector<Rank> ranks;
        for (const Holding& h : holdings) {
          if (storage_.keys().Contains(h.keys, key)) ranks.push_back(h.rank);
        }
        it->second.push_back(sets_.Intern(std::move(ranks)));
      }
    }
    last_holdings_ = &holdings;
    last_ = &it->second;
    return it->second;
  }

  const StorageSnapshot& storage_;
  const RedistributionRequest& request_;
  const Topology topology_;
  RankSets sets_;
  std::vector<KeyTable::Key> keys_;  // of the storage; -1: it has none such
  std::vector<RankSets::Id> group_sets_;  // by group
  std::vector<std::string> ids_;
  std::vector<WantedTensor> tensors_;
  absl::flat_hash_map<std::vector<std::pair<Rank, KeyTable::List>>,
                      std::vector<RankSets::Id>>
      holders_;
  // The last answer of HoldersOf() and what it was asked; records stay where
  // they are, answers until the next new one.
  const std::vector<Holding>* last_holdings_ = nullptr;
  const std::vector<RankSets::Id>* last_ = nullptr;
};

template <typename Pattern>
absl::StatusOr<RedistributionSteps> Plan(const StorageSnapshot& storage,
                                         const RedistributionRequest& request,
                                         Pattern pattern) {
  Question question(storage, request);
  SLUICE_RETURN_IF_ERROR(question.Read());
  RedistributionSteps plan;
  plan.steps = pattern(question.tensors(), question.sets());
  plan.ids = question.TakeIds();
  plan.keys = request.keys;
  return plan;
}

}  // namespace

absl::StatusOr<RedistributionSteps> PlanGatherScatter(
    const StorageSnapshot& storage, const RedistributionRequest& request) {
  return Plan(storage, request, GatherScatter);
}

absl::StatusOr<RedistributionSteps> PlanBroadcast(
    const StorageSnapshot& storage, const RedistributionRequest& request) {
  return Plan(storage, request, Broadcast);
}

}  // namespace sluice::coordinator::reference
