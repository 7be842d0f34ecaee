#ifndef SLUICE_AGENT_SOCKET_GROUP_DIRECTORY_H_
#define SLUICE_AGENT_SOCKET_GROUP_DIRECTORY_H_

// Members of collective groups on this node, over their agents' descriptor
// sockets. One connection to each agent serves all groups; when it breaks, the
// agent is gone.

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/collective/group_directory.h"
#include "agent/collective/group_table.h"
#include "agent/device/unique_fd.h"
#include "common/command.h"
#include "common/ids.h"
#include "common/mutex.h"

namespace sluice::v1 {
class PassRequest;
}  // namespace sluice::v1

namespace sluice::agent {

// Thread-safe. Timeouts are of the machine's steady clock.
class SocketGroupDirectory final : public GroupDirectory {
 public:
  // `table` is what this agent's DescriptorSocket serves.
  explicit SocketGroupDirectory(GroupTable& table) : table_(table) {}

  void Add(const GroupMemberKey& self,
           std::shared_ptr<GroupMember> member) override;
  void Remove(const GroupMemberKey& self, const GroupMember* member) override;
  absl::StatusOr<SharedDescriptor> Join(const Peer& peer,
                                        const GroupMemberKey& key, int from,
                                        uint64_t life, SharedDescriptor board,
                                        absl::Duration timeout) override;
  absl::StatusOr<SharedDescriptor> OpenMemory(const Peer& peer,
                                              const GroupMemberKey& key,
                                              int slot, uint32_t generation,
                                              absl::Duration timeout) override;
  bool Gone(const Peer& peer) override;

 private:
  // The connection to one life of an agent.
  struct Link {
    Mutex mutex;
    UniqueFd socket ABSL_GUARDED_BY(mutex);
    bool gone ABSL_GUARDED_BY(mutex) = false;

    // Errors: UNAVAILABLE - gone, or nobody listens.
    absl::Status ConnectLocked(const Peer& peer)
        ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
    bool GoneLocked(const Peer& peer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  };

  std::shared_ptr<Link> LinkTo(const Peer& peer);
  absl::StatusOr<SharedDescriptor> Ask(const Peer& peer,
                                       const v1::PassRequest& request,
                                       const std::vector<int>& descriptors,
                                       absl::Duration timeout);

  GroupTable& table_;
  Mutex mutex_;
  // By socket path and life.
  absl::flat_hash_map<std::pair<std::string, Incarnation>,
                      std::shared_ptr<Link>>
      links_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_SOCKET_GROUP_DIRECTORY_H_
