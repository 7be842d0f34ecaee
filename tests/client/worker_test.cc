#include "client/cpp/worker.h"

#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/command.h"
#include "common/convert_tensor.h"
#include "common/layout.h"
#include "common/mutex.h"
#include "tests/agent/agent_fixture.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using agent::AgentFixture;
using agent::CommandPeer;
using testing::StatusIs;
using Code = absl::StatusCode;

constexpr int64_t kBytes = 1000;

// One tensor, whole on one agent.
DefinePlacementCommand Definition(const std::string& placement,
                                  Storage storage) {
  auto spec = std::make_shared<ModelSpec>();
  spec->name = "policy";
  spec->tensors = {{"w", DType::kU8, {kBytes}}};
  auto layout = std::make_shared<Layout>();
  layout->name = "whole";
  LayoutRule rule;
  rule.pattern = "w";
  layout->rules = {rule};
  DefinePlacementCommand out;
  out.definition.ref = {"policy", placement, 1};
  out.definition.spec = spec;
  out.definition.layout = layout;
  out.definition.mesh.axes = {{"data", 1}};
  out.definition.mesh.ranks = {Rank(3)};
  out.definition.agents = {"agent-1"};
  out.definition.storage = storage;
  return out;
}

// A coordinator that welcomes one life of the agent, defines a LENT placement
// and acknowledges whatever wants to be; each ended step makes a version.
class AutoCoordinator {
 public:
  AutoCoordinator(agent::AgentServer& agent, uint64_t epoch,
                  uint64_t first_version)
      : peer_(agent, epoch), next_version_(first_version) {
    peer_.Welcome();
    REQUIRE_OK(peer_.ResultOf(CommandId(1)));
    REQUIRE_OK(peer_.Do(Definition("trainer", Storage::kLent)));
    thread_ = std::thread([this] { Run(); });
  }
  // The agent must be gone, which ends the stream.
  ~AutoCoordinator() { thread_.join(); }

  // Returns the n-th write event, once it came.
  v1::WriteEvent Write(size_t n) {
    MutexLock lock(mutex_);
    while (writes_.size() <= n && !ended_) {
      changed_.WaitFor(mutex_, absl::Seconds(1));
    }
    return writes_.size() > n ? writes_[n] : v1::WriteEvent();
  }

 private:
  void Run() {
    while (const auto event = peer_.Next(
               [](const v1::AgentEvent& e) { return e.event_id() != 0; })) {
      Version version;
      if (event->has_write()) {
        MutexLock lock(mutex_);
        writes_.push_back(event->write());
        changed_.SignalAll();
        if (event->write().kind() == v1::WriteEvent::KIND_ENDED) {
          version = Version(next_version_++);
        }
      }
      peer_.Send(EventAck{event->event_id(), absl::OkStatus(), version});
    }
    MutexLock lock(mutex_);
    ended_ = true;
    changed_.SignalAll();
  }

  CommandPeer peer_;
  Mutex mutex_;
  CondVar changed_;
  std::vector<v1::WriteEvent> writes_ ABSL_GUARDED_BY(mutex_);
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t next_version_;
  std::thread thread_;
};

struct Cluster : AgentFixture {
  Cluster() { Restart(); }
  ~Cluster() { Stop(); }

  // The agent dies; the coordinator hears of it.
  void Stop() {
    if (agent != nullptr) agent->Shutdown();
    coordinator_peer.reset();
    agent.reset();
  }
  // Its successor starts, and learns of its placements only later.
  void Restart() {
    Stop();
    Start();
    ++epoch;
    coordinator_peer =
        std::make_unique<AutoCoordinator>(*agent, epoch, 100 * epoch + 1);
  }
  WorkerOptions Worker(const std::string& name) const {
    WorkerOptions options;
    options.agent_socket = dir.File("sockets/agent-1.grpc.sock");
    options.name = name;
    options.rpc_deadline = absl::Seconds(20);
    options.reconnect_for = absl::Seconds(20);
    return options;
  }

  uint64_t epoch = 0;
  std::unique_ptr<AutoCoordinator> coordinator_peer;
};

SampleValue Value(const std::string& key, const std::vector<uint8_t>& bytes) {
  SampleValue value;
  value.entry = ToProto(SampleEntry{
      "s1", key, DType::kU8, {static_cast<int64_t>(bytes.size())}, {}});
  value.data = bytes.data();
  return value;
}

TEST_CASE("a worker writes lent memory and another pins the version",
          "[client][grpc]") {
  Cluster cluster;
  REQUIRE_OK_AND_ASSIGN(const auto trainer,
                        Worker::Attach(cluster.Worker("trainer")));
  REQUIRE_OK_AND_ASSIGN(const auto memory, trainer->Lend("policy", "trainer"));
  CHECK(memory->size() >= kBytes);
  REQUIRE_OK(trainer->BeginWrite("policy", "trainer"));
  std::memset(memory->data(), 42, kBytes);
  REQUIRE_OK_AND_ASSIGN(const uint64_t version,
                        trainer->EndWrite("policy", "trainer", /*step=*/1));
  CHECK(version == 101);

  REQUIRE_OK_AND_ASSIGN(const auto reader,
                        Worker::Attach(cluster.Worker("reader")));
  REQUIRE_OK_AND_ASSIGN(const auto pin, reader->Pin("policy", "trainer"));
  CHECK(pin->version() == 101);
  CHECK(pin->size() >= kBytes);
  CHECK(pin->data()[kBytes - 1] == std::byte{42});
  // The pin holds up the next bracket, until it goes.
  CHECK_THAT(trainer->BeginWrite("policy", "trainer", absl::Milliseconds(100)),
             StatusIs(Code::kDeadlineExceeded, "reader"));
}

TEST_CASE("workers hear of versions", "[client][grpc]") {
  Cluster cluster;
  std::atomic<uint64_t> newest{0};
  REQUIRE_OK_AND_ASSIGN(
      const auto reader,
      Worker::Attach(cluster.Worker("reader"), [&](const v1::VersionNews& n) {
        newest = n.version();
        newest.notify_all();
      }));
  REQUIRE_OK_AND_ASSIGN(const auto trainer,
                        Worker::Attach(cluster.Worker("trainer")));
  REQUIRE_OK(trainer->Lend("policy", "trainer"));
  REQUIRE_OK(trainer->BeginWrite("policy", "trainer"));
  REQUIRE_OK(trainer->EndWrite("policy", "trainer", 1));
  newest.wait(0);
  CHECK(newest == 101);
}

TEST_CASE("samples are put once and read in place, also after the agent's end",
          "[client][grpc]") {
  Cluster cluster;
  REQUIRE_OK_AND_ASSIGN(const auto worker, Worker::Attach(cluster.Worker("w")));
  const std::vector<uint8_t> bytes = {1, 2, 3, 4, 5};
  REQUIRE_OK(worker->PutSamples({Value("a", bytes), Value("none", {})}));
  REQUIRE_OK_AND_ASSIGN(const auto views,
                        worker->GetSamples({"s1"}, {"none", "a"}));
  REQUIRE(views.size() == 2);
  const SampleView& view = views[0].entry.key() == "a" ? views[0] : views[1];
  CHECK(view.bytes == 5);
  CHECK_THAT(worker->PutSamples({Value("a", bytes)}),
             StatusIs(Code::kAlreadyExists, "s1"));
  CHECK_THAT(worker->GetSamples({"s1"}, {"b"}), StatusIs(Code::kNotFound, "b"));
  cluster.Stop();
  CHECK(std::memcmp(view.data, bytes.data(), bytes.size()) == 0);
}

TEST_CASE("memory is lent again to a restarted agent, with what it holds",
          "[client][grpc]") {
  Cluster cluster;
  REQUIRE_OK_AND_ASSIGN(const auto worker,
                        Worker::Attach(cluster.Worker("trainer")));
  REQUIRE_OK_AND_ASSIGN(const auto memory, worker->Lend("policy", "trainer"));
  REQUIRE_OK(worker->BeginWrite("policy", "trainer"));
  std::memset(memory->data(), 7, kBytes);
  REQUIRE_OK(worker->EndWrite("policy", "trainer", /*step=*/5));

  cluster.Restart();
  const v1::WriteEvent lent = cluster.coordinator_peer->Write(0);
  CHECK(lent.kind() == v1::WriteEvent::KIND_LENT);
  CHECK(lent.version() == 101);
  CHECK(lent.step() == 5);
  CHECK(lent.worker() == "trainer");
  // The same memory goes on: written by the worker, read through the agent.
  REQUIRE_OK(worker->BeginWrite("policy", "trainer"));
  std::memset(memory->data(), 8, kBytes);
  REQUIRE_OK_AND_ASSIGN(const uint64_t version,
                        worker->EndWrite("policy", "trainer", 6));
  CHECK(version == 201);
  REQUIRE_OK_AND_ASSIGN(const auto pin, worker->Pin("policy", "trainer"));
  CHECK(pin->data()[0] == std::byte{8});
}

TEST_CASE("a bracket goes on over a restart of the agent, and claims nothing",
          "[client][grpc]") {
  Cluster cluster;
  REQUIRE_OK_AND_ASSIGN(const auto worker,
                        Worker::Attach(cluster.Worker("trainer")));
  REQUIRE_OK(worker->Lend("policy", "trainer"));
  REQUIRE_OK(worker->BeginWrite("policy", "trainer"));
  REQUIRE_OK(worker->EndWrite("policy", "trainer", 5));
  REQUIRE_OK(worker->BeginWrite("policy", "trainer"));

  cluster.Restart();
  const v1::WriteEvent lent = cluster.coordinator_peer->Write(0);
  CHECK(lent.kind() == v1::WriteEvent::KIND_LENT);
  CHECK(lent.version() == 0);
  CHECK(lent.step() == 0);
  REQUIRE_OK_AND_ASSIGN(const uint64_t version,
                        worker->EndWrite("policy", "trainer", 6));
  CHECK(version == 201);
  CHECK(cluster.coordinator_peer->Write(1).kind() ==
        v1::WriteEvent::KIND_BEGUN);
  CHECK(cluster.coordinator_peer->Write(2).kind() ==
        v1::WriteEvent::KIND_ENDED);
}

TEST_CASE("what an agent refuses, its worker is told", "[client][grpc]") {
  Cluster cluster;
  REQUIRE_OK_AND_ASSIGN(const auto worker, Worker::Attach(cluster.Worker("w")));
  CHECK(worker->attached().agent() == "agent-1");
  CHECK_THAT(Worker::Attach(cluster.Worker("w")).status(),
             StatusIs(Code::kAlreadyExists, "w"));
  CHECK_THAT(worker->Lend("policy", "nothing"),
             StatusIs(Code::kNotFound, "nothing"));
  CHECK_THAT(worker->BeginWrite("policy", "trainer"),
             StatusIs(Code::kFailedPrecondition, "trainer"));
  CHECK_THAT(worker->Pin("policy", "trainer"),
             StatusIs(Code::kNotFound, "trainer"));
}

TEST_CASE("an agent that is not there is said within the time given",
          "[client][grpc]") {
  WorkerOptions options;
  options.agent_socket = "/tmp/sluice-no-agent.grpc.sock";
  options.name = "w";
  options.reconnect_for = absl::Milliseconds(100);
  CHECK_THAT(Worker::Attach(options).status(),
             StatusIs(Code::kUnavailable, "sluice-no-agent"));
}

}  // namespace
}  // namespace sluice
