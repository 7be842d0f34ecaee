#include "coordinator/planner/reference/redistribution.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
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
      const KeyTable::Key number = storage_.keys().Find(key);
      if (number >= 0) {
        const auto n = static_cast<size_t>(number);
        if (position_of_.size() <= n) position_of_.resize(n + 1, -1);
        position_of_[n] = static_cast<int32_t>(keys_.size());
      }
      keys_.push_back(number);
    }
    ranks_of_key_.resize(keys_.size());
    holders_.resize(keys_.size());
    alone_.resize(topology_.node_of_rank.size(), -1);
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
    ids_.reserve(wants.size());
    std::vector<const std::string*> ids;
    std::vector<RankSets::Id> wanted, groups;
    for (size_t begin = 0, end = 0; begin < wants.size(); begin = end) {
      groups.clear();
      do {
        groups.push_back(group_sets_[static_cast<size_t>(wants[end].group)]);
        if (end > begin && wants[end].group == wants[end - 1].group) {
          return absl::InvalidArgumentError(
              absl::StrCat("redistribution: destination: expected sample ",
                           *wants[end].id, " once, found it twice"));
        }
        ++end;
      } while (end < wants.size() && IdOrder::Same(wants[end], wants[begin]));
      ids.push_back(wants[begin].id);
      wanted.push_back(sets_.Union(groups));
    }
    // A few at a time, so that what was found is still near when it is read.
    constexpr size_t kBlock = 64;
    for (size_t first = 0; first < ids.size(); first += kBlock) {
      const auto block = absl::MakeConstSpan(ids).subspan(first, kBlock);
      const std::vector<const SampleRecord*> records = storage_.FindAll(block);
      for (size_t i = 0; i < block.size(); ++i) {
        SLUICE_RETURN_IF_ERROR(
            AddSample(*block[i], records[i], wanted[first + i]));
      }
    }
    return absl::OkStatus();
  }

  absl::Status AddSample(const std::string& id, const SampleRecord* record,
                         RankSets::Id wanted) {
    if (record == nullptr) {
      return absl::NotFoundError(
          absl::StrCat("sample ", id, ": expected a holder, found none"));
    }
    const std::vector<RankSets::Id>& holders = HoldersOf(record->holdings);
    owners_.assign(keys_.size(), kNoRank);
    for (const KeyOwner& owner : record->owners) {
      const int32_t k = PositionOf(owner.key);
      if (k >= 0) owners_[static_cast<size_t>(k)] = owner.rank;
    }
    const auto sample = static_cast<int32_t>(ids_.size());
    for (size_t k = 0; k < keys_.size(); ++k) {
      if (owners_[k] == kNoRank) return NoOwner(id, k, holders[k]);
      tensors_.push_back(
          {sample, static_cast<int32_t>(k), owners_[k], holders[k], wanted});
    }
    ids_.push_back(id);
    return absl::OkStatus();
  }

  absl::Status NoOwner(const std::string& id, size_t key,
                       RankSets::Id holders) {
    const std::string what =
        absl::StrCat("sample ", id, " key ", request_.keys[key]);
    if (sets_.Ranks(holders).empty()) {
      return absl::NotFoundError(
          absl::StrCat(what, ": expected a holder, found none"));
    }
    return absl::FailedPreconditionError(
        absl::StrCat(what, ": expected an owner, found holders only"));
  }

  // Returns the key's position in the request, or -1.
  int32_t PositionOf(KeyTable::Key key) const {
    const auto k = static_cast<size_t>(key);
    return k < position_of_.size() ? position_of_[k] : -1;
  }

  // Returns the set of ranks that hold each requested key, valid until the next
  // call.
  const std::vector<RankSets::Id>& HoldersOf(
      const std::vector<Holding>& holdings) {
    // Neighbouring samples are often on the same ranks.
    if (last_holdings_ != nullptr && *last_holdings_ == holdings) {
      return holders_;
    }
    last_holdings_ = &holdings;
    for (std::vector<Rank>& ranks : ranks_of_key_) ranks.clear();
    for (const Holding& holding : holdings) {
      for (const KeyTable::Key key : storage_.keys().Keys(holding.keys)) {
        const int32_t k = PositionOf(key);
        if (k >= 0)
          ranks_of_key_[static_cast<size_t>(k)].push_back(holding.rank);
      }
    }
    for (size_t k = 0; k < keys_.size(); ++k) {
      holders_[k] = SetOf(ranks_of_key_[k]);
    }
    return holders_;
  }

  // Interns a set that is mostly one rank, or the one asked for before.
  RankSets::Id SetOf(const std::vector<Rank>& ranks) {
    if (ranks.size() == 1) {
      RankSets::Id& alone = alone_[static_cast<size_t>(ranks[0].value())];
      if (alone < 0) alone = sets_.Intern(ranks);
      return alone;
    }
    if (last_set_ < 0 || ranks != last_ranks_) {
      last_ranks_ = ranks;
      last_set_ = sets_.Intern(ranks);
    }
    return last_set_;
  }

  const StorageSnapshot& storage_;
  const RedistributionRequest& request_;
  const Topology topology_;
  RankSets sets_;
  std::vector<KeyTable::Key> keys_;   // of the storage; -1: it has none such
  std::vector<int32_t> position_of_;  // by key of the storage: in the request
  std::vector<RankSets::Id> group_sets_;  // by group
  std::vector<std::string> ids_;
  std::vector<WantedTensor> tensors_;
  // Of the sample being read, by requested key.
  std::vector<Rank> owners_;
  std::vector<std::vector<Rank>> ranks_of_key_;
  std::vector<RankSets::Id> holders_;
  // What HoldersOf() and SetOf() were asked last; records stay where they are.
  const std::vector<Holding>* last_holdings_ = nullptr;
  std::vector<Rank> last_ranks_;
  RankSets::Id last_set_ = -1;
  std::vector<RankSets::Id> alone_;  // by rank: the set of it alone, or -1
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
