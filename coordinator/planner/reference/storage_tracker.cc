#include "coordinator/planner/reference/storage_tracker.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace sluice::coordinator::reference {
namespace {

// The rank's holding, made with no key if it is not there.
Holding& HoldingOf(SampleRecord& record, Rank rank) {
  const auto it = std::lower_bound(
      record.holdings.begin(), record.holdings.end(), rank,
      [](const Holding& holding, Rank r) { return holding.rank < r; });
  if (it != record.holdings.end() && it->rank == rank) return *it;
  return *record.holdings.insert(it, Holding{rank, 0});
}

void SetOwner(SampleRecord& record, KeyTable::Key key, Rank rank) {
  for (KeyOwner& owner : record.owners) {
    if (owner.key == key) {
      owner.rank = rank;
      return;
    }
  }
  record.owners.push_back({key, rank});
}

}  // namespace

StorageState StorageSnapshot::State() const {
  StorageState state;
  state.storages.resize(static_cast<size_t>(num_ranks_));
  samples_.ForEach([&](const SampleRecord& record) {
    for (const Holding& holding : record.holdings) {
      std::vector<std::string> names;
      for (const KeyTable::Key key : keys_->Keys(holding.keys)) {
        names.push_back(keys_->Name(key));
      }
      state.storages[static_cast<size_t>(holding.rank.value())].emplace_back(
          std::string(record.id()), std::move(names));
    }
    for (const KeyOwner& owner : record.owners) {
      state.owners.emplace_back(std::string(record.id()),
                                keys_->Name(owner.key), owner.rank);
    }
  });
  for (auto& storage : state.storages) {
    std::sort(storage.begin(), storage.end());
  }
  std::sort(state.owners.begin(), state.owners.end());
  return state;
}

absl::StatusOr<StorageTracker> StorageTracker::Create(int32_t num_ranks) {
  if (num_ranks < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("storage: expected at least one rank, found ", num_ranks));
  }
  return StorageTracker(num_ranks);
}

KeyTable& StorageTracker::WritableKeys() {
  if (keys_shared_) {
    keys_ = std::make_shared<KeyTable>(*keys_);
    keys_shared_ = false;
  }
  return *keys_;
}

KeyTable::List StorageTracker::Extend(KeyTable::List list, KeyTable::Key key) {
  const KeyTable::List found = keys_->FindExtended(list, key);
  return found >= 0 ? found : WritableKeys().Extend(list, key);
}

absl::Status StorageTracker::Add(Rank rank, absl::Span<const std::string> ids,
                                 absl::Span<const std::string> keys,
                                 bool is_owner) {
  if (rank.value() < 0 || rank.value() >= num_ranks_) {
    return absl::InvalidArgumentError(
        absl::StrCat("storage: expected a rank of [0, ", num_ranks_,
                     "), found ", rank.value()));
  }
  std::vector<KeyTable::Key> numbers;
  for (const std::string& key : keys) {
    if (key.empty()) {
      return absl::InvalidArgumentError(
          "storage: expected the name of a key, found none");
    }
    const KeyTable::Key found = keys_->Find(key);
    numbers.push_back(found >= 0 ? found : WritableKeys().Intern(key));
  }
  if (numbers.empty()) return absl::OkStatus();
  // Most samples of a batch have the same list before, hence after.
  KeyTable::List before = -1, after = -1;
  for (const std::string& id : ids) {
    SampleRecord& record = samples_.Edit(id);
    Holding& holding = HoldingOf(record, rank);
    if (holding.keys != before) {
      before = after = holding.keys;
      for (const KeyTable::Key key : numbers) after = Extend(after, key);
    }
    holding.keys = after;
    if (!is_owner) continue;
    for (const KeyTable::Key key : numbers) SetOwner(record, key, rank);
  }
  return absl::OkStatus();
}

void StorageTracker::Clear(absl::Span<const std::string> ids) {
  for (const std::string& id : ids) samples_.Erase(id);
}

StorageSnapshot StorageTracker::Snapshot() {
  keys_shared_ = true;
  return StorageSnapshot(num_ranks_, samples_.Seal(), keys_);
}

}  // namespace sluice::coordinator::reference
