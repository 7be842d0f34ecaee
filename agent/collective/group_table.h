#ifndef SLUICE_AGENT_COLLECTIVE_GROUP_TABLE_H_
#define SLUICE_AGENT_COLLECTIVE_GROUP_TABLE_H_

// The members of collective groups that this agent shows to its node.

#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "agent/collective/group_directory.h"
#include "common/mutex.h"

namespace sluice::agent {

// Thread-safe.
class GroupTable {
 public:
  GroupTable() = default;
  GroupTable(const GroupTable&) = delete;
  GroupTable& operator=(const GroupTable&) = delete;

  // As GroupDirectory.
  void Add(const GroupMemberKey& key, std::shared_ptr<GroupMember> member) {
    MutexLock lock(mutex_);
    members_[key] = std::move(member);
  }
  void Remove(const GroupMemberKey& key, const GroupMember* member) {
    MutexLock lock(mutex_);
    const auto it = members_.find(key);
    if (it != members_.end() && it->second.get() == member) members_.erase(it);
  }
  // Null if it is not there.
  std::shared_ptr<GroupMember> Find(const GroupMemberKey& key) const {
    MutexLock lock(mutex_);
    const auto it = members_.find(key);
    return it == members_.end() ? nullptr : it->second;
  }

 private:
  mutable Mutex mutex_;
  absl::flat_hash_map<GroupMemberKey, std::shared_ptr<GroupMember>> members_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_COLLECTIVE_GROUP_TABLE_H_
