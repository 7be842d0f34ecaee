#ifndef SLUICE_COORDINATOR_CORE_DURABLE_LOG_H_
#define SLUICE_COORDINATOR_CORE_DURABLE_LOG_H_

// Makes records durable and goes on when they are: the one place where the
// core waits for the state store.

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/core/core_context.h"
#include "coordinator/core/records.h"

namespace sluice::coordinator {

// The store answers writes in order. A full disk (RESOURCE_EXHAUSTED) fails the
// writes that somebody waits for and delays the others; any other failure ends
// the process (Fatal), since nobody knows then what is on the disk.
class DurableLog {
 public:
  // Called once, in a later Step.
  using Done = std::function<void(const absl::Status&)>;

  explicit DurableLog(CoreContext& context) : context_(context) {}

  // Writes all or nothing, then calls `done` with OK or RESOURCE_EXHAUSTED.
  void Write(std::vector<Record> records, Done done);
  // As Write, but tries again for as long as the disk is full; `done` (may be
  // empty) comes with OK. A record written later under the same key wins.
  void WriteUntilDone(std::vector<Record> records, Done done = nullptr);
  void OnPersisted(const PersistedEvent& event);
  // Tries again what a full disk refused.
  void Retry();
  // Whether nothing is being written and nothing waits to be tried again.
  bool Idle() const { return pending_.empty() && refused_.empty(); }

 private:
  struct Pending {
    std::vector<Record> records;  // kept where it is tried again
    bool until_done = false;
    Done done;
  };

  uint64_t Emit(const std::vector<Record>& records);

  CoreContext& context_;
  uint64_t last_id_ = 0;
  std::map<uint64_t, Pending> pending_;
  std::vector<Pending> refused_;
  // The newest write of each key among `pending_`: an older one is not repeated
  // after it.
  std::map<std::string, uint64_t> newest_;
};

// The key under which a record is stored, with its kind: "agent/n0-a1".
std::string RecordKey(const Record& record);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_DURABLE_LOG_H_
