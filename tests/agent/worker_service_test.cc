#include "agent/worker_service.h"

#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "agent/device/host_device.h"
#include "agent/device/memory_file.h"
#include "common/convert_tensor.h"
#include "common/convert_time.h"
#include "tests/agent/agent_fixture.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::StatusIs;
using Code = absl::StatusCode;
using Stub = v1::WorkerService::Stub;

// One tensor of 100 bytes, whole on one agent.
DefinePlacementCommand Definition(const std::string& placement,
                                  Storage storage) {
  auto spec = std::make_shared<ModelSpec>();
  spec->name = "policy";
  spec->tensors = {{"w", DType::kU8, {100}}};
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

// An agent with a coordinator that has defined an ARENA and a LENT placement.
struct Cluster : AgentFixture {
  Cluster() {
    Start();
    peer = std::make_unique<CommandPeer>(*agent, 1);
    peer->Welcome();
    REQUIRE_OK(peer->ResultOf(CommandId(1)));
    REQUIRE_OK(peer->Do(Definition("rollout", Storage::kArena)));
    REQUIRE_OK(peer->Do(Definition("trainer", Storage::kLent)));
  }
  // Answers the next event that wants to be.
  v1::AgentEvent Acknowledge(Version version = Version()) {
    const auto event =
        peer->Next([](const v1::AgentEvent& e) { return e.event_id() != 0; });
    REQUIRE(event != nullptr);
    peer->Send(EventAck{event->event_id(), absl::OkStatus(), version});
    return *event;
  }

  std::unique_ptr<CommandPeer> peer;
};

template <typename Request>
Request For(const RawWorker& worker, const std::string& placement) {
  Request request;
  request.set_session(worker.attached.session());
  request.set_model("policy");
  request.set_placement(placement);
  return request;
}

// Runs a call of the worker on another thread while the test plays coordinator.
template <typename Call>
class Background {
 public:
  explicit Background(Call call)
      : thread_([this, call = std::move(call)] { status_ = call(); }) {}
  absl::Status Join() {
    thread_.join();
    return status_;
  }

 private:
  absl::Status status_;
  std::thread thread_;
};

// Lends `memory` for the trainer placement, and acknowledges it.
absl::Status Lend(Cluster& cluster, RawWorker& worker,
                  const MappedMemory& memory) {
  absl::Status given = worker.Give(memory.descriptor(), /*token=*/1);
  if (!given.ok()) return given;
  Background lend([&] {
    auto request = For<v1::LendMemoryRequest>(worker, "trainer");
    request.set_token(1);
    v1::LendMemoryResponse response;
    return worker.Call(&Stub::LendMemory, request, response);
  });
  cluster.Acknowledge();
  return lend.Join();
}

std::shared_ptr<MappedMemory> Arena(int64_t bytes) {
  HostDevice device;
  auto memory = device.Allocate(bytes, "test");
  REQUIRE_OK(memory);
  return *std::move(memory);
}

TEST_CASE("a worker attaches under a name of its own", "[agent][grpc]") {
  Cluster cluster;
  RawWorker first(*cluster.agent, "t0");
  REQUIRE(first.ok());
  CHECK(first.attached.agent() == "agent-1");
  CHECK(first.attached.rank() == 3);
  RawWorker same(*cluster.agent, "t0");
  CHECK_FALSE(same.ok());
  CHECK_THAT(same.Finish(), StatusIs(Code::kAlreadyExists, "t0"));
  RawWorker unnamed(*cluster.agent, "");
  CHECK_THAT(unnamed.Finish(), StatusIs(Code::kInvalidArgument));
  RawWorker other(*cluster.agent, "t1");
  CHECK(other.ok());
  CHECK(other.attached.session() != first.attached.session());
}

TEST_CASE("a name is free again when its worker has gone", "[agent][grpc]") {
  Cluster cluster;
  {
    RawWorker gone(*cluster.agent, "t0");
    REQUIRE(gone.ok());
  }
  // Its end travels on its own; attaching is retried by workers as well.
  bool attached = false;
  for (int i = 0; i < 10'000 && !attached; ++i) {
    attached = RawWorker(*cluster.agent, "t0").ok();
  }
  CHECK(attached);
}

TEST_CASE("a worker sees what its agent holds of a placement",
          "[agent][grpc]") {
  Cluster cluster;
  RawWorker worker(*cluster.agent, "w");
  v1::GetPlacementRequest request;
  request.set_model("policy");
  request.set_placement("rollout");
  v1::GetPlacementResponse response;
  REQUIRE_OK(worker.Call(&Stub::GetPlacement, request, response));
  CHECK(response.storage() == v1::STORAGE_ARENA);
  CHECK(response.layout().params_size() == 1);
  CHECK(response.layout().params(0).name() == "w");
  CHECK(response.version() == 0);
  request.set_placement("nothing");
  CHECK_THAT(worker.Call(&Stub::GetPlacement, request, response),
             StatusIs(Code::kNotFound, "nothing"));
}

TEST_CASE("lent memory is written in brackets and read by the agent's peers",
          "[agent][grpc]") {
  Cluster cluster;
  RawWorker worker(*cluster.agent, "w");
  const auto memory = Arena(4096);
  REQUIRE_OK(Lend(cluster, worker, *memory));

  v1::BeginWriteResponse began;
  REQUIRE_OK(worker.Call(&Stub::BeginWrite,
                         For<v1::BeginWriteRequest>(worker, "trainer"), began));
  CHECK(cluster.Acknowledge().write().kind() == v1::WriteEvent::KIND_BEGUN);
  auto end = For<v1::EndWriteRequest>(worker, "trainer");
  end.set_step(7);
  v1::EndWriteResponse ended;
  Background call([&] { return worker.Call(&Stub::EndWrite, end, ended); });
  const v1::AgentEvent event = cluster.Acknowledge(Version(21));
  CHECK(event.write().kind() == v1::WriteEvent::KIND_ENDED);
  CHECK(event.write().step() == 7);
  REQUIRE_OK(call.Join());
  CHECK(ended.version() == 21);

  // A pin of it maps the very memory that was lent, to read only.
  v1::PinResponse pin;
  REQUIRE_OK(
      worker.Call(&Stub::Pin, For<v1::PinRequest>(worker, "trainer"), pin));
  CHECK(pin.version() == 21);
  std::memcpy(memory->data() + pin.offset_bytes(), "weights", 7);
  REQUIRE_OK_AND_ASSIGN(auto fds, worker.Fetch(pin.token()));
  REQUIRE_OK_AND_ASSIGN(
      const auto mapped,
      MapMemoryFile(std::move(fds.at(0)), 4096, Access::kReadOnly));
  CHECK(std::memcmp(mapped->data() + pin.offset_bytes(), "weights", 7) == 0);
}

TEST_CASE("memory too small for its placement is not lent", "[agent][grpc]") {
  Cluster cluster;
  RawWorker worker(*cluster.agent, "w");
  const auto memory = Arena(99);
  REQUIRE_OK(worker.Give(memory->descriptor(), 1));
  auto request = For<v1::LendMemoryRequest>(worker, "trainer");
  request.set_token(1);
  v1::LendMemoryResponse response;
  CHECK_THAT(worker.Call(&Stub::LendMemory, request, response),
             StatusIs(Code::kInvalidArgument, "99"));
  // The descriptor was taken; a token that was not given is unknown.
  CHECK_THAT(worker.Call(&Stub::LendMemory, request, response),
             StatusIs(Code::kNotFound, "1"));
}

TEST_CASE("a worker that dies inside a bracket leaves a torn copy",
          "[agent][grpc]") {
  Cluster cluster;
  const auto memory = Arena(4096);
  {
    RawWorker worker(*cluster.agent, "w");
    REQUIRE_OK(Lend(cluster, worker, *memory));
    v1::BeginWriteResponse began;
    REQUIRE_OK(worker.Call(&Stub::BeginWrite,
                           For<v1::BeginWriteRequest>(worker, "trainer"),
                           began));
    cluster.Acknowledge();
  }
  const v1::AgentEvent event = cluster.Acknowledge();
  CHECK(event.write().kind() == v1::WriteEvent::KIND_TORN);
  CHECK(event.write().worker() == "w");
}

TEST_CASE("calls of a session that is no more are refused", "[agent][grpc]") {
  Cluster cluster;
  RawWorker worker(*cluster.agent, "w");
  auto request = For<v1::BeginWriteRequest>(worker, "trainer");
  // The number of the core, which a worker of a former life could have had.
  request.set_session(1);
  v1::BeginWriteResponse response;
  CHECK_THAT(worker.Call(&Stub::BeginWrite, request, response),
             StatusIs(Code::kNotFound));
}

TEST_CASE("samples are reserved, written, committed and read in place",
          "[agent][grpc]") {
  Cluster cluster;
  RawWorker worker(*cluster.agent, "w");
  v1::ReserveSamplesRequest reserve;
  reserve.set_session(worker.attached.session());
  *reserve.add_entries() =
      ToProto(SampleEntry{"s1", "rewards", DType::kF32, {3}, {}});
  *reserve.add_entries() =
      ToProto(SampleEntry{"s1", "empty", DType::kF32, {0}, {}});
  v1::ReserveSamplesResponse reserved;
  REQUIRE_OK(worker.Call(&Stub::ReserveSamples, reserve, reserved));
  REQUIRE(reserved.places_size() == 2);
  const v1::SamplePlace& place = reserved.places(0);
  CHECK(place.offset_bytes() % 64 == 0);
  REQUIRE_OK_AND_ASSIGN(auto fds, worker.Fetch(place.token()));
  REQUIRE_OK_AND_ASSIGN(const auto segment, MapMemoryFile(std::move(fds.at(0)),
                                                          place.segment_bytes(),
                                                          Access::kReadWrite));
  std::memcpy(segment->data() + place.offset_bytes(), "twelve bytes", 12);

  v1::CommitSamplesRequest commit;
  commit.set_session(worker.attached.session());
  commit.set_reservation(reserved.reservation());
  v1::CommitSamplesResponse committed;
  Background call(
      [&] { return worker.Call(&Stub::CommitSamples, commit, committed); });
  CHECK(cluster.Acknowledge().samples_added().entries_size() == 2);
  REQUIRE_OK(call.Join());

  // Another worker reads it.
  RawWorker reader(*cluster.agent, "r");
  v1::GetSamplesRequest get;
  get.set_session(reader.attached.session());
  get.add_sample_ids("s1");
  get.add_keys("rewards");
  v1::GetSamplesResponse got;
  REQUIRE_OK(reader.Call(&Stub::GetSamples, get, got));
  REQUIRE(got.places_size() == 1);
  REQUIRE_OK_AND_ASSIGN(fds, reader.Fetch(got.places(0).token()));
  REQUIRE_OK_AND_ASSIGN(
      const auto mapped,
      MapMemoryFile(std::move(fds.at(0)), got.places(0).segment_bytes(),
                    Access::kReadOnly));
  CHECK(std::memcmp(mapped->data() + got.places(0).offset_bytes(),
                    "twelve bytes", 12) == 0);
  CHECK_THAT(worker.Call(&Stub::ReserveSamples, reserve, reserved),
             StatusIs(Code::kAlreadyExists, "s1"));
  get.add_keys("nothing");
  CHECK_THAT(reader.Call(&Stub::GetSamples, get, got),
             StatusIs(Code::kNotFound, "nothing"));
}

TEST_CASE("samples that do not fit say what is needed", "[agent][grpc]") {
  Cluster cluster;
  RawWorker worker(*cluster.agent, "w");
  v1::ReserveSamplesRequest reserve;
  reserve.set_session(worker.attached.session());
  // The agent has 1 MiB in all.
  *reserve.add_entries() =
      ToProto(SampleEntry{"s1", "k", DType::kU8, {2 << 20}, {}});
  v1::ReserveSamplesResponse reserved;
  CHECK_THAT(worker.Call(&Stub::ReserveSamples, reserve, reserved),
             StatusIs(Code::kResourceExhausted));
  reserve.mutable_entries(0)->set_dtype(v1::DTYPE_UNSPECIFIED);
  CHECK_THAT(worker.Call(&Stub::ReserveSamples, reserve, reserved),
             StatusIs(Code::kInvalidArgument, "entries[0]"));
}

TEST_CASE(
    "a pin of what is not there ends at once; one of a version to come "
    "by its deadline",
    "[agent][grpc]") {
  Cluster cluster;
  RawWorker worker(*cluster.agent, "w");
  auto request = For<v1::PinRequest>(worker, "rollout");
  v1::PinResponse response;
  CHECK_THAT(worker.Call(&Stub::Pin, request, response),
             StatusIs(Code::kNotFound, "rollout"));
  *request.mutable_deadline() = ToProto(absl::Seconds(1));
  request.mutable_deadline()->set_seconds(-1);
  CHECK_THAT(worker.Call(&Stub::Pin, request, response),
             StatusIs(Code::kInvalidArgument, "deadline"));
}

TEST_CASE("a call that waits ends when the agent does", "[agent][grpc]") {
  Cluster cluster;
  RawWorker worker(*cluster.agent, "w");
  const auto memory = Arena(4096);
  REQUIRE_OK(worker.Give(memory->descriptor(), 1));
  // Nobody acknowledges.
  Background lend([&] {
    auto request = For<v1::LendMemoryRequest>(worker, "trainer");
    request.set_token(1);
    v1::LendMemoryResponse response;
    return worker.Call(&Stub::LendMemory, request, response);
  });
  REQUIRE(cluster.peer->Next([](const v1::AgentEvent& e) {
    return e.has_write();
  }) != nullptr);
  cluster.agent->Shutdown();
  CHECK_THAT(lend.Join(), StatusIs(Code::kUnavailable));
}

}  // namespace
}  // namespace sluice::agent
