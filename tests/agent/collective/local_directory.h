#ifndef SLUICE_TESTS_AGENT_COLLECTIVE_LOCAL_DIRECTORY_H_
#define SLUICE_TESTS_AGENT_COLLECTIVE_LOCAL_DIRECTORY_H_

// Members of groups in one process find each other without sockets.

#include <memory>
#include <set>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "agent/collective/group_directory.h"
#include "agent/collective/group_table.h"
#include "common/mutex.h"

namespace sluice::agent {

// Shared by all members; thread-safe.
class LocalDirectory final : public GroupDirectory {
 public:
  void Add(const GroupMemberKey& self,
           std::shared_ptr<GroupMember> member) override {
    table_.Add(self, std::move(member));
  }
  void Remove(const GroupMemberKey& self, const GroupMember* member) override {
    table_.Remove(self, member);
  }
  absl::StatusOr<SharedDescriptor> Join(const Peer&, const GroupMemberKey& key,
                                        int from, uint64_t life,
                                        SharedDescriptor board,
                                        absl::Duration) override {
    const auto member = table_.Find(key);
    if (member == nullptr) return absl::NotFoundError("not there");
    return member->Join(from, life, std::move(board));
  }
  absl::StatusOr<SharedDescriptor> OpenMemory(const Peer&,
                                              const GroupMemberKey& key,
                                              int slot, uint32_t generation,
                                              absl::Duration) override {
    const auto member = table_.Find(key);
    if (member == nullptr) return absl::NotFoundError("not there");
    return member->OpenMemory(slot, generation);
  }
  bool Gone(const Peer& peer) override {
    MutexLock lock(mutex_);
    return gone_.contains(peer.rank);
  }

  // As if the agent had died.
  void SetGone(Rank rank) {
    MutexLock lock(mutex_);
    gone_.insert(rank);
  }

 private:
  GroupTable table_;
  Mutex mutex_;
  std::set<Rank> gone_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice::agent

#endif  // SLUICE_TESTS_AGENT_COLLECTIVE_LOCAL_DIRECTORY_H_
