#ifndef SLUICE_AGENT_DESCRIPTOR_TABLE_H_
#define SLUICE_AGENT_DESCRIPTOR_TABLE_H_

// Descriptors on their way between workers and this agent, by (session, token):
// what a worker gave and LendMemory has not taken yet, and what it may fetch.

#include <cstdint>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/core/events.h"
#include "agent/device/mapped_memory.h"
#include "agent/device/memory_file.h"
#include "agent/device/unique_fd.h"
#include "common/ids.h"
#include "common/mutex.h"

namespace sluice::agent {

// Thread-safe.
class DescriptorTable {
 public:
  // Most descriptors given and not taken, per session.
  static constexpr int kMaxGiven = 64;

  struct Fetched {
    UniqueFd descriptor;
    int64_t size_bytes = 0;
  };

  DescriptorTable() = default;
  DescriptorTable(const DescriptorTable&) = delete;
  DescriptorTable& operator=(const DescriptorTable&) = delete;

  void AddSession(SessionId session);
  bool HasSession(SessionId session) const;
  // Closes what it gave and forgets what it may fetch.
  void RemoveSession(SessionId session);

  // Expires when the session is removed; at once if there is none.
  std::weak_ptr<const void> LifeOf(SessionId session) const;

  // Keeps a descriptor from a worker until Take. Errors: NOT_FOUND - session;
  // ALREADY_EXISTS - token; RESOURCE_EXHAUSTED - more than kMaxGiven.
  absl::Status Give(SessionId session, uint64_t token, UniqueFd descriptor);
  // Errors: NOT_FOUND - session or token.
  absl::StatusOr<UniqueFd> Take(SessionId session, uint64_t token);

  // Lets a session fetch a buffer while it lives; returns the token. The same
  // buffer and access give the same token.
  uint64_t Grant(SessionId session, BufferId buffer, Access access,
                 const std::shared_ptr<MappedMemory>& memory);
  // Errors: NOT_FOUND - session or token, or the buffer was freed.
  absl::StatusOr<Fetched> Fetch(SessionId session, uint64_t token) const;

 private:
  struct Granted {
    std::weak_ptr<MappedMemory> memory;  // a grant keeps nothing alive
    Access access = Access::kReadOnly;
  };
  struct Session {
    std::shared_ptr<const void> life = std::make_shared<const char>();
    absl::flat_hash_map<uint64_t, UniqueFd> given;
    absl::flat_hash_map<uint64_t, Granted> grants;
  };

  mutable Mutex mutex_;
  absl::flat_hash_map<SessionId, Session> sessions_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_DESCRIPTOR_TABLE_H_
