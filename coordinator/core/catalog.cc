#include "coordinator/core/catalog.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "common/check.h"
#include "common/status_macros.h"

namespace sluice::coordinator {
namespace {

constexpr size_t kMaxNamedLosses = 10;

std::string MetadataText(const SampleEntry& entry) {
  int64_t rows = 0;
  for (const int64_t length : entry.sequence_lengths) rows += length;
  return absl::StrCat(DTypeName(entry.dtype), ", ",
                      entry.sequence_lengths.size(), " sequences of ", rows,
                      " rows of [", absl::StrJoin(entry.trailing_shape, ","),
                      "]");
}

}  // namespace

bool Catalog::Entry::HeldBy(Rank rank) const {
  return std::binary_search(holders.begin(), holders.end(), rank);
}

bool Catalog::SameMetadata(const Entry& entry, const SampleEntry& other) const {
  const auto& [dtype, trailing_shape] = forms_[entry.form];
  return dtype == other.dtype && trailing_shape == other.trailing_shape &&
         absl::MakeConstSpan(entry.sequence_lengths) == other.sequence_lengths;
}

SampleEntry Catalog::Metadata(const Sample& sample, const Entry& entry) const {
  const auto& [dtype, trailing_shape] = forms_[entry.form];
  return SampleEntry{
      sample.id,
      keys_[entry.key],
      dtype,
      {entry.sequence_lengths.begin(), entry.sequence_lengths.end()},
      trailing_shape};
}

// As SampleEntry::num_bytes().
int64_t Catalog::SizeOf(const Entry& entry) const {
  const auto& [dtype, trailing_shape] = forms_[entry.form];
  int64_t rows = 0;
  for (const int64_t length : entry.sequence_lengths) rows += length;
  int64_t row_elements = 1;
  for (const int64_t size : trailing_shape) row_elements *= size;
  return rows * row_elements * ByteSize(dtype);
}

Catalog::Place Catalog::FindPlace(const std::string& sample_id,
                                  const std::string& key) const {
  const auto sample = samples_.find(sample_id);
  if (sample == samples_.end()) return {};
  Place place{sample->second.get(), nullptr};
  const auto known = key_ids_.find(key);
  if (known == key_ids_.end()) return place;
  for (Entry& entry : place.sample->entries) {
    if (entry.key == known->second) place.entry = &entry;
  }
  return place;
}

// Adds an entry without a holder; `sample` is null if there is none yet.
Catalog::Place Catalog::Add(Sample* sample, const SampleEntry& like) {
  if (sample == nullptr) {
    auto added = std::make_unique<Sample>();
    sample = added.get();
    sample->id = like.sample_id;
    samples_.emplace(sample->id, std::move(added));
    by_id_.insert(sample);
  }
  const auto [key, is_new_key] =
      key_ids_.try_emplace(like.key, static_cast<KeyId>(keys_.size()));
  if (is_new_key) keys_.push_back(like.key);
  const auto [form, is_new_form] =
      form_ids_.try_emplace(Form(like.dtype, like.trailing_shape),
                            static_cast<FormId>(forms_.size()));
  if (is_new_form) forms_.push_back(form->first);
  Entry& entry = sample->entries.emplace_back();
  entry.id = ++last_entry_;
  entry.key = key->second;
  entry.form = form->second;
  entry.sequence_lengths.assign(like.sequence_lengths.begin(),
                                like.sequence_lengths.end());
  ++num_entries_;
  return {sample, &entry};
}

void Catalog::AddHolderTo(Sample& sample, Entry& entry, Rank rank) {
  const auto at =
      std::lower_bound(entry.holders.begin(), entry.holders.end(), rank);
  if (at != entry.holders.end() && *at == rank) return;
  // Most often the rank holds the sample's other entries already.
  const bool holds_another =
      std::any_of(sample.entries.begin(), sample.entries.end(),
                  [rank](const Entry& other) { return other.HeldBy(rank); });
  entry.holders.insert(at, rank);
  if (entry.owner == kNoRank) entry.owner = rank;
  if (!holds_another) held_[rank].insert(&sample);
  bytes_[rank] += SizeOf(entry);
}

void Catalog::DropHolderFrom(Entry& entry, Rank rank) {
  const auto at =
      std::lower_bound(entry.holders.begin(), entry.holders.end(), rank);
  SLUICE_CHECK(at != entry.holders.end() && *at == rank)
      << "rank " << rank << " does not hold entry " << entry.id;
  entry.holders.erase(at);
  if (entry.owner == rank) {
    entry.owner = entry.holders.empty() ? kNoRank : entry.holders.front();
  }
  bytes_[rank] -= SizeOf(entry);
}

void Catalog::UpdateHeld(Sample& sample, Rank rank) {
  for (const Entry& entry : sample.entries) {
    if (entry.HeldBy(rank)) return;
  }
  held_[rank].erase(&sample);
}

void Catalog::EraseUnheld(Sample& sample) {
  const auto erased = std::erase_if(
      sample.entries, [](const Entry& entry) { return entry.holders.empty(); });
  num_entries_ -= static_cast<int64_t>(erased);
  if (!sample.entries.empty()) return;
  by_id_.erase(&sample);
  samples_.erase(samples_.find(sample.id));
}

absl::Status Catalog::CheckPut(const SampleEntry& entry) const {
  if (entry.sample_id.empty() || entry.key.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("sample \"", entry.sample_id, "\", key \"", entry.key,
                     "\": expected an id and a key"));
  }
  const Place known = FindPlace(entry.sample_id, entry.key);
  if (known.entry == nullptr || SameMetadata(*known.entry, entry)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("sample \"", entry.sample_id, "\", key \"", entry.key,
                   "\" is written already and differs: expected ",
                   MetadataText(Metadata(*known.sample, *known.entry)),
                   ", got ", MetadataText(entry)));
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

// Returns no entry if the metadata differ from what is known.
Catalog::Place Catalog::AddHolderOf(Rank rank, const SampleEntry& entry,
                                    bool owned) {
  Place place = FindPlace(entry.sample_id, entry.key);
  if (place.entry == nullptr) {
    place = Add(place.sample, entry);
  } else if (!SameMetadata(*place.entry, entry)) {
    return {};
  }
  AddHolderTo(*place.sample, *place.entry, rank);
  if (owned) place.entry->owner = rank;
  return place;
}

bool Catalog::AddHolder(Rank rank, const SampleEntry& entry, bool owned) {
  return AddHolderOf(rank, entry, owned).entry != nullptr;
}

Catalog::Loss Catalog::SetHoldings(Rank rank,
                                   const std::vector<SampleEntry>& entries,
                                   const std::vector<bool>& owned,
                                   std::vector<std::string>* conflicts) {
  absl::flat_hash_set<EntryId> kept;
  for (size_t i = 0; i < entries.size(); ++i) {
    const Place place =
        AddHolderOf(rank, entries[i], i < owned.size() && owned[i]);
    if (place.entry != nullptr) {
      kept.insert(place.entry->id);
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
  // In order of first entries, whatever the order in the set is.
  std::vector<Sample*> samples(held->second.begin(), held->second.end());
  std::sort(samples.begin(), samples.end(),
            [](const Sample* a, const Sample* b) {
              return a->entries.front().id < b->entries.front().id;
            });
  for (Sample* sample : samples) DropFromSample(*sample, rank, kept, loss);
  return loss;
}

void Catalog::DropFromSample(Sample& sample, Rank rank,
                             const absl::flat_hash_set<EntryId>& kept,
                             Loss& loss) {
  for (Entry& entry : sample.entries) {
    if (!entry.HeldBy(rank) || kept.contains(entry.id)) continue;
    const bool owned = entry.owner == rank;
    DropHolderFrom(entry, rank);
    if (!entry.holders.empty()) {
      if (owned) ++loss.reowned;
      continue;
    }
    ++loss.num_lost;
    if (loss.lost.size() < kMaxNamedLosses) {
      loss.lost.push_back(absl::StrCat(sample.id, "/", keys_[entry.key]));
    }
  }
  UpdateHeld(sample, rank);
  EraseUnheld(sample);
}

absl::StatusOr<Catalog::Located> Catalog::Find(const std::string& sample_id,
                                               const std::string& key) const {
  const Place place = FindPlace(sample_id, key);
  if (place.entry != nullptr) {
    const Entry& entry = *place.entry;
    return Located{entry.id,
                   Metadata(*place.sample, entry),
                   {entry.holders.begin(), entry.holders.end()},
                   entry.owner};
  }
  if (place.sample == nullptr) {
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
      for (const Entry& entry : sample->second->entries) {
        wanted.push_back(keys_[entry.key]);
      }
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
  auto it = after.empty() ? by_id_.begin() : by_id_.upper_bound(after);
  for (; it != by_id_.end() && static_cast<int64_t>(ids.size()) < count; ++it) {
    ids.push_back((*it)->id);
  }
  return ids;
}

bool Catalog::HasAfter(const std::string& id) const {
  return by_id_.upper_bound(id) != by_id_.end();
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
    Sample& known = *sample->second;
    std::map<Rank, std::vector<std::string>> keys_of;
    for (Entry& entry : known.entries) {
      for (const Rank rank : absl::InlinedVector<Rank, 4>(entry.holders)) {
        if (keep_owners && rank == entry.owner) continue;
        keys_of[rank].push_back(keys_[entry.key]);
        DropHolderFrom(entry, rank);
        ++*dropped;
      }
    }
    for (const auto& [rank, keys] : keys_of) UpdateHeld(known, rank);
    EraseUnheld(known);
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
