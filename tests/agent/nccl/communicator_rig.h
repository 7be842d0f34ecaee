#ifndef SLUICE_TESTS_AGENT_NCCL_COMMUNICATOR_RIG_H_
#define SLUICE_TESTS_AGENT_NCCL_COMMUNICATOR_RIG_H_

// Communicators of several agents in one process, over the fake library and by
// a clock that the test moves.

#include <catch2/catch.hpp>
#include <cstdlib>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "agent/collective/collective.h"
#include "agent/nccl/communicator.h"
#include "agent/nccl/communicators.h"
#include "agent/nccl/nccl_library.h"
#include "tests/agent/nccl/control_socket.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/nccl/host_stream.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_dir.h"

namespace sluice::testing {

// Agent n is rank n on node n, in its life 10 + n.
inline Peer RigPeer(int agent) {
  Peer peer;
  peer.rank = Rank(agent);
  peer.name = absl::StrCat("agent-", agent);
  peer.node = absl::StrCat("node-", agent);
  peer.incarnation = Incarnation(10 + static_cast<uint64_t>(agent));
  return peer;
}

// A group of `agents`; `self` counts among them.
inline agent::CollectiveMembers RigMembers(const std::string& name,
                                           const std::vector<int>& agents,
                                           int self) {
  agent::CollectiveMembers members;
  members.name = name;
  members.self = self;
  for (const int agent : agents) members.peers.push_back(RigPeer(agent));
  return members;
}

class CommunicatorRig {
 public:
  using Shared = std::shared_ptr<agent::Communicator>;

  explicit CommunicatorRig(int agents,
                           const agent::CommunicatorOptions& options = {}) {
    ::setenv("SLUICE_FAKE_NCCL_DEVICE", "each", 1);
    ::setenv("SLUICE_FAKE_NCCL_DIR", dir_.path().c_str(), 1);
    ::setenv("SLUICE_FAKE_NCCL_CONTROL", dir_.Write("faults", "").c_str(), 1);
    auto library = agent::NcclLibrary::Open(
        {.path = "tests/fakes/nccl/libfake_nccl.so", .search = {}});
    REQUIRE_OK(library);
    for (int m = 0; m < agents; ++m) {
      controls_.push_back(std::make_unique<SocketControls>(
          dir_.File("hub"), LifeName(RigPeer(m))));
      auto made = agent::Communicators::Create(
          {.library = *library,
           .device = device_,
           .controls = *controls_.back(),
           .clock = clock_,
           .on_stuck =
               [this](const std::string& what) { stuck_.set_value(what); }},
          options);
      REQUIRE_OK(made);
      agents_.push_back(*std::move(made));
    }
  }

  agent::Communicators& agent(int m) {
    return *agents_[static_cast<size_t>(m)];
  }
  FakeClock& clock() { return clock_; }
  void SetFaults(const std::string& faults) { dir_.Write("faults", faults); }
  std::string AwaitStuck() { return stuck_.get_future().get(); }

  // An agent's communicator of a group, to be connected.
  Shared Find(int m, const agent::CollectiveMembers& members) {
    REQUIRE_OK(agent(m).Declare(members));
    auto found = agent(m).Find(members.Id());
    REQUIRE_OK(found);
    return *found;
  }

 private:
  TestDir dir_;
  ControlHub hub_{dir_.File("hub")};
  FakeClock clock_;
  HostNcclDevice device_{"gpu"};
  std::promise<std::string> stuck_;
  std::vector<std::unique_ptr<SocketControls>> controls_;
  std::vector<std::unique_ptr<agent::Communicators>> agents_;
};

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_AGENT_NCCL_COMMUNICATOR_RIG_H_
