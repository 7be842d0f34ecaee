#ifndef SLUICE_TESTS_AGENT_COLLECTIVE_REDUCE_RIG_H_
#define SLUICE_TESTS_AGENT_COLLECTIVE_REDUCE_RIG_H_

// Agents of one process and their workers in reduce groups, over groups that
// move bytes within it.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "agent/collective/reduce_groups.h"
#include "agent/device/host_device.h"
#include "common/clock.h"
#include "common/mutex.h"
#include "tests/fakes/fake_collectives.h"

namespace sluice::agent {

// What one member was told. Thread-safe.
class Told {
 public:
  void Joined(const absl::StatusOr<CollectiveMembers>& members) {
    MutexLock lock(mutex_);
    ++num_joined_;
    joined_ = members.status();
    changed_.SignalAll();
  }
  void Answered(const ReduceAnswer& answer) {
    MutexLock lock(mutex_);
    answers_.push_back(answer);
    changed_.SignalAll();
  }
  void Gone() {
    MutexLock lock(mutex_);
    gone_ = true;
    changed_.SignalAll();
  }

  absl::Status AwaitJoined() {
    MutexLock lock(mutex_);
    while (num_joined_ == 0) changed_.Wait(mutex_);
    return joined_;
  }
  // The answer to a request.
  ReduceAnswer Await(uint64_t id) {
    MutexLock lock(mutex_);
    for (;;) {
      for (const ReduceAnswer& answer : answers_) {
        if (answer.id == id) return answer;
      }
      changed_.Wait(mutex_);
    }
  }
  void AwaitGone() {
    MutexLock lock(mutex_);
    while (!gone_) changed_.Wait(mutex_);
  }
  // Ids answered so far, in order.
  std::vector<uint64_t> Order() const {
    MutexLock lock(mutex_);
    std::vector<uint64_t> ids;
    for (const ReduceAnswer& answer : answers_) ids.push_back(answer.id);
    return ids;
  }
  int num_joined() const {
    MutexLock lock(mutex_);
    return num_joined_;
  }

 private:
  mutable Mutex mutex_;
  CondVar changed_;
  int num_joined_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status joined_ ABSL_GUARDED_BY(mutex_);
  std::vector<ReduceAnswer> answers_ ABSL_GUARDED_BY(mutex_);
  bool gone_ ABSL_GUARDED_BY(mutex_) = false;
};

// A worker in a group, with a memory of its own under number 1.
struct RigMember {
  std::shared_ptr<MappedMemory> memory;
  std::shared_ptr<Told> told = std::make_shared<Told>();
  std::shared_ptr<ReduceLane> lane;

  template <typename T>
  T* At(int64_t offset) const {
    return reinterpret_cast<T*>(memory->data() + offset);
  }
};

class ReduceRig {
 public:
  static constexpr int64_t kMemoryBytes = 1 << 20;

  explicit ReduceRig(int num_agents) {
    for (int i = 0; i < num_agents; ++i) {
      peers_.push_back(Peer{Rank(i), AgentName(i), "node",
                            Incarnation(static_cast<uint64_t>(i) + 100), "",
                            ""});
    }
    for (int i = 0; i < num_agents; ++i) {
      agents_.push_back(std::make_unique<ReduceGroups>(ReduceGroups::Deps{
          device_, clock_,
          [this](CollectiveMembers members, const ReduceGroups::Timeouts&) {
            return collectives_.Make(std::move(members));
          },
          AgentName(i)}));
      agents_.back()->SetPeers(peers_);
    }
  }
  ~ReduceRig() {
    collectives_.Hold(false);
    for (auto& agent : agents_) agent->Shutdown();
  }

  static std::string AgentName(int agent) {
    return absl::StrCat("agent-", agent);
  }
  static ReduceGroupSpec Spec(std::vector<int> agents, std::string name = "g") {
    ReduceGroupSpec spec;
    spec.name = std::move(name);
    for (const int agent : agents) spec.agents.push_back(AgentName(agent));
    return spec;
  }

  // Joins a worker of an agent whose session is the agent's number.
  RigMember Join(int agent, ReduceGroupSpec spec) {
    RigMember out;
    spec.session = static_cast<uint64_t>(agent);
    out.memory = *device_.Allocate(kMemoryBytes, "test");
    const std::shared_ptr<Told> told = out.told;
    out.lane = agents_[static_cast<size_t>(agent)]->Join(
        std::move(spec), absl::StrCat("worker of ", AgentName(agent)),
        {[told](const absl::StatusOr<CollectiveMembers>& m,
                const std::string&) { told->Joined(m); },
         [told](const ReduceAnswer& answer) { told->Answered(answer); },
         [told] { told->Gone(); }});
    out.lane->Lend(kLendId, 1, out.memory);
    return out;
  }
  // Joins one of each agent named.
  std::vector<RigMember> JoinAll(const std::vector<int>& agents,
                                 const ReduceGroupSpec& spec) {
    std::vector<RigMember> out;
    for (const int agent : agents) out.push_back(Join(agent, spec));
    return out;
  }

  // The request whose inputs lie one after the other from `offset` on, and the
  // output after them.
  static ReduceScatterRequest Request(int members, DType dtype,
                                      std::vector<int64_t> shape,
                                      int64_t offset = 0) {
    int64_t bytes = ByteSize(dtype);
    for (const int64_t size : shape) bytes *= size;
    ReduceScatterRequest request;
    for (int m = 0; m < members; ++m) {
      request.inputs.push_back({1, offset + m * bytes, shape, dtype});
    }
    request.output = {1, offset + members * bytes, shape, dtype};
    return request;
  }

  // Now other agents live, or live anew.
  void SetPeers(const std::vector<Peer>& peers) {
    for (auto& agent : agents_) agent->SetPeers(peers);
  }

  const std::vector<Peer>& peers() const { return peers_; }
  ReduceGroups& agent(int i) { return *agents_[static_cast<size_t>(i)]; }
  sluice::testing::FakeCollectives& collectives() { return collectives_; }

  static constexpr uint64_t kLendId = 1'000'000;

 private:
  HostDevice device_;
  SystemClock clock_;
  sluice::testing::FakeCollectives collectives_;
  std::vector<Peer> peers_;
  std::vector<std::unique_ptr<ReduceGroups>> agents_;
};

}  // namespace sluice::agent

#endif  // SLUICE_TESTS_AGENT_COLLECTIVE_REDUCE_RIG_H_
