// The coordinator over gRPC: real services, host and core; the store is in
// memory and the agents are the test.

#include "coordinator/server.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/status_grpc.h"
#include "coordinator/core_functions.h"
#include "proto/sluice/v1/catalog_service.grpc.pb.h"
#include "proto/sluice/v1/membership_service.grpc.pb.h"
#include "proto/sluice/v1/model_service.grpc.pb.h"
#include "proto/sluice/v1/status_service.grpc.pb.h"
#include "tests/fakes/fake_agent_client.h"
#include "tests/fakes/memory_store.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator {
namespace {

using testing::StatusIs;
using Code = absl::StatusCode;

constexpr auto kDeadline = std::chrono::seconds(20);

std::unique_ptr<grpc::ClientContext> Context() {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(std::chrono::system_clock::now() + kDeadline);
  return context;
}

// A coordinator on a free port, and clients to it.
class Fixture {
 public:
  explicit Fixture(Server::Options options = {}) {
    options.listen = "127.0.0.1:0";
    Server::Parts parts;
    parts.clock = std::make_unique<SystemClock>();
    parts.store = std::make_unique<testing::MemoryStore>();
    auto fake_agents = std::make_unique<testing::FakeAgentClientFactory>();
    agents = fake_agents.get();
    parts.agents = std::move(fake_agents);
    parts.core = MakeCore(CoreOptions());
    parts.plan = &PlanAndValidate;
    auto started = Server::Start(options, std::move(parts));
    REQUIRE_OK(started);
    server = *std::move(started);
    channel = grpc::CreateChannel(server->address(),
                                  grpc::InsecureChannelCredentials());
    membership = v1::MembershipService::NewStub(channel);
    catalog = v1::CatalogService::NewStub(channel);
    model = v1::ModelService::NewStub(channel);
    status = v1::StatusService::NewStub(channel);
  }

  absl::Status Register(v1::RegisterRequest request,
                        v1::RegisterResponse* response) {
    return FromGrpcStatus(
        membership->Register(Context().get(), request, response));
  }

  v1::GetStatusResponse Status() {
    v1::GetStatusResponse response;
    CHECK_OK(FromGrpcStatus(status->GetStatus(Context().get(), {}, &response)));
    return response;
  }

  testing::FakeAgentClientFactory* agents = nullptr;
  std::unique_ptr<Server> server;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::MembershipService::Stub> membership;
  std::unique_ptr<v1::CatalogService::Stub> catalog;
  std::unique_ptr<v1::ModelService::Stub> model;
  std::unique_ptr<v1::StatusService::Stub> status;
};

v1::RegisterRequest Agent() {
  v1::RegisterRequest request;
  request.set_name("n0-a0");
  request.set_node("n0");
  request.set_incarnation(77);
  request.set_address("127.0.0.1:1");
  request.set_device("host");
  request.set_memory_bytes(int64_t{1} << 30);
  request.set_staging_bytes(int64_t{64} << 20);
  request.set_pid(4711);
  return request;
}

v1::RegisterModelRequest Model(const std::string& name) {
  v1::RegisterModelRequest request;
  request.mutable_model()->set_name(name);
  v1::TensorSpec& tensor = *request.mutable_model()->add_tensors();
  tensor.set_name("w");
  tensor.set_dtype(v1::DTYPE_BF16);
  tensor.add_shape(8);
  tensor.add_shape(4);
  return request;
}

TEST_CASE("an agent registers, beats and is seen", "[server][grpc]") {
  Fixture f;
  v1::RegisterResponse registered;
  REQUIRE_OK(f.Register(Agent(), &registered));
  CHECK(registered.rank() == 0);
  CHECK(registered.epoch() == 1);
  CHECK(registered.cluster_id().size() == 32);
  CHECK(registered.lease().seconds() == 10);

  v1::HeartbeatRequest beat;
  beat.set_name("n0-a0");
  beat.set_incarnation(77);
  v1::HeartbeatResponse beaten;
  REQUIRE_OK(
      FromGrpcStatus(f.membership->Heartbeat(Context().get(), beat, &beaten)));
  CHECK(beaten.epoch() == 1);
  beat.set_incarnation(78);
  CHECK_THAT(
      FromGrpcStatus(f.membership->Heartbeat(Context().get(), beat, &beaten)),
      StatusIs(Code::kAborted));

  const auto target = f.agents->WaitForTarget(Rank(0));
  REQUIRE(target.has_value());
  CHECK(target->address == "127.0.0.1:1");
  CHECK(target->incarnation == Incarnation(77));
  const v1::GetStatusResponse status = f.Status();
  REQUIRE(status.agents_size() == 1);
  CHECK(status.agents(0).name() == "n0-a0");
  CHECK(status.agents(0).pid() == 4711);
  CHECK(status.agents(0).memory_bytes() == int64_t{1} << 30);
  CHECK(status.cluster_id() == registered.cluster_id());
  CHECK(status.coordinator_rss_bytes() > 1 << 20);
  CHECK(status.coordinator_cpu_seconds() > 0);
}

TEST_CASE("an open stream is welcomed", "[server][grpc]") {
  Fixture f;
  v1::RegisterResponse registered;
  REQUIRE_OK(f.Register(Agent(), &registered));
  REQUIRE(f.agents->WaitForTarget(Rank(0)).has_value());
  f.agents->Up(Rank(0));
  const auto command = f.agents->NextCommand(Rank(0));
  REQUIRE(command.has_value());
  const auto& welcome = std::get<WelcomeCommand>(command->body);
  CHECK(welcome.incarnation == Incarnation(77));
  CHECK(command->epoch == Epoch(1));
}

TEST_CASE("a malformed registration is refused by field", "[server][grpc]") {
  Fixture f;
  v1::RegisterRequest request = Agent();
  std::string field;
  SECTION("name") {
    request.clear_name();
    field = "name";
  }
  SECTION("long name") {
    request.set_name(std::string(kMaxAgentNameBytes + 1, 'n'));
    field = "name";
  }
  SECTION("node") {
    request.clear_node();
    field = "node";
  }
  SECTION("incarnation") {
    request.set_incarnation(0);
    field = "incarnation";
  }
  SECTION("address") {
    request.clear_address();
    field = "address";
  }
  SECTION("memory") {
    request.set_memory_bytes(-1);
    field = "memory_bytes";
  }
  v1::RegisterResponse response;
  CHECK_THAT(f.Register(request, &response),
             StatusIs(Code::kInvalidArgument, field));
  CHECK(f.Status().agents_size() == 0);
}

TEST_CASE("models are registered once and read back", "[server][grpc]") {
  Fixture f;
  v1::RegisterModelRequest request = Model("policy");
  v1::RegisterModelResponse registered;
  REQUIRE_OK(FromGrpcStatus(
      f.model->RegisterModel(Context().get(), request, &registered)));
  CHECK(registered.bytes() == 64);
  v1::GetModelRequest get;
  get.set_model("policy");
  v1::GetModelResponse model;
  REQUIRE_OK(FromGrpcStatus(f.model->GetModel(Context().get(), get, &model)));
  CHECK(model.model().tensors(0).name() == "w");
  request.mutable_model()->mutable_tensors(0)->set_shape(0, 9);
  CHECK_THAT(FromGrpcStatus(
                 f.model->RegisterModel(Context().get(), request, &registered)),
             StatusIs(Code::kAlreadyExists, "policy"));
  get.set_model("nobody");
  CHECK_THAT(FromGrpcStatus(f.model->GetModel(Context().get(), get, &model)),
             StatusIs(Code::kNotFound, "nobody"));
}

TEST_CASE("a request id belongs to one request", "[server][grpc]") {
  Fixture f;
  v1::RegisterModelRequest request = Model("policy");
  request.set_request_id("r-1");
  v1::RegisterModelResponse registered;
  for (int retry = 0; retry < 2; ++retry) {
    CHECK_OK(FromGrpcStatus(
        f.model->RegisterModel(Context().get(), request, &registered)));
  }
  v1::RegisterModelRequest other = Model("another");
  other.set_request_id("r-1");
  CHECK_THAT(FromGrpcStatus(
                 f.model->RegisterModel(Context().get(), other, &registered)),
             StatusIs(Code::kInvalidArgument, "r-1"));
  other.set_request_id(std::string(kMaxRequestIdBytes + 1, 'r'));
  CHECK_THAT(FromGrpcStatus(
                 f.model->RegisterModel(Context().get(), other, &registered)),
             StatusIs(Code::kInvalidArgument, "request_id"));
}

// Reads a stream of updates to its end.
absl::Status ReadAll(
    std::unique_ptr<grpc::ClientReader<v1::OperationUpdate>> reader) {
  v1::OperationUpdate update;
  while (reader->Read(&update)) {
  }
  return FromGrpcStatus(reader->Finish());
}

TEST_CASE("bad requests for operations are refused by field",
          "[server][grpc]") {
  Fixture f;
  const auto context = Context();
  v1::SyncRequest sync;
  sync.set_model("policy");
  sync.set_source("trainer");
  CHECK_THAT(ReadAll(f.model->Sync(context.get(), sync)),
             StatusIs(Code::kInvalidArgument, "destinations"));
  v1::PlanSyncResponse plan;
  CHECK_THAT(FromGrpcStatus(f.model->PlanSync(Context().get(), sync, &plan)),
             StatusIs(Code::kInvalidArgument, "destinations"));
  const auto load_context = Context();
  v1::LoadRequest load;
  load.set_model("policy");
  load.set_placement("trainer");
  load.set_directory("relative/path");
  CHECK_THAT(ReadAll(f.model->Load(load_context.get(), load)),
             StatusIs(Code::kInvalidArgument, "relative/path"));
  const auto redistribute_context = Context();
  v1::RedistributeRequest redistribute;
  v1::Want& want = *redistribute.add_wants();
  want.add_agents("n0-a0");
  want.add_sample_ids("s-1");
  want.add_keys("rewards");
  CHECK_THAT(ReadAll(f.catalog->Redistribute(redistribute_context.get(),
                                             redistribute)),
             StatusIs(Code::kInvalidArgument, "pattern"));
  v1::LocateResponse locate;
  CHECK_THAT(FromGrpcStatus(f.catalog->Locate(Context().get(), {}, &locate)),
             StatusIs(Code::kInvalidArgument, "sample_ids"));
}

TEST_CASE("a good request for what is not there is not found",
          "[server][grpc]") {
  Fixture f;
  const auto context = Context();
  v1::SyncRequest sync;
  sync.set_model("nobody");
  sync.set_source("trainer");
  sync.add_destinations("rollout");
  CHECK_THAT(ReadAll(f.model->Sync(context.get(), sync)),
             StatusIs(Code::kNotFound, "nobody"));
  v1::CancelOperationRequest cancel;
  cancel.set_operation(99);
  v1::CancelOperationResponse cancelled;
  CHECK_THAT(FromGrpcStatus(
                 f.model->CancelOperation(Context().get(), cancel, &cancelled)),
             StatusIs(Code::kNotFound, "99"));
}

TEST_CASE("a watcher sees what happens from now on", "[server][grpc]") {
  Fixture f;
  const auto context = Context();
  // A revision seen before says where to go on: nothing is missed.
  v1::RegisterResponse registered;
  REQUIRE_OK(f.Register(Agent(), &registered));
  const v1::GetStatusResponse before = f.Status();
  REQUIRE(before.events_size() > 0);
  v1::WatchEventsRequest watch;
  watch.set_after_revision(before.events(before.events_size() - 1).revision());
  const auto reader = f.status->WatchEvents(context.get(), watch);
  v1::RegisterRequest next = Agent();
  next.set_incarnation(78);
  REQUIRE_OK(f.Register(next, &registered));
  v1::Event event;
  REQUIRE(reader->Read(&event));
  CHECK(event.revision() == watch.after_revision() + 1);
  CHECK_FALSE(event.kind().empty());
  context->TryCancel();
  while (reader->Read(&event)) {
  }
  CHECK_THAT(FromGrpcStatus(reader->Finish()), StatusIs(Code::kCancelled));
}

TEST_CASE("a watcher of a revision that is not kept starts again",
          "[server][grpc]") {
  Fixture f;
  const auto context = Context();
  v1::WatchEventsRequest watch;
  watch.set_after_revision(1000000);
  const auto reader = f.status->WatchEvents(context.get(), watch);
  v1::Event event;
  CHECK_FALSE(reader->Read(&event));
  CHECK_THAT(FromGrpcStatus(reader->Finish()), StatusIs(Code::kOutOfRange));
}

TEST_CASE("watchers that come and go leave the coordinator well",
          "[server][grpc]") {
  Fixture f;
  std::vector<std::thread> watchers;
  for (int i = 0; i < 4; ++i) {
    watchers.emplace_back([&f] {
      for (int j = 0; j < 25; ++j) {
        const auto context = Context();
        const auto reader = f.status->WatchEvents(context.get(), {});
        context->TryCancel();
        v1::Event event;
        while (reader->Read(&event)) {
        }
        reader->Finish();
      }
    });
  }
  v1::RegisterResponse registered;
  for (uint64_t incarnation = 1; incarnation <= 50; ++incarnation) {
    v1::RegisterRequest request = Agent();
    request.set_incarnation(incarnation);
    CHECK_OK(f.Register(request, &registered));
  }
  for (std::thread& watcher : watchers) watcher.join();
  CHECK(f.Status().agents_size() == 1);
}

TEST_CASE("a message beyond the limit is refused", "[server][grpc]") {
  Server::Options options;
  options.max_message_bytes = 64 << 10;
  Fixture f(options);
  v1::RegisterModelRequest request = Model("policy");
  for (int i = 0; i < 4000; ++i) {
    v1::TensorSpec& tensor = *request.mutable_model()->add_tensors();
    tensor = request.model().tensors(0);
    tensor.set_name(absl::StrCat("tensor-", i));
  }
  v1::RegisterModelResponse registered;
  CHECK_THAT(FromGrpcStatus(
                 f.model->RegisterModel(Context().get(), request, &registered)),
             StatusIs(Code::kResourceExhausted));
  CHECK_OK(FromGrpcStatus(
      f.model->RegisterModel(Context().get(), Model("small"), &registered)));
}

// A unary call by name, with a message of no bytes.
grpc::Status CallByName(const std::shared_ptr<grpc::Channel>& channel,
                        const std::string& method) {
  grpc::GenericStub stub(channel);
  const auto context = Context();
  const grpc::Slice no_bytes;
  const grpc::ByteBuffer request(&no_bytes, 1);
  grpc::ByteBuffer response;
  std::promise<grpc::Status> status;
  stub.UnaryCall(context.get(), method, grpc::StubOptions(), &request,
                 &response,
                 [&status](grpc::Status s) { status.set_value(std::move(s)); });
  return status.get_future().get();
}

TEST_CASE("health and reflection are served", "[server][grpc]") {
  Fixture f;
  CHECK(CallByName(f.channel, "/grpc.health.v1.Health/Check").ok());
  // A stream: any answer but "unimplemented" says that it is there.
  CHECK(CallByName(f.channel,
                   "/grpc.reflection.v1alpha.ServerReflection/"
                   "ServerReflectionInfo")
            .error_code() != grpc::StatusCode::UNIMPLEMENTED);
  CHECK(CallByName(f.channel, "/sluice.v1.Nobody/Nothing").error_code() ==
        grpc::StatusCode::UNIMPLEMENTED);
}

TEST_CASE("a second server on the port is refused", "[server][grpc]") {
  Fixture f;
  Server::Options options;
  options.listen = f.server->address();
  Server::Parts parts;
  parts.clock = std::make_unique<SystemClock>();
  parts.store = std::make_unique<testing::MemoryStore>();
  parts.agents = std::make_unique<testing::FakeAgentClientFactory>();
  parts.core = MakeCore(CoreOptions());
  parts.plan = &PlanAndValidate;
  CHECK_THAT(Server::Start(options, std::move(parts)),
             StatusIs(Code::kAlreadyExists, f.server->address()));
}

TEST_CASE("shutting down ends waiting calls and then the server",
          "[server][grpc]") {
  Fixture f;
  const auto context = Context();
  const auto reader = f.status->WatchEvents(context.get(), {});
  std::thread shutdown([&f] { f.server->Shutdown(); });
  v1::Event event;
  while (reader->Read(&event)) {
  }
  CHECK_THAT(FromGrpcStatus(reader->Finish()), StatusIs(Code::kUnavailable));
  shutdown.join();
  v1::GetStatusResponse response;
  CHECK_THAT(
      FromGrpcStatus(f.status->GetStatus(Context().get(), {}, &response)),
      StatusIs(Code::kUnavailable));
}

}  // namespace
}  // namespace sluice::coordinator
