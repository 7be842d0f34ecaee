// A checkpoint through a whole agent: loaded, voted for, committed, pinned,
// digested.

#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/checkpoint/safetensors_writer.h"
#include "agent/copy/digest.h"
#include "agent/device/memory_file.h"
#include "tests/agent/agent_fixture.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::StatusIs;
using Code = absl::StatusCode;

constexpr int64_t kBytes = 64 << 10;

const PlacementRef kRollout{"policy", "rollout", 1};

// One tensor, whole on one agent.
DefinePlacementCommand Definition() {
  auto spec = std::make_shared<ModelSpec>();
  spec->name = "policy";
  spec->tensors = {{"w", DType::kU8, {kBytes}}};
  auto layout = std::make_shared<Layout>();
  layout->name = "whole";
  LayoutRule rule;
  rule.pattern = "w";
  layout->rules = {rule};
  DefinePlacementCommand out;
  out.definition.ref = kRollout;
  out.definition.spec = spec;
  out.definition.layout = layout;
  out.definition.mesh.axes = {{"data", 1}};
  out.definition.mesh.ranks = {Rank(3)};
  out.definition.agents = {"agent-1"};
  out.definition.storage = Storage::kArena;
  return out;
}

struct Cluster : AgentFixture {
  Cluster() : content(kBytes) {
    std::iota(content.begin(), content.end(), uint8_t{1});
    auto writer = SafetensorsWriter::Create(dir.File("model.safetensors"),
                                            {{"w", DType::kU8, {kBytes}}});
    REQUIRE_OK(writer);
    REQUIRE_OK((*writer)->Write(0, 0, content));
    REQUIRE_OK((*writer)->Finish());
    Start();
    peer = std::make_unique<CommandPeer>(*agent, 1);
    peer->Welcome();
    REQUIRE_OK(peer->ResultOf(CommandId(1)));
    REQUIRE_OK(peer->Do(Definition()));
  }

  LoadCommand LoadFrom(const std::string& directory) const {
    return {OperationId(5), kRollout, directory, absl::Minutes(1)};
  }
  // Loads, and returns the vote's outcome.
  absl::Status Load(const std::string& directory) {
    const CommandId id = peer->Send(LoadFrom(directory));
    absl::Status outcome = peer->ResultOf(id);
    if (!outcome.ok()) return outcome;
    const auto event =
        peer->Next([](const v1::AgentEvent& e) { return e.has_vote(); });
    if (event == nullptr) return absl::UnknownError("the stream ended");
    REQUIRE_OK(ParseOutcome(event->vote().outcome(), outcome));
    return outcome;
  }

  std::vector<uint8_t> content;
  std::unique_ptr<CommandPeer> peer;
};

TEST_CASE("a checkpoint is loaded, published and read by a worker",
          "[agent][grpc]") {
  Cluster cluster;
  RawWorker worker(*cluster.agent, "w");
  REQUIRE_OK(cluster.Load(cluster.dir.path()));
  REQUIRE_OK(cluster.peer->Do(CommitCommand{OperationId(5), Version(9)}));
  const v1::VersionNews news = worker.NextNews();
  CHECK(news.placement() == "rollout");
  CHECK(news.version() == 9);

  v1::PinRequest request;
  request.set_session(worker.attached.session());
  request.set_model("policy");
  request.set_placement("rollout");
  v1::PinResponse pin;
  REQUIRE_OK(worker.Call(&v1::WorkerService::Stub::Pin, request, pin));
  CHECK(pin.version() == 9);
  REQUIRE_OK_AND_ASSIGN(auto fds, worker.Fetch(pin.token()));
  REQUIRE_OK_AND_ASSIGN(
      const auto mapped,
      MapMemoryFile(std::move(fds.at(0)), pin.offset_bytes() + pin.bytes(),
                    Access::kReadOnly));
  CHECK(std::memcmp(mapped->data() + pin.offset_bytes(), cluster.content.data(),
                    kBytes) == 0);
}

TEST_CASE("digests of landed memory are those of the files", "[agent][grpc]") {
  Cluster cluster;
  REQUIRE_OK(cluster.Load(cluster.dir.path()));
  REQUIRE_OK(cluster.peer->Do(CommitCommand{OperationId(5), Version(9)}));
  cluster.peer->Send(ReadDigestsCommand{OperationId(6), kRollout, Version(9)});
  const auto event = cluster.peer->Next(
      [](const v1::AgentEvent& e) { return e.has_digests(); });
  REQUIRE(event != nullptr);
  REQUIRE(event->digests().digests_size() == 1);
  const Digest expected = DigestRun(cluster.content.data(), 0, kBytes);
  CHECK(event->digests().digests(0).lane0() == expected.lane0);
  CHECK(event->digests().digests(0).lane1() == expected.lane1);
}

TEST_CASE("digests are of the type that the order names", "[agent][grpc]") {
  Cluster cluster;
  REQUIRE_OK(cluster.Load(cluster.dir.path()));
  REQUIRE_OK(cluster.peer->Do(CommitCommand{OperationId(5), Version(9)}));
  CHECK_THAT(cluster.peer->Do(ReadDigestsCommand{
                 OperationId(6), kRollout, Version(9), {DType::kF32}}),
             StatusIs(Code::kInvalidArgument, "U8"));
  CHECK_THAT(
      cluster.peer->Do(ReadDigestsCommand{
          OperationId(7), kRollout, Version(9), {DType::kU8, DType::kU8}}),
      StatusIs(Code::kInvalidArgument, "1 tensors"));
}

TEST_CASE("a load that fails says why, and nothing is published",
          "[agent][grpc]") {
  Cluster cluster;
  CHECK_THAT(cluster.Load(cluster.dir.File("nowhere")),
             StatusIs(Code::kNotFound, "nowhere"));
  RawWorker worker(*cluster.agent, "w");
  v1::GetPlacementRequest request;
  request.set_model("policy");
  request.set_placement("rollout");
  v1::GetPlacementResponse response;
  REQUIRE_OK(
      worker.Call(&v1::WorkerService::Stub::GetPlacement, request, response));
  CHECK(response.version() == 0);
}

}  // namespace
}  // namespace sluice::agent
