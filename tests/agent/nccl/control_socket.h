#ifndef SLUICE_TESTS_AGENT_NCCL_CONTROL_SOCKET_H_
#define SLUICE_TESTS_AGENT_NCCL_CONTROL_SOCKET_H_

// GroupControl over a Unix socket: members, in one process or several, connect
// to a hub that hands what each says to all others and tells them who is gone.
// Stands in for Sluice's RPC.

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/collective/collective.h"
#include "agent/device/unique_fd.h"
#include "agent/nccl/group_control.h"
#include "common/mutex.h"
#include "common/serial_executor.h"

namespace sluice::testing {

// One life of a member, as its peers name it: "agent-2#17".
std::string LifeName(const Peer& peer);

// What goes over the sockets.
struct ControlFrame {
  enum class Kind : uint32_t { kHello, kGive, kFail, kGone };
  Kind kind = Kind::kHello;
  uint32_t member = 0;
  uint64_t group = 0;       // CollectiveMembers::Id()
  uint64_t generation = 0;  // how often it was made before
  uint64_t number = 0;      // of the exchange; or a status code
  std::string text;         // what is given, why it failed, or a life
};

class ControlHub {
 public:
  // Listens at `path`. Failing to ends the process.
  explicit ControlHub(const std::string& path);
  // Closes all connections.
  ~ControlHub();
  ControlHub(const ControlHub&) = delete;
  ControlHub& operator=(const ControlHub&) = delete;

 private:
  struct Client {
    agent::UniqueFd fd;
    std::string life;
  };
  void Serve();
  void Accept();
  // Takes a frame of a client or notes its end; false then.
  bool Hear(Client& client);
  void Tell(const Client* from, const ControlFrame& frame);

  agent::UniqueFd listener_;
  agent::UniqueFd stop_;
  std::deque<Client> clients_;
  // For those who connect later.
  std::vector<ControlFrame> history_;
  std::thread thread_;
};

class SocketControls final : public agent::GroupControls {
 public:
  // Connects as one life. Failing to ends the process.
  SocketControls(const std::string& path, const std::string& life);
  ~SocketControls() override;

  absl::StatusOr<std::shared_ptr<agent::GroupControl>> Join(
      const agent::CollectiveMembers& members, OnFailed on_failed) override;

 private:
  class Control;
  using Key = std::pair<uint64_t, uint64_t>;  // group, generation
  using Done = agent::GroupControl::Done;

  struct Group {
    std::optional<agent::CollectiveMembers> members;  // of who has joined
    std::map<std::pair<uint64_t, uint32_t>, std::string> given;
    absl::Status failure;
    std::vector<int> missing_at_failure;
    uint64_t next = 0;
    std::deque<std::pair<uint64_t, Done>> waiting;
    OnFailed on_failed;
  };

  void Read();
  void Handle(const ControlFrame& frame) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Say(const ControlFrame& frame) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CheckGone(Group& group) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Hands on what has become ready.
  void Deliver(Group& group) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static std::vector<int> MissingOf(const Group& group);

  agent::UniqueFd fd_;
  mutable Mutex mutex_;
  std::map<Key, Group> groups_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, uint64_t> generations_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> gone_ ABSL_GUARDED_BY(mutex_);
  SerialExecutor callbacks_;
  std::thread reader_;
};

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_AGENT_NCCL_CONTROL_SOCKET_H_
