// The command stream's messages: each body both ways, and what is refused.

#include "common/convert_command.h"

#include <google/protobuf/util/message_differencer.h>

#include <catch2/catch.hpp>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/convert_limits.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using testing::StatusIs;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

const PlacementRef kRef{"policy", "rollout", 7};

PlacementDefinition Definition() {
  PlacementDefinition definition;
  definition.ref = kRef;
  auto spec = std::make_shared<ModelSpec>();
  spec->name = "policy";
  spec->tensors = {{"w", DType::kBF16, {8, 4}}};
  definition.spec = spec;
  auto layout = std::make_shared<Layout>();
  layout->name = "hf";
  layout->rules.emplace_back().pattern = "*";
  definition.layout = layout;
  definition.mesh.axes = {{"tensor", 2}};
  definition.mesh.ranks = {Rank(4), Rank(2)};
  definition.agents = {"e", "c"};
  definition.mesh_index = 1;
  definition.storage = Storage::kLent;
  return definition;
}

PrepareCommand Prepare() {
  PrepareCommand prepare;
  prepare.operation = OperationId(5);
  prepare.part_digest = 99;
  auto part = std::make_shared<PlanPart>();
  part->digest = 99;
  part->num_plan_transfers = 1;
  Transfer& transfer = part->transfers.emplace_back();
  transfer.kind = TransferKind::kLocalCopy;
  transfer.source = transfer.destination = Rank(0);
  transfer.bytes = 64;
  transfer.wire_dtype = DType::kBF16;
  transfer.params = {Box({{0, 8}, {0, 4}}), {{0, 1, 1}}};
  prepare.part = part;
  prepare.source = {"policy", "trainer", 3};
  prepare.version = Version(2);
  prepare.destinations = {kRef};
  prepare.digests = false;
  prepare.staging_bytes = 1 << 20;
  prepare.wait_deadline = absl::Seconds(10);
  prepare.progress_timeout = absl::Milliseconds(1500);
  prepare.deadline = absl::Minutes(10);
  prepare.group = {"plans-1-2",
                   {{Rank(0), Incarnation(8)}, {Rank(4), Incarnation(9)}}};
  return prepare;
}

std::vector<CommandBody> AllCommands() {
  return {WelcomeCommand{"cluster", Rank(3), Incarnation(77)},
          DefinePlacementCommand{Definition()},
          RemovePlacementCommand{kRef},
          SetPeersCommand{{{Rank(1), "b", "n0", Incarnation(8),
                            std::string("\0\xFF", 2), "/tmp/b.sock"}}},
          LoadCommand{OperationId(1), kRef, "/ckpt", absl::Seconds(60)},
          Prepare(),
          ExecuteCommand{OperationId(2)},
          CommitCommand{OperationId(3), Version(7)},
          AbortCommand{OperationId(4), absl::CancelledError("asked")},
          ReleaseCommand{OperationId(5)},
          ReadDigestsCommand{
              OperationId(6), kRef, Version(9), {DType::kBF16, DType::kF32}},
          ClearSamplesCommand{{"s-1"}, {"rewards"}},
          EventAck{11, absl::NotFoundError("who"), Version(4)},
          VersionAssignedCommand{kRef, 12, Version(5)}};
}

std::vector<AgentEventBody> AllEvents() {
  InventoryEvent inventory;
  inventory.placements = {
      {kRef,
       {{CopyState::kPublished, Version(2), OperationId(), 3},
        {CopyState::kFilling, Version(), OperationId(8), 0}},
       512,
       true}};
  inventory.samples = {{"s-1", "rewards", DType::kF32, {2, 3}, {}}};
  inventory.owned = {true};
  inventory.more = true;
  inventory.operations = {OperationId(8)};
  inventory.undecided = {OperationId(9)};
  inventory.workers = {"w0"};
  VoteEvent vote;
  vote.operation = OperationId(8);
  vote.outcome = absl::DataLossError("digest of w differs");
  vote.stats = {{1, 2, 3}, {0.5, 0.25, 0}, 6, 1, 4096};
  vote.blamed = Rank(2);
  return {
      CommandResult{CommandId(4), absl::OkStatus()},
      inventory,
      ProgressEvent{OperationId(8), 1024},
      vote,
      StoppedEvent{OperationId(8)},
      SamplesAddedEvent{inventory.samples},
      WriteEvent{kRef, WriteEvent::Kind::kEnded, 3, Version(2), "w0"},
      DigestsEvent{OperationId(8), {{TensorIndex(1), Box({{0, 4}}), {11, 12}}}},
      WorkersEvent{{"w0", "w1"}}};
}

// The domain has no ==; a second trip shows what the first one lost.
template <typename Proto>
void CheckRoundTrip(const Proto& proto) {
  const auto value = FromProto(proto);
  CAPTURE(proto.DebugString());
  REQUIRE_OK(value);
  CHECK(google::protobuf::util::MessageDifferencer::Equals(proto,
                                                           ToProto(*value)));
}

TEST_CASE("every command survives the wire", "[convert]") {
  const std::vector<CommandBody> bodies = AllCommands();
  REQUIRE(bodies.size() == std::variant_size_v<CommandBody>);
  for (size_t i = 0; i < bodies.size(); ++i) {
    REQUIRE(bodies[i].index() == i);
    const Command command{CommandId(i + 1), Epoch(6), bodies[i]};
    const v1::Command proto = ToProto(command);
    CheckRoundTrip(proto);
    REQUIRE_OK_AND_ASSIGN(const Command back, FromProto(proto));
    CHECK(back.id == command.id);
    CHECK(back.epoch == Epoch(6));
    CHECK(back.body.index() == i);
  }
}

TEST_CASE("every agent event survives the wire", "[convert]") {
  const std::vector<AgentEventBody> bodies = AllEvents();
  REQUIRE(bodies.size() == std::variant_size_v<AgentEventBody>);
  for (size_t i = 0; i < bodies.size(); ++i) {
    REQUIRE(bodies[i].index() == i);
    const v1::AgentEvent proto =
        ToProto(AgentEvent{i + 1, Incarnation(9), bodies[i]});
    CheckRoundTrip(proto);
    REQUIRE_OK_AND_ASSIGN(const AgentEvent back, FromProto(proto));
    CHECK(back.event_id == i + 1);
    CHECK(back.incarnation == Incarnation(9));
    CHECK(back.body.index() == i);
  }
}

TEST_CASE("a prepare of samples or of a known part has neither source nor part",
          "[convert]") {
  PrepareCommand prepare = Prepare();
  prepare.source = {};
  prepare.part = nullptr;
  const v1::Command proto = ToProto(Command{CommandId(1), Epoch(1), prepare});
  CHECK_FALSE(proto.prepare().has_part());
  CHECK_FALSE(proto.prepare().has_source());
  REQUIRE_OK_AND_ASSIGN(const Command back, FromProto(proto));
  const auto& body = std::get<PrepareCommand>(back.body);
  CHECK(body.part == nullptr);
  CHECK(body.source.model.empty());
}

TEST_CASE("a definition comes back whole", "[convert]") {
  const PlacementDefinition definition = Definition();
  REQUIRE_OK_AND_ASSIGN(const PlacementDefinition back,
                        FromProto(ToProto(definition)));
  CHECK(back.ref == definition.ref);
  CHECK(*back.spec == *definition.spec);
  CHECK(*back.layout == *definition.layout);
  CHECK(back.mesh == definition.mesh);
  CHECK(back.agents == definition.agents);
  CHECK(back.mesh_index == 1);
  CHECK(back.storage == Storage::kLent);
}

TEST_CASE("each storage is told as it is", "[convert]") {
  for (const Storage storage :
       {Storage::kArena, Storage::kLent, Storage::kHostArena}) {
    PlacementDefinition definition = Definition();
    definition.storage = storage;
    REQUIRE_OK_AND_ASSIGN(const PlacementDefinition back,
                          FromProto(ToProto(definition)));
    CHECK(back.storage == storage);
  }
}

TEST_CASE("a malformed definition is refused", "[convert]") {
  v1::PlacementDefinition proto = ToProto(Definition());
  SECTION("no model") { proto.clear_model(); }
  SECTION("no placement") { proto.clear_placement(); }
  SECTION("no spec") { proto.clear_spec(); }
  SECTION("a rank missing") { proto.mutable_ranks()->RemoveLast(); }
  SECTION("a rank twice") { proto.set_ranks(1, 4); }
  SECTION("a negative rank") { proto.set_ranks(1, -1); }
  SECTION("an index outside the mesh") { proto.set_mesh_index(2); }
  SECTION("a negative index") { proto.set_mesh_index(-1); }
  SECTION("storage unspecified") { proto.clear_storage(); }
  SECTION("storage unknown") { proto.set_storage(static_cast<v1::Storage>(4)); }
  CHECK_THAT(FromProto(proto), StatusIs(kInvalid));
}

TEST_CASE("a malformed command is refused by its id", "[convert]") {
  v1::Command proto = ToProto(Command{CommandId(4711), Epoch(1), Prepare()});
  SECTION("no body") { proto.clear_body(); }
  SECTION("negative staging") {
    proto.mutable_prepare()->set_staging_bytes(-1);
  }
  SECTION("negative deadline") {
    proto.mutable_prepare()->mutable_deadline()->set_seconds(-1);
  }
  SECTION("a destination without a model") {
    proto.mutable_prepare()->mutable_destinations(0)->clear_model();
  }
  SECTION("a part beyond its plan") {
    proto.mutable_prepare()->mutable_part()->set_num_plan_transfers(0);
  }
  SECTION("a group without a name") {
    proto.mutable_prepare()->mutable_group()->clear_name();
  }
  SECTION("a group's member below rank 0") {
    proto.mutable_prepare()->mutable_group()->mutable_members(0)->set_rank(-1);
  }
  SECTION("a status code out of range") {
    proto.mutable_abort()->mutable_reason()->set_code(17);
  }
  SECTION("a directory without end") {
    proto = ToProto(Command{
        CommandId(4711), Epoch(1),
        LoadCommand{OperationId(1), kRef, std::string(kMaxPathBytes + 1, 'd'),
                    absl::Seconds(1)}});
  }
  CHECK_THAT(FromProto(proto), StatusIs(kInvalid, "4711"));
}

TEST_CASE("a malformed agent event is refused by its id", "[convert]") {
  const std::vector<AgentEventBody> bodies = AllEvents();
  v1::AgentEvent proto = ToProto(AgentEvent{4711, Incarnation(1), bodies[1]});
  SECTION("no body") { proto.clear_body(); }
  SECTION("owned unlike samples") {
    proto.mutable_inventory()->add_owned(false);
  }
  SECTION("unknown copy state") {
    proto.mutable_inventory()
        ->mutable_placements(0)
        ->mutable_copies(0)
        ->set_state(static_cast<v1::CopyState>(6));
  }
  SECTION("more copies than anybody has") {
    for (int i = 0; i < kMaxCopies; ++i) {
      proto.mutable_inventory()->mutable_placements(0)->add_copies();
    }
  }
  SECTION("negative bytes") {
    proto.mutable_inventory()->mutable_placements(0)->set_bytes(-1);
  }
  SECTION("negative progress") { proto.mutable_progress()->set_bytes_done(-1); }
  SECTION("blamed below none") { proto.mutable_vote()->set_blamed(-2); }
  SECTION("seconds that are no number") {
    proto.mutable_vote()->mutable_stats()->add_seconds(
        std::numeric_limits<double>::quiet_NaN());
    proto.mutable_vote()->mutable_stats()->add_seconds(0);
    proto.mutable_vote()->mutable_stats()->add_seconds(0);
  }
  SECTION("two link classes") {
    proto.mutable_vote()->mutable_stats()->add_seconds(0);
    proto.mutable_vote()->mutable_stats()->add_seconds(0);
  }
  SECTION("write of no kind") {
    proto = ToProto(AgentEvent{4711, Incarnation(1), bodies[6]});
    proto.mutable_write()->clear_kind();
  }
  SECTION("digest of a box that is none") {
    proto = ToProto(AgentEvent{4711, Incarnation(1), bodies[7]});
    proto.mutable_digests()->mutable_digests(0)->mutable_box()->set_lo(0, 5);
  }
  CHECK_THAT(FromProto(proto), StatusIs(kInvalid, "4711"));
}

TEST_CASE("a status keeps code and message", "[convert]") {
  const absl::Status status = absl::AbortedError("epoch 3, expected 4");
  absl::Status back;
  REQUIRE_OK(ParseOutcome(ToOutcome(status), back));
  CHECK(back == status);
  // Bytes that are no UTF-8 would make the message unreadable as a whole.
  CHECK(ToOutcome(absl::NotFoundError("a\xFF")).message() == "a?");
}

}  // namespace
}  // namespace sluice
