#ifndef SLUICE_COORDINATOR_PLANNER_REFERENCE_STORAGE_TRACKER_H_
#define SLUICE_COORDINATOR_PLANNER_REFERENCE_STORAGE_TRACKER_H_

// Which rank holds which keys of which samples, and who owns each (sample,
// key). As AReaL's GlobalStorageTracker (realhf/system/redistributor.py), with
// snapshots that a planner reads while the tracker changes.
//
// Sample ids are byte strings; their order is bytewise.

#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "coordinator/planner/reference/key_table.h"
#include "coordinator/planner/reference/sample_tree.h"

namespace sluice::coordinator::reference {

// Everything in a storage, in a fixed order: for people and for tests.
struct StorageState {
  // By rank: (sample id, its keys in order of first adding), by id.
  std::vector<std::vector<std::pair<std::string, std::vector<std::string>>>>
      storages;
  // (sample id, key, owner), by id and key.
  std::vector<std::tuple<std::string, std::string, Rank>> owners;
};

// An immutable storage. Copies share everything; safe to read from any thread.
class StorageSnapshot {
 public:
  int32_t num_ranks() const { return num_ranks_; }
  int64_t num_samples() const { return samples_.size(); }
  // Returns where the sample is, or null; valid as long as this snapshot.
  const SampleRecord* Find(absl::string_view id) const {
    return samples_.Find(id);
  }
  // Find() of many, written to as many places, faster.
  void FindAll(absl::Span<const absl::string_view> ids,
               absl::Span<const SampleRecord*> found) const {
    samples_.FindAll(ids, found);
  }
  // The keys that records name by number.
  const KeyTable& keys() const { return *keys_; }
  StorageState State() const;

 private:
  friend class StorageTracker;
  StorageSnapshot(int32_t num_ranks, SampleTreeView samples,
                  std::shared_ptr<const KeyTable> keys)
      : num_ranks_(num_ranks),
        samples_(std::move(samples)),
        keys_(std::move(keys)) {}

  int32_t num_ranks_;
  SampleTreeView samples_;
  std::shared_ptr<const KeyTable> keys_;
};

// The storage that changes. Not thread-safe; Snapshot() costs microseconds
// whatever it holds, and each change after it copies a few nodes once.
class StorageTracker {
 public:
  // Errors: INVALID_ARGUMENT - less than one rank.
  static absl::StatusOr<StorageTracker> Create(int32_t num_ranks);

  // Adds keys of samples to a rank; what it has already stays as it is. With
  // `is_owner` the rank becomes the owner of each. Key by key, sample by sample
  // in the given order, or not at all.
  // Errors: INVALID_ARGUMENT - a rank outside [0, num_ranks), an empty key.
  absl::Status Add(Rank rank, absl::Span<const std::string> ids,
                   absl::Span<const std::string> keys, bool is_owner);
  // Drops samples from every rank, with their owners. Unknown ids are fine.
  void Clear(absl::Span<const std::string> ids);

  StorageSnapshot Snapshot();

  int32_t num_ranks() const { return num_ranks_; }
  int64_t num_samples() const { return samples_.size(); }

 private:
  explicit StorageTracker(int32_t num_ranks)
      : num_ranks_(num_ranks), keys_(std::make_shared<KeyTable>()) {}

  // The table to be written: a copy where a snapshot has the present one.
  KeyTable& WritableKeys();
  KeyTable::List Extend(KeyTable::List list, KeyTable::Key key);

  int32_t num_ranks_;
  SampleTree samples_;
  std::shared_ptr<KeyTable> keys_;
  bool keys_shared_ = false;  // with a snapshot
};

}  // namespace sluice::coordinator::reference

#endif  // SLUICE_COORDINATOR_PLANNER_REFERENCE_STORAGE_TRACKER_H_
