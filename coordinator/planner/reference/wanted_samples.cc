#include "coordinator/planner/reference/wanted_samples.h"

#include <algorithm>
#include <numeric>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/status_macros.h"

namespace sluice::coordinator::reference {
namespace {

Topology TopologyOf(const StorageSnapshot& storage,
                    const RedistributionRequest& request) {
  Topology topology;
  const int32_t per_node = std::max(request.ranks_per_node, 1);
  for (int32_t rank = 0; rank < storage.num_ranks(); ++rank) {
    topology.node_of_rank.push_back(rank / per_node);
  }
  return topology;
}

// Samples read at a time, so that what was found is still near when it is read.
constexpr size_t kBlock = 16;

// Returns what the rank has of the sample, or null.
const Holding* FindHolding(const SampleRecord& record, Rank rank) {
  const auto it = std::lower_bound(
      record.holdings.begin(), record.holdings.end(), rank,
      [](const Holding& holding, Rank r) { return holding.rank < r; });
  const bool found = it != record.holdings.end() && it->rank == rank;
  return found ? &*it : nullptr;
}

}  // namespace

WantedSamples::WantedSamples(const StorageSnapshot& storage,
                             const RedistributionRequest& request)
    : storage_(storage),
      request_(request),
      topology_(TopologyOf(storage, request)),
      sets_(topology_) {}

absl::Status WantedSamples::Read() {
  SLUICE_RETURN_IF_ERROR(ReadKeys());
  SLUICE_RETURN_IF_ERROR(ReadGroups());
  if (request_.keys.empty()) return absl::OkStatus();
  return ReadWants();
}

absl::Status WantedSamples::ReadKeys() {
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

absl::Status WantedSamples::ReadGroups() {
  std::vector<bool> seen(topology_.node_of_rank.size());
  for (const DestinationGroup& group : request_.destinations) {
    for (const Rank rank : group.ranks) {
      if (rank.value() < 0 || rank.value() >= storage_.num_ranks()) {
        return absl::InvalidArgumentError(
            absl::StrCat("redistribution: destination: expected a rank of [0, ",
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

absl::Status WantedSamples::ReadWants() {
  std::vector<IdOrder::Entry> wants;
  size_t num_wants = 0;
  for (const DestinationGroup& group : request_.destinations) {
    if (!group.ranks.empty()) num_wants += group.ids.size();
  }
  wants.reserve(num_wants);
  for (size_t g = 0; g < request_.destinations.size(); ++g) {
    if (request_.destinations[g].ranks.empty()) continue;
    for (const std::string& id : request_.destinations[g].ids) {
      wants.push_back({0, id, static_cast<int32_t>(g)});
    }
  }
  IdOrder::Sort(wants);
  SLUICE_RETURN_IF_ERROR(NumberSamples(wants));
  samples_.resize(ids_.size());
  std::iota(samples_.begin(), samples_.end(), 0);
  block_.resize(kBlock * keys_.size());
  owners_.resize(keys_.size());
  for (auto& owners : owners_) owners.resize(ids_.size());
  records_.resize(ids_.size());
  names_.reserve(ids_.size());
  for (size_t first = 0; first < ids_.size(); first += kBlock) {
    // Where the next ones are is known now.
    const size_t next = std::min(first + kBlock, ids_.size());
    for (size_t i = next; i < std::min(next + kBlock, ids_.size()); ++i) {
      __builtin_prefetch(ids_[i].data());
    }
    SLUICE_RETURN_IF_ERROR(ReadBlock(first, next - first));
  }
  return absl::OkStatus();
}

absl::Status WantedSamples::NumberSamples(
    const std::vector<IdOrder::Entry>& wants) {
  ids_.reserve(wants.size());
  wanted_.reserve(wants.size());
  std::vector<RankSets::Id> groups;
  for (size_t begin = 0, end = 0; begin < wants.size(); begin = end) {
    groups.clear();
    do {
      groups.push_back(group_sets_[static_cast<size_t>(wants[end].group)]);
      if (end > begin && wants[end].group == wants[end - 1].group) {
        return absl::InvalidArgumentError(
            absl::StrCat("redistribution: destination: expected sample ",
                         wants[end].id, " once, found it twice"));
      }
      ++end;
    } while (end < wants.size() && IdOrder::Same(wants[end], wants[begin]));
    ids_.push_back(wants[begin].id);
    wanted_.push_back(sets_.Union(groups));
  }
  return absl::OkStatus();
}

absl::Status WantedSamples::ReadBlock(size_t first, size_t count) {
  storage_.FindAll(absl::MakeConstSpan(ids_).subspan(first, count),
                   absl::MakeSpan(records_).subspan(first, count));
  // Columns are often a power of two apart: written one sample at a time they
  // would push each other out of the nearest cache.
  const size_t num_keys = keys_.size();
  std::fill(block_.begin(), block_.end(), kNoRank.value());
  for (size_t i = 0; i < count; ++i) {
    const SampleRecord* record = records_[first + i];
    if (record == nullptr) {
      return absl::NotFoundError(absl::StrCat(
          "sample ", ids_[first + i], ": expected a holder, found none"));
    }
    int32_t* const owners = &block_[i * num_keys];
    size_t found = 0;
    for (const KeyOwner& owner : record->owners) {
      const int32_t k = PositionOf(owner.key);
      if (k < 0) continue;
      owners[k] = owner.rank.value();
      ++found;
    }
    if (found != num_keys) return NoOwner(first + i, {owners, num_keys});
    names_.emplace_back(ids_[first + i]);
  }
  for (size_t k = 0; k < num_keys; ++k) {
    int32_t* const column = &owners_[k][first];
    for (size_t i = 0; i < count; ++i) column[i] = block_[i * num_keys + k];
  }
  return absl::OkStatus();
}

absl::Status WantedSamples::NoOwner(size_t sample,
                                    absl::Span<const int32_t> owners) const {
  size_t k = 0;
  while (owners[k] != kNoRank.value()) ++k;
  const std::string what =
      absl::StrCat("sample ", ids_[sample], " key ", request_.keys[k]);
  for (const Holding& holding : record(sample).holdings) {
    if (!storage_.keys().Contains(holding.keys, keys_[k])) continue;
    return absl::FailedPreconditionError(
        absl::StrCat(what, ": expected an owner, found holders only"));
  }
  return absl::NotFoundError(
      absl::StrCat(what, ": expected a holder, found none"));
}

int32_t WantedSamples::PositionOf(KeyTable::Key key) const {
  const auto k = static_cast<size_t>(key);
  return k < position_of_.size() ? position_of_[k] : -1;
}

bool WantedSamples::Satisfied(size_t key) const {
  for (size_t s = 0; s < ids_.size(); ++s) {
    // Neighbouring samples are often on the same ranks.
    if (s > 0 && wanted_[s] == wanted_[s - 1] &&
        records_[s]->holdings == records_[s - 1]->holdings) {
      continue;
    }
    if (!Satisfied(key, s)) return false;
  }
  return true;
}

bool WantedSamples::Satisfied(size_t key, size_t sample) const {
  const std::vector<Holding>& holdings = record(sample).holdings;
  auto it = holdings.begin();
  KeyTable::List last = -1;                               // has the key
  for (const Rank rank : sets_.Ranks(wanted_[sample])) {  // ascending
    while (it != holdings.end() && it->rank < rank) ++it;
    if (it == holdings.end() || it->rank != rank) return false;
    if (it->keys == last) continue;
    if (!storage_.keys().Contains(it->keys, keys_[key])) return false;
    last = it->keys;
  }
  return true;
}

bool WantedSamples::HasAll(size_t key, Rank rank) const {
  const KeyTable& keys = storage_.keys();
  for (size_t s = 0; s < ids_.size(); ++s) {
    if (owners_[key][s] == rank.value()) continue;
    const Holding* holding = FindHolding(record(s), rank);
    if (holding == nullptr || !keys.Contains(holding->keys, keys_[key])) {
      return false;
    }
  }
  return true;
}

absl::Span<const RankSets::Id> WantedSamples::HoldersOf(size_t sample) {
  const SampleRecord& asked = record(sample);
  // Neighbouring samples are often on the same ranks.
  if (last_record_ != nullptr && last_record_->holdings == asked.holdings) {
    return holders_;
  }
  last_record_ = &asked;
  for (std::vector<Rank>& ranks : ranks_of_key_) ranks.clear();
  for (const Holding& holding : asked.holdings) {
    for (const KeyTable::Key key : storage_.keys().Keys(holding.keys)) {
      const int32_t k = PositionOf(key);
      if (k >= 0) ranks_of_key_[static_cast<size_t>(k)].push_back(holding.rank);
    }
  }
  for (size_t k = 0; k < keys_.size(); ++k) {
    holders_[k] = SetOf(ranks_of_key_[k]);
  }
  return holders_;
}

RankSets::Id WantedSamples::SetOf(const std::vector<Rank>& ranks) {
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

}  // namespace sluice::coordinator::reference
