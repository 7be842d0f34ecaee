#include <catch2/catch.hpp>

#include "absl/strings/str_cat.h"
#include "common/dtype.h"
#include "tests/coordinator/core/core_world.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator {
namespace {

using ::sluice::testing::StatusIs;

RegisterPlacementRequest Trainer() {
  RegisterPlacementRequest request;
  request.model = "policy";
  request.placement = "trainer";
  request.axes = {{"data", 1}, {"tensor", 2}};
  request.agents = {"a0", "a1"};
  request.layout = RowLayout();
  request.storage = Storage::kArena;
  return request;
}

void JoinTwo(CoreWorld& world) {
  world.Join("a0");
  world.Join("a1");
  RegisterModelRequest model;
  model.model = SmallModel();
  REQUIRE_OK(world.StatusOf(world.Call(model)));
}

PlacementStatus PlacementOf(CoreWorld& world, size_t index = 0) {
  GetModelRequest get;
  get.model = "policy";
  return world.BodyOf<GetModelReply>(world.Call(get)).placements.at(index);
}

Version NewestVersion(CoreWorld& world) {
  GetModelRequest get;
  get.model = "policy";
  return world.BodyOf<GetModelReply>(world.Call(get)).version;
}

// The outcome of the last ack an agent got.
EventAck LastAck(CoreWorld& world, const std::string& agent) {
  const auto acks = world.Agent(agent).Received<EventAck>();
  REQUIRE(!acks.empty());
  return acks.back();
}

void Write(CoreWorld& world, const std::string& agent, WriteEvent::Kind kind,
           int64_t step = 0, Version version = Version()) {
  FakeAgent& fake = world.Agent(agent);
  auto& [ref, held] = *fake.placements.begin();
  CopyInventory& copy = held.copies[0];
  copy = CopyInventory{};
  copy.state = CopyState::kPublished;
  if (kind == WriteEvent::Kind::kBegun) copy.state = CopyState::kWriting;
  if (kind == WriteEvent::Kind::kTorn) copy.state = CopyState::kTorn;
  copy.step = step;
  copy.version = version;
  WriteEvent write;
  write.placement = ref;
  write.kind = kind;
  write.step = step;
  write.version = version;
  write.worker = "w";
  world.Tell(fake, write, /*wants_ack=*/true);
}

TEST_CASE("a placement in a type that agents cannot convert to is refused",
          "[core]") {
  CoreWorld world;
  JoinTwo(world);
  RegisterPlacementRequest request = Trainer();
  request.layout.rules[0].dtype = DType::kF8E4M3;
  const absl::Status status = world.StatusOf(world.Call(request));
  CHECK_THAT(status, StatusIs(absl::StatusCode::kUnimplemented, "\"w\""));
  CHECK_THAT(status, StatusIs(absl::StatusCode::kUnimplemented,
                              "is F32 and would be held as F8_E4M3"));
  // That there is no such conversion at all is another matter.
  request.layout.rules[0].dtype = DType::kI32;
  CHECK_THAT(world.StatusOf(world.Call(request)),
             StatusIs(absl::StatusCode::kInvalidArgument, "no conversion"));
  for (const DType held :
       {DType::kF32, DType::kBF16, DType::kF16, DType::kF64}) {
    request.placement = absl::StrCat("as ", DTypeName(held));
    request.layout.rules[0].dtype = held;
    CHECK_OK(world.StatusOf(world.Call(request)));
  }
}

TEST_CASE("a model is durable before it is declared", "[core]") {
  CoreWorld world;
  world.hold_writes = true;
  RegisterModelRequest request;
  request.model = SmallModel();
  const CallId call = world.Call(request);
  const CallId same = world.Call(request);
  CHECK(world.ReplyTo(call) == nullptr);
  GetModelRequest get;
  get.model = "policy";
  CHECK_THAT(world.StatusOf(world.Call(get)),
             StatusIs(absl::StatusCode::kNotFound, "policy"));
  world.ReleaseWrite();
  CHECK(world.BodyOf<RegisterModelReply>(call).bytes == 160);  // 40 float32
  CHECK_OK(world.StatusOf(same));
  world.hold_writes = false;

  CHECK_OK(world.StatusOf(world.Call(request)));  // the same again
  request.model.tensors.pop_back();
  CHECK_THAT(world.StatusOf(world.Call(request)),
             StatusIs(absl::StatusCode::kAlreadyExists, "policy"));
  request.model.name = "";
  CHECK_THAT(world.StatusOf(world.Call(request)),
             StatusIs(absl::StatusCode::kInvalidArgument));
  world.Restart();
  CHECK_OK(world.StatusOf(world.Call(get)));
}

TEST_CASE("a full disk refuses a model and changes nothing", "[core]") {
  CoreWorld world;
  RegisterModelRequest request;
  request.request_id = "r1";
  request.model = SmallModel();
  world.write_error = absl::ResourceExhaustedError("disk full");
  CHECK_THAT(world.StatusOf(world.Call(request)),
             StatusIs(absl::StatusCode::kResourceExhausted));
  CHECK(world.Status().models.empty());
  world.write_error = absl::OkStatus();
  CHECK_OK(world.StatusOf(world.Call(request)));
}

TEST_CASE("a placement is told to all members, then durable, then declared",
          "[core]") {
  CoreWorld world;
  JoinTwo(world);
  world.Agent("a1").Mute<DefinePlacementCommand>();
  const CallId call = world.Call(Trainer());
  const CallId same = world.Call(Trainer());
  CHECK(world.Agent("a0").placements.size() == 1);
  CHECK_FALSE(world.HasStored("placement/"));
  CHECK(world.ReplyTo(call) == nullptr);
  // The second member answers.
  for (const Command& command : world.Agent("a1").received) {
    if (std::holds_alternative<DefinePlacementCommand>(command.body)) {
      world.Tell(world.Agent("a1"), CommandResult{command.id, {}});
    }
  }
  CHECK(world.HasStored("placement/policy/trainer"));
  // w [4, 4] and b [4] float32 at 256-byte offsets: 64 -> 256, then 16.
  const auto& reply = world.BodyOf<RegisterPlacementReply>(call);
  REQUIRE(reply.bytes.size() == 2);
  CHECK(reply.bytes[0] == reply.bytes[1]);
  CHECK(reply.bytes[0] >= 80);
  CHECK(reply.replicas == 1);
  CHECK_OK(world.StatusOf(same));
}

TEST_CASE("bad placements are refused before anybody is told", "[core]") {
  CoreWorld world;
  JoinTwo(world);
  RegisterPlacementRequest bad = Trainer();
  absl::StatusCode code = absl::StatusCode::kInvalidArgument;
  std::string names;
  SECTION("an unknown model") {
    bad.model = "critic";
    code = absl::StatusCode::kNotFound;
    names = "critic";
  }
  SECTION("an unknown agent") {
    bad.agents[1] = "a7";
    code = absl::StatusCode::kNotFound;
    names = "a7";
  }
  SECTION("an axis product unlike the agents") {
    bad.axes[1].size = 3;
    names = "expected 3";
  }
  SECTION("an agent twice") { bad.agents[1] = "a0"; }
  SECTION("an unknown replica axis") {
    bad.layout.replica_axes = {"pod"};
    names = "pod";
  }
  SECTION("a tensor that no rule matches") {
    bad.layout.rules[0].pattern = "w";
    names = "\"b\"";
  }
  SECTION("no name") { bad.placement = ""; }
  SECTION("an agent that is not there") {
    world.KillAgent("a1");
    code = absl::StatusCode::kUnavailable;
    names = "a1";
  }
  CHECK_THAT(world.StatusOf(world.Call(bad)), StatusIs(code, names));
  CHECK(world.Agent("a0").Received<DefinePlacementCommand>().empty());
}

TEST_CASE("too little memory is refused, with needed and free", "[core]") {
  CoreWorld world;
  world.Join("a0");
  FakeAgent& small = world.Join("a1");
  small.memory_bytes = 1300;  // room for two copies of 512, not for four
  world.RestartAgent("a1");
  RegisterModelRequest model;
  model.model = SmallModel();
  REQUIRE_OK(world.StatusOf(world.Call(model)));
  const CallId first = world.Call(Trainer());
  REQUIRE_OK(world.StatusOf(first));
  const int64_t copy = world.BodyOf<RegisterPlacementReply>(first).bytes[1];
  RegisterPlacementRequest second = Trainer();
  second.placement = "another";
  REQUIRE(copy == 512);  // w and b, each aligned to 256
  CHECK_THAT(world.StatusOf(world.Call(second)),
             StatusIs(absl::StatusCode::kResourceExhausted,
                      absl::StrCat(1300 - 2 * copy, " of 1300")));
  // Both copies of what is on the host count alike.
  second.storage = Storage::kHostArena;
  CHECK_THAT(world.StatusOf(world.Call(second)),
             StatusIs(absl::StatusCode::kResourceExhausted,
                      absl::StrCat(1300 - 2 * copy, " of 1300")));
  // Lent memory is the workers' own.
  second.storage = Storage::kLent;
  CHECK_OK(world.StatusOf(world.Call(second)));
}

TEST_CASE("a member that refuses a placement ends it for all", "[core]") {
  CoreWorld world;
  JoinTwo(world);
  world.Agent("a1").Refuse<DefinePlacementCommand>(
      absl::ResourceExhaustedError("no memfd"));
  CHECK_THAT(world.StatusOf(world.Call(Trainer())),
             StatusIs(absl::StatusCode::kResourceExhausted, "a1"));
  CHECK(world.Agent("a0").placements.empty());
  CHECK_FALSE(world.HasStored("placement/"));
  world.Agent("a1").StopRefusing();
  CHECK_OK(world.StatusOf(world.Call(Trainer())));
}

TEST_CASE("a member that does not answer ends it by name", "[core]") {
  CoreWorld world;
  JoinTwo(world);
  world.Agent("a1").Mute<DefinePlacementCommand>();
  const CallId call = world.Call(Trainer());
  SECTION("in time") { world.Advance(absl::Seconds(11)); }
  SECTION("or when it is lost") {
    world.KillAgent("a1");
    world.Advance(absl::Seconds(3));
  }
  CHECK_THAT(world.StatusOf(call),
             StatusIs(absl::StatusCode::kUnavailable, "a1"));
  CHECK(world.Agent("a0").placements.empty());
}

TEST_CASE("a member that comes back is told its placements again", "[core]") {
  CoreWorld world;
  JoinTwo(world);
  REQUIRE_OK(world.StatusOf(world.Call(Trainer())));
  world.RestartAgent("a1");
  CHECK(world.Agent("a1").placements.size() == 1);
  // A stream that breaks is no reason to tell it twice.
  world.Disconnect("a1");
  world.Connect("a1");
  CHECK(world.Agent("a1").Received<DefinePlacementCommand>().size() == 1);
  // Nor is a new coordinator.
  world.Restart();
  world.Advance(absl::Seconds(1));
  CHECK(world.Agent("a1").Received<DefinePlacementCommand>().size() == 1);
  CHECK(PlacementOf(world).placement == "trainer");
}

TEST_CASE("what is not declared any more is forgotten by agents", "[core]") {
  CoreWorld world;
  JoinTwo(world);
  REQUIRE_OK(world.StatusOf(world.Call(Trainer())));
  world.Disconnect("a1");
  RemovePlacementRequest remove;
  remove.request_id = "r1";
  remove.model = "policy";
  remove.placement = "trainer";
  CHECK_OK(world.StatusOf(world.Call(remove)));
  CHECK(world.Agent("a0").placements.empty());
  CHECK(world.Agent("a1").placements.size() == 1);
  CHECK_OK(world.StatusOf(world.Call(remove)));  // a retry
  remove.request_id = "r2";
  CHECK_THAT(world.StatusOf(world.Call(remove)),
             StatusIs(absl::StatusCode::kNotFound, "trainer"));
  world.Restart();
  world.Advance(absl::Seconds(1));
  CHECK(world.Agent("a1").placements.empty());
  CHECK_FALSE(world.HasStored("placement/"));
}

TEST_CASE("a placement that was told and not written is taken back", "[core]") {
  CoreWorld world;
  JoinTwo(world);
  world.hold_writes = true;
  world.Call(Trainer());
  CHECK(world.Agent("a0").placements.size() == 1);
  world.hold_writes = false;
  world.Restart();
  world.Advance(absl::Seconds(1));
  CHECK(world.Agent("a0").placements.empty());
}

TEST_CASE("a name is taken by another placement", "[core]") {
  CoreWorld world;
  JoinTwo(world);
  REQUIRE_OK(world.StatusOf(world.Call(Trainer())));
  CHECK_OK(world.StatusOf(world.Call(Trainer())));
  RegisterPlacementRequest other = Trainer();
  other.layout = ColumnLayout();
  CHECK_THAT(world.StatusOf(world.Call(other)),
             StatusIs(absl::StatusCode::kAlreadyExists, "trainer"));
}

TEST_CASE("a step becomes a version when all members have ended it", "[core]") {
  CoreWorld world;
  JoinTwo(world);
  RegisterPlacementRequest request = Trainer();
  request.storage = Storage::kLent;
  REQUIRE_OK(world.StatusOf(world.Call(request)));
  Write(world, "a0", WriteEvent::Kind::kLent);
  Write(world, "a1", WriteEvent::Kind::kLent);
  for (const char* name : {"a0", "a1"}) {
    Write(world, name, WriteEvent::Kind::kBegun);
  }
  Write(world, "a0", WriteEvent::Kind::kEnded, 1);
  CHECK(LastAck(world, "a0").version == Version(0));
  CHECK(NewestVersion(world) == Version(0));
  world.hold_writes = true;
  Write(world, "a1", WriteEvent::Kind::kEnded, 1);
  // The last one waits until the version is durable; nobody is told before.
  CHECK(LastAck(world, "a1").event_id == 2);  // of kBegun
  CHECK(world.Agent("a0").Received<VersionAssignedCommand>().empty());
  CHECK(PlacementOf(world).replicas[0].version == Version(0));
  world.hold_writes = false;
  world.ReleaseWrite();
  CHECK(LastAck(world, "a1").version == Version(1));
  CHECK(PlacementOf(world).replicas[0].version == Version(1));
  for (const char* name : {"a0", "a1"}) {
    const auto told = world.Agent(name).Received<VersionAssignedCommand>();
    REQUIRE(told.size() == 1);
    CHECK(told[0].version == Version(1));
    CHECK(told[0].step == 1);
  }
  // The same event again (its ack was lost) is acked alike, not acted on.
  FakeAgent& a1 = world.Agent("a1");
  WriteEvent ended;
  ended.placement = a1.placements.begin()->first;
  ended.kind = WriteEvent::Kind::kEnded;
  ended.step = 1;
  world.Do(AgentMessageEvent{a1.rank, a1.Event(ended, a1.next_event_id - 1)});
  CHECK(LastAck(world, "a1").version == Version(1));
  CHECK(NewestVersion(world) == Version(1));
}

TEST_CASE("replicas that end the same step have the same version", "[core]") {
  CoreWorld world;
  JoinTwo(world);
  RegisterPlacementRequest request = Trainer();
  request.storage = Storage::kLent;
  request.axes = {{"data", 2}, {"tensor", 1}};
  REQUIRE_OK(world.StatusOf(world.Call(request)));
  const auto step = [&world](const char* name, int64_t n) {
    Write(world, name, WriteEvent::Kind::kBegun);
    Write(world, name, WriteEvent::Kind::kEnded, n);
  };
  const auto version = [&world](int64_t replica) {
    return PlacementOf(world).replicas[static_cast<size_t>(replica)].version;
  };
  step("a0", 1);
  step("a0", 2);  // ahead of the other
  CHECK(version(0) == Version(2));
  step("a1", 1);
  CHECK(version(1) == Version(1));
  step("a1", 2);
  CHECK(version(1) == Version(2));
  CHECK(NewestVersion(world) == Version(2));
  SECTION("also when one ends it while the version is being written") {
    world.hold_writes = true;
    step("a0", 3);
    step("a1", 3);
    CHECK(world.num_held_writes() == 1);
    world.ReleaseWrite();
    CHECK(version(0) == Version(3));
    CHECK(version(1) == Version(3));
    CHECK(LastAck(world, "a1").version == Version(3));
  }
  SECTION("but a step written anew is other content") {
    step("a0", 2);
    CHECK(version(0) == Version(3));
    CHECK(version(1) == Version(2));
  }
  SECTION("and a restart gives no version twice") {
    world.Restart();
    world.Advance(absl::Seconds(1));
    CHECK(version(0) == Version(2));
    step("a0", 3);
    CHECK(version(0) == Version(3));
    step("a1", 3);
    CHECK(version(1) == Version(3));
  }
}

TEST_CASE("a copy being written or torn is no version", "[core]") {
  CoreWorld world;
  JoinTwo(world);
  RegisterPlacementRequest request = Trainer();
  request.storage = Storage::kLent;
  REQUIRE_OK(world.StatusOf(world.Call(request)));
  for (const char* name : {"a0", "a1"}) {
    Write(world, name, WriteEvent::Kind::kLent);
    Write(world, name, WriteEvent::Kind::kBegun);
    Write(world, name, WriteEvent::Kind::kEnded, 1);
  }
  CHECK(PlacementOf(world).replicas[0].version == Version(1));
  Write(world, "a0", WriteEvent::Kind::kBegun);
  CHECK(PlacementOf(world).replicas[0].version == Version(0));
  CHECK(PlacementOf(world).replicas[0].exceptions[0] == "a0: being written");
  Write(world, "a0", WriteEvent::Kind::kTorn);
  CHECK(PlacementOf(world).replicas[0].exceptions[0] == "a0: torn");
  CHECK(world.HasEvent("copy_torn", "a0"));
}

TEST_CASE("a worker's claim is taken if the version was given", "[core]") {
  CoreWorld world;
  JoinTwo(world);
  RegisterPlacementRequest request = Trainer();
  request.storage = Storage::kLent;
  REQUIRE_OK(world.StatusOf(world.Call(request)));
  for (const char* name : {"a0", "a1"}) {
    Write(world, name, WriteEvent::Kind::kLent);
    Write(world, name, WriteEvent::Kind::kBegun);
    Write(world, name, WriteEvent::Kind::kEnded, 1);
  }
  // The agent is new, the worker is not: it lends what it has.
  world.RestartAgent("a1");
  CHECK(PlacementOf(world).replicas[0].version == Version(0));
  Write(world, "a1", WriteEvent::Kind::kLent, 1, Version(9));
  CHECK_THAT(LastAck(world, "a1").outcome,
             StatusIs(absl::StatusCode::kInvalidArgument, "9"));
  CHECK(PlacementOf(world).replicas[0].version == Version(0));
  SECTION("by version") {
    Write(world, "a1", WriteEvent::Kind::kLent, 1, Version(1));
  }
  SECTION("or by step, if it was not told the version") {
    Write(world, "a1", WriteEvent::Kind::kLent, 1);
    CHECK(LastAck(world, "a1").version == Version(1));
  }
  CHECK(PlacementOf(world).replicas[0].version == Version(1));
}

TEST_CASE("an assignment that was lost on the way is made again", "[core]") {
  CoreWorld world;
  JoinTwo(world);
  RegisterPlacementRequest request = Trainer();
  request.storage = Storage::kLent;
  REQUIRE_OK(world.StatusOf(world.Call(request)));
  world.hold_writes = true;
  for (const char* name : {"a0", "a1"}) {
    Write(world, name, WriteEvent::Kind::kBegun);
    Write(world, name, WriteEvent::Kind::kEnded, 4);
  }
  // Durable, and the coordinator dies before it tells anybody.
  world.MakeDurableUnheard();
  world.hold_writes = false;
  world.Restart();
  world.Advance(absl::Seconds(1));
  CHECK(PlacementOf(world).replicas[0].version == Version(1));
  CHECK(NewestVersion(world) == Version(1));
  CHECK(world.Agent("a0").Received<VersionAssignedCommand>().size() == 1);
}

}  // namespace
}  // namespace sluice::coordinator
