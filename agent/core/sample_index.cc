#include "agent/core/sample_index.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"

namespace sluice::agent {
namespace {

constexpr size_t kMaxKept = 1024;

absl::Status CheckEntry(const SampleEntry& entry) {
  const std::string name = SampleName(entry.sample_id, entry.key);
  if (entry.sample_id.empty() || entry.key.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": an id and a key are needed"));
  }
  if (ByteSize(entry.dtype) == 0) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": no dtype"));
  }
  // Lengths and trailing sizes may not overflow when multiplied and added.
  int64_t rows = 0;
  for (const int64_t length : entry.sequence_lengths) {
    if (length < 0 || __builtin_add_overflow(rows, length, &rows)) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": bad sequence length ", length));
    }
  }
  Shape shape = entry.trailing_shape;
  shape.push_back(rows);
  shape.push_back(ByteSize(entry.dtype));
  if (!NumElements(shape).has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": bad shape"));
  }
  return absl::OkStatus();
}

}  // namespace

std::string SampleName(absl::string_view sample_id, absl::string_view key) {
  return absl::StrCat("sample ", sample_id, ", key ", key);
}

SampleTensorPtr SampleIndex::Find(const std::string& sample_id,
                                  const std::string& key,
                                  bool with_committed) const {
  const auto it = held_.find({sample_id, key});
  if (it != held_.end()) return it->second;
  if (!with_committed) return nullptr;
  const auto reserved = reserved_.find({sample_id, key});
  if (reserved == reserved_.end()) return nullptr;
  const Reservation& reservation = reservations_.at(reserved->second);
  if (reservation.event_id == 0) return nullptr;
  for (const SampleTensorPtr& tensor : reservation.tensors) {
    if (tensor->entry.sample_id == sample_id && tensor->entry.key == key) {
      return tensor;
    }
  }
  return nullptr;
}

std::vector<std::string> SampleIndex::KeysOf(
    const std::string& sample_id) const {
  std::vector<std::string> keys;
  for (auto it = held_.lower_bound({sample_id, ""});
       it != held_.end() && it->first.first == sample_id; ++it) {
    keys.push_back(it->first.second);
  }
  return keys;
}

std::vector<SampleTensorPtr> SampleIndex::All() const {
  std::vector<SampleTensorPtr> all;
  for (const auto& [name, tensor] : held_) all.push_back(tensor);
  for (const auto& [id, reservation] : reservations_) {
    if (reservation.event_id == 0) continue;
    for (const SampleTensorPtr& tensor : reservation.tensors) {
      const Key name{tensor->entry.sample_id, tensor->entry.key};
      if (held_.count(name) == 0) all.push_back(tensor);
    }
  }
  return all;
}

void SampleIndex::Insert(SampleTensorPtr tensor) {
  Key key{tensor->entry.sample_id, tensor->entry.key};
  held_.try_emplace(std::move(key), std::move(tensor));
}

void SampleIndex::Clear(const std::string& sample_id,
                        const std::vector<std::string>& keys) {
  const auto named = [&](const Key& name) {
    return name.first == sample_id &&
           (keys.empty() ||
            std::find(keys.begin(), keys.end(), name.second) != keys.end());
  };
  auto it = held_.lower_bound({sample_id, ""});
  while (it != held_.end() && it->first.first == sample_id) {
    it = named(it->first) ? held_.erase(it) : std::next(it);
  }
  // What a worker committed and the coordinator knows already, but whose ack
  // has not come, is cleared as well: the ack will find it gone.
  auto reserved = reserved_.lower_bound({sample_id, ""});
  while (reserved != reserved_.end() && reserved->first.first == sample_id) {
    Reservation& reservation = reservations_.at(reserved->second);
    if (reservation.event_id == 0 || !named(reserved->first)) {
      ++reserved;
      continue;
    }
    const std::string& key = reserved->first.second;
    auto& tensors = reservation.tensors;
    tensors.erase(std::remove_if(tensors.begin(), tensors.end(),
                                 [&](const SampleTensorPtr& tensor) {
                                   return tensor->entry.key == key &&
                                          tensor->entry.sample_id == sample_id;
                                 }),
                  tensors.end());
    reserved = reserved_.erase(reserved);
  }
}

absl::Status SampleIndex::CheckNew(
    const std::vector<SampleEntry>& entries) const {
  if (entries.empty()) {
    return absl::InvalidArgumentError("no sample entry given");
  }
  std::set<Key> seen;
  for (const SampleEntry& entry : entries) {
    if (absl::Status status = CheckEntry(entry); !status.ok()) return status;
    const Key key{entry.sample_id, entry.key};
    if (!seen.insert(key).second) {
      return absl::InvalidArgumentError(absl::StrCat(
          SampleName(entry.sample_id, entry.key), " is given twice"));
    }
    if (held_.count(key) > 0 || reserved_.count(key) > 0) {
      return absl::AlreadyExistsError(absl::StrCat(
          SampleName(entry.sample_id, entry.key), " is ",
          held_.count(key) > 0 ? "held" : "reserved", " on this agent"));
    }
  }
  return absl::OkStatus();
}

ReservationId SampleIndex::Reserve(Reservation reservation) {
  const ReservationId id(next_id_++);
  for (const SampleTensorPtr& tensor : reservation.tensors) {
    reserved_[{tensor->entry.sample_id, tensor->entry.key}] = id;
  }
  reservations_.emplace(id, std::move(reservation));
  return id;
}

Reservation* SampleIndex::FindReservation(ReservationId id) {
  const auto it = reservations_.find(id);
  return it == reservations_.end() ? nullptr : &it->second;
}

void SampleIndex::EndReservation(ReservationId id, bool keep) {
  const auto it = reservations_.find(id);
  for (const SampleTensorPtr& tensor : it->second.tensors) {
    reserved_.erase({tensor->entry.sample_id, tensor->entry.key});
    if (keep) Insert(tensor);
  }
  reservations_.erase(it);
  if (!keep) return;
  kept_.insert(id);
  if (kept_.size() > kMaxKept) kept_.erase(kept_.begin());
}

}  // namespace sluice::agent
