#include "coordinator/core/catalog.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/check.h"
#include "common/status_macros.h"

namespace sluice::coordinator {
namespace {

constexpr size_t kMaxNamedLosses = 10;

std::string MetadataText(DType dtype,
                         const std::vector<int64_t>& sequence_lengths,
                         const Shape& trailing_shape) {
  int64_t rows = 0;
  for (const int64_t length : sequence_lengths) rows += length;
  return absl::StrCat(DTypeName(dtype), ", ", sequence_lengths.size(),
                      " sequences of ", rows, " rows of [",
                      absl::StrJoin(trailing_shape, ","), "]");
}

}  // namespace

bool Catalog::SameMetadata(const Entry& entry, const SampleEntry& other) {
  return entry.dtype == other.dtype &&
         entry.sequence_lengths == other.sequence_lengths &&
         entry.trailing_shape == other.trailing_shape;
}

const Catalog::Entry* Catalog::FindEntry(const SampleEntry& like,
                                         EntryId* id) const {
  const auto sample = samples_.find(like.sample_id);
  const auto key = key_ids_.find(like.key);
  if (sample == samples_.end() || key == key_ids_.end()) return nullptr;
  for (const auto& [key_id, entry_id] : sample->second) {
    if (key_id != key->second) continue;
    *id = entry_id;
    return &entries_.at(entry_id);
  }
  return nullptr;
}

Catalog::Entry& Catalog::Add(const SampleEntry& like, EntryId* id) {
  const auto [key, is_new] =
      key_ids_.try_emplace(like.key, static_cast<KeyId>(keys_.size()));
  if (is_new) keys_.push_back(like.key);
  const auto sample = samples_.try_emplace(like.sample_id).first;
  *id = ++last_entry_;
  sample->second.emplace_back(key->second, *id);
  Entry& entry = entries_[*id];
  entry.sample_id = &sample->first;
  entry.key = key->second;
  entry.dtype = like.dtype;
  entry.sequence_lengths = like.sequence_lengths;
  entry.trailing_shape = like.trailing_shape;
  entry.bytes = like.num_bytes();
  return entry;
}

void Catalog::AddHolderTo(Entry& entry, EntryId id, Rank rank) {
  const auto at =
      std::lower_bound(entry.holders.begin(), entry.holders.end(), rank);
  if (at != entry.holders.end() && *at == rank) return;
  entry.holders.insert(at, rank);
  if (entry.owner == kNoRank) entry.owner = rank;
  held_[rank].insert(id);
  bytes_[rank] += entry.bytes;
}

void Catalog::DropHolderFrom(Entry& entry, EntryId id, Rank rank) {
  const auto at =
      std::lower_bound(entry.holders.begin(), entry.holders.end(), rank);
  SLUICE_CHECK(at != entry.holders.end() && *at == rank)
      << "rank " << rank << " does not hold entry " << id;
  entry.holders.erase(at);
  if (entry.owner == rank) {
    entry.owner = entry.holders.empty() ? kNoRank : entry.holders.front();
  }
  held_[rank].erase(id);
  bytes_[rank] -= entry.bytes;
}

void Catalog::EraseEntry(EntryId id) {
  const auto it = entries_.find(id);
  const auto sample = samples_.find(*it->second.sample_id);
  std::erase_if(sample->second,
                [id](const auto& key) { return key.second == id; });
  if (sample->second.empty()) samples_.erase(sample);
  entries_.erase(it);
}

absl::Status Catalog::CheckPut(const SampleEntry& entry) const {
  if (entry.sample_id.empty() || entry.key.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("sample \"", entry.sample_id, "\", key \"", entry.key,
                     "\": expected an id and a key"));
  }
  EntryId id = 0;
  const Entry* known = FindEntry(entry, &id);
  if (known == nullptr || SameMetadata(*known, entry)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "sample \"", entry.sample_id, "\", key \"", entry.key,
      "\" is written already and differs: expected ",
      MetadataText(known->dtype, known->sequence_lengths,
                   known->trailing_shape),
      ", got ",
      MetadataText(entry.dtype, entry.sequence_lengths, entry.trailing_shape)));
}

absl::Status Catalog::Put(Rank rank, const std::vector<SampleEntry>& entries) {
  for (const SampleEntry& entry : entries) {
    SLUICE_RETURN_IF_ERROR(CheckPut(entry));
  }
  for (const SampleEntry& entry : entries) {
    AddHolder(rank, entry, /*owned=*/false);
  }
  return absl::OkStatus();
}

Catalog::EntryId Catalog::AddHolderOf(Rank rank, const SampleEntry& entry,
                                      bool owned) {
  EntryId id = 0;
  if (const Entry* known = FindEntry(entry, &id); known != nullptr) {
    if (!SameMetadata(*known, entry)) return 0;
    AddHolderTo(entries_.at(id), id, rank);
  } else {
    Entry& added = Add(entry, &id);
    AddHolderTo(added, id, rank);
  }
  if (owned) entries_.at(id).owner = rank;
  return id;
}

bool Catalog::AddHolder(Rank rank, const SampleEntry& entry, bool owned) {
  return AddHolderOf(rank, entry, owned) != 0;
}

Catalog::Loss Catalog::SetHoldings(Rank rank,
                                   const std::vector<SampleEntry>& entries,
                                   const std::vector<bool>& owned,
                                   std::vector<std::string>* conflicts) {
  absl::flat_hash_set<EntryId> kept;
  for (size_t i = 0; i < entries.size(); ++i) {
    const EntryId id =
        AddHolderOf(rank, entries[i], i < owned.size() && owned[i]);
    if (id != 0) {
      kept.insert(id);
    } else {
      conflicts->push_back(
          absl::StrCat(entries[i].sample_id, "/", entries[i].key));
    }
  }
  return DropHeldExcept(rank, kept);
}

Catalog::Loss Catalog::RemoveHolder(Rank rank) {
  Loss loss = DropHeldExcept(rank, {});
  held_.erase(rank);
  bytes_.erase(rank);
  return loss;
}

Catalog::Loss Catalog::DropHeldExcept(
    Rank rank, const absl::flat_hash_set<EntryId>& kept) {
  Loss loss;
  const auto held = held_.find(rank);
  if (held == held_.end()) return loss;
  std::vector<EntryId> ids;
  for (const EntryId id : held->second) {
    if (!kept.contains(id)) ids.push_back(id);
  }
  std::sort(ids.begin(), ids.end());
  for (const EntryId id : ids) {
    Entry& entry = entries_.at(id);
    const bool owned = entry.owner == rank;
    DropHolderFrom(entry, id, rank);
    if (!entry.holders.empty()) {
      if (owned) ++loss.reowned;
      continue;
    }
    ++loss.num_lost;
    if (loss.lost.size() < kMaxNamedLosses) {
      loss.lost.push_back(
          absl::StrCat(*entry.sample_id, "/", keys_[entry.key]));
    }
    EraseEntry(id);
  }
  return loss;
}

Catalog::Located Catalog::Describe(EntryId id, const Entry& entry) const {
  return Located{id,
                 SampleEntry{*entry.sample_id, keys_[entry.key], entry.dtype,
                             entry.sequence_lengths, entry.trailing_shape},
                 entry.holders, entry.owner};
}

absl::StatusOr<Catalog::Located> Catalog::Find(const std::string& sample_id,
                                               const std::string& key) const {
  SampleEntry like;
  like.sample_id = sample_id;
  like.key = key;
  EntryId id = 0;
  const Entry* entry = FindEntry(like, &id);
  if (entry != nullptr) return Describe(id, *entry);
  if (!samples_.contains(sample_id)) {
    return absl::NotFoundError(
        absl::StrCat("sample \"", sample_id, "\": nobody has it"));
  }
  return absl::NotFoundError(
      absl::StrCat("sample \"", sample_id, "\": nobody has key \"", key, "\""));
}

absl::StatusOr<std::vector<Catalog::Located>> Catalog::Locate(
    const std::vector<std::string>& sample_ids,
    std::vector<std::string> keys) const {
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  std::vector<Located> located;
  for (const std::string& sample_id : sample_ids) {
    std::vector<std::string> wanted = keys;
    const auto sample = samples_.find(sample_id);
    if (wanted.empty() && sample != samples_.end()) {
      for (const auto& [key, id] : sample->second) wanted.push_back(keys_[key]);
      std::sort(wanted.begin(), wanted.end());
    }
    if (sample == samples_.end()) wanted = {""};  // for the error of Find
    for (const std::string& key : wanted) {
      SLUICE_ASSIGN_OR_RETURN(Located one, Find(sample_id, key));
      located.push_back(std::move(one));
    }
  }
  return located;
}

std::vector<std::string> Catalog::List(const std::string& after,
                                       int64_t count) const {
  std::vector<std::string> ids;
  auto it = after.empty() ? samples_.begin() : samples_.upper_bound(after);
  for (; it != samples_.end() && static_cast<int64_t>(ids.size()) < count;
       ++it) {
    ids.push_back(it->first);
  }
  return ids;
}

bool Catalog::HasAfter(const std::string& id) const {
  return samples_.upper_bound(id) != samples_.end();
}

std::vector<Catalog::Drop> Catalog::Clear(
    const std::vector<std::string>& sample_ids, bool keep_owners,
    int64_t* dropped) {
  *dropped = 0;
  // rank -> keys to drop -> samples, so that each agent gets few commands.
  std::map<Rank, std::map<std::vector<std::string>, std::vector<std::string>>>
      drops;
  for (const std::string& sample_id : sample_ids) {
    const auto sample = samples_.find(sample_id);
    if (sample == samples_.end()) continue;
    std::map<Rank, std::vector<std::string>> keys_of;
    for (const auto& [key, id] : SampleKeys(sample->second)) {
      Entry& entry = entries_.at(id);
      for (const Rank rank : std::vector<Rank>(entry.holders)) {
        if (keep_owners && rank == entry.owner) continue;
        keys_of[rank].push_back(keys_[key]);
        DropHolderFrom(entry, id, rank);
        ++*dropped;
      }
      // May erase the sample with its last entry.
      if (entry.holders.empty()) EraseEntry(id);
    }
    for (auto& [rank, keys] : keys_of) {
      std::sort(keys.begin(), keys.end());
      if (!keep_owners) keys.clear();  // all of them
      drops[rank][keys].push_back(sample_id);
    }
  }
  std::vector<Drop> result;
  for (auto& [rank, by_keys] : drops) {
    for (auto& [keys, ids] : by_keys) {
      result.push_back(Drop{rank, std::move(ids), keys});
    }
  }
  return result;
}

int64_t Catalog::BytesOf(Rank rank) const {
  const auto it = bytes_.find(rank);
  return it == bytes_.end() ? 0 : it->second;
}

}  // namespace sluice::coordinator
