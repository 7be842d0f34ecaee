// What an agent's host tells its parts, and in which order.

#include "agent/host.h"

#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/buffer_registry.h"
#include "agent/device/host_device.h"
#include "agent/peer_directory.h"
#include "agent/source_table.h"
#include "common/clock.h"
#include "common/command.h"
#include "common/ids.h"
#include "tests/agent/fake_executor.h"

namespace sluice::agent {
namespace {

class DeafSink final : public EventSink {
 public:
  void Send(const AgentEvent&) override {}
  void Close(const absl::Status&) override {}
};

// A host whose executor logs what it is told, among what the listeners are.
class HostRig {
 public:
  HostRig()
      : host_(
            Options(),
            {clock_, device_, buffers_, sources_, peers_,
             [this](const std::vector<Peer>& peers) { Note("before", peers); },
             [this](const std::vector<Peer>& peers) { Note("on", peers); }}),
        executor_(host_.MakeExecutorCallbacks()) {
    host_.Start(executor_);
    host_.OpenStream(sink_,
                     {CommandId(1), Epoch(1),
                      WelcomeCommand{"cluster", Rank(0), Incarnation(7)}});
  }
  ~HostRig() { host_.Stop(); }

  void Send(CommandBody body) {
    host_.CommandFrom(sink_.get(),
                      {CommandId(++last_), Epoch(1), std::move(body)});
  }
  // What was told until all that was sent was carried out.
  std::vector<std::string> Log() {
    host_.Stop();
    return executor_.log();
  }

 private:
  static AgentHost::Options Options() {
    AgentHost::Options options;
    options.core.name = "agent-0";
    options.core.incarnation = Incarnation(7);
    options.node = "node-0";
    return options;
  }
  void Note(const std::string& when, const std::vector<Peer>& peers) {
    for (const Peer& peer : peers) {
      if (peer.rank == Rank(0)) continue;
      executor_.Note(
          absl::StrCat(when, " ", peer.name, " ", peer.incarnation.value()));
    }
  }

  const SystemClock clock_;
  HostDevice device_;
  BufferRegistry buffers_;
  SourceTable sources_;
  SocketPeerDirectory peers_{clock_};
  const std::shared_ptr<DeafSink> sink_ = std::make_shared<DeafSink>();
  uint64_t last_ = 1;
  AgentHost host_;
  FakeExecutor executor_;
};

SetPeersCommand Peers(uint64_t far_incarnation) {
  SetPeersCommand out;
  out.peers = {{Rank(0), "agent-0", "node-0", Incarnation(7), "self", "/s"},
               {Rank(1), "far", "node-1", Incarnation(far_incarnation),
                absl::StrCat("address-", far_incarnation), "/t"}};
  return out;
}

// Who was told of a peer at once began to talk to it, and found that the
// executor had no address of it, or the one of its former life.
TEST_CASE("who begins with a peer finds that the executor knows it",
          "[agent]") {
  HostRig rig;
  rig.Send(Peers(1));
  rig.Send(Peers(2));
  CHECK(rig.Log() == std::vector<std::string>{
                         "before far 1", "peer 1 address-1", "on far 1",
                         "before far 2", "peer 1 address-2", "on far 2"});
}

}  // namespace
}  // namespace sluice::agent
