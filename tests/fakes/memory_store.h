#ifndef SLUICE_TESTS_FAKES_MEMORY_STORE_H_
#define SLUICE_TESTS_FAKES_MEMORY_STORE_H_

// A state store in memory that counts batches and fails when it is told to.
// What was written outlives the coordinator under test: hand the same store to
// the next one.

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/mutex.h"
#include "coordinator/store/state_store.h"

namespace sluice::testing {

// Thread-safe.
class MemoryStore final : public coordinator::StateStore {
 public:
  absl::Status Write(
      const std::vector<coordinator::StoreWrite>& batch) override {
    MutexLock lock(mutex_);
    if (!failure_.ok()) return failure_;
    ++batches_;
    for (const coordinator::StoreWrite& write : batch) {
      if (write.erase) {
        records_.erase({write.kind, write.key});
      } else {
        records_[{write.kind, write.key}] = write.value;
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<coordinator::StoredRecord>> ReadAll() override {
    MutexLock lock(mutex_);
    std::vector<coordinator::StoredRecord> records;
    for (const auto& [name, value] : records_) {
      records.push_back({name.first, name.second, value});
    }
    return records;
  }

  // From now on writes fail with this; OK ends it.
  void FailWrites(absl::Status status) {
    MutexLock lock(mutex_);
    failure_ = std::move(status);
  }

  // Number of batches written.
  int batches() const {
    MutexLock lock(mutex_);
    return batches_;
  }

 private:
  mutable Mutex mutex_;
  std::map<std::pair<std::string, std::string>, std::string> records_
      ABSL_GUARDED_BY(mutex_);
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  int batches_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_FAKES_MEMORY_STORE_H_
