#include "client/cpp/client.h"

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/server_context.h>

#include <catch2/catch.hpp>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/mutex.h"
#include "common/retry.h"
#include "common/status_grpc.h"
#include "proto/sluice/v1/model_service.grpc.pb.h"
#include "proto/sluice/v1/operation.pb.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using testing::StatusIs;
using Code = absl::StatusCode;
using Writer = grpc::ServerWriter<v1::OperationUpdate>;

// What a call answers: updates, if it is a long one, and its status.
using Answer = std::function<absl::Status(Writer*)>;

Answer Fails(absl::Status status) {
  return [status](Writer*) { return status; };
}

// Sends an update that names a phase.
void Update(Writer& writer, v1::OperationPhase phase) {
  v1::OperationUpdate update;
  update.set_phase(phase);
  writer.Write(update);
}

Answer Finishes(uint64_t version) {
  return [version](Writer* writer) {
    v1::OperationUpdate update;
    update.mutable_result()->set_version(version);
    if (writer != nullptr) writer->Write(update);
    return absl::OkStatus();
  };
}

// Gone for now: what the transport says, or a coordinator that recovers.
absl::Status Away() { return Retryable(absl::UnavailableError("recovering")); }

// A coordinator that answers as it is told, call by call, and keeps the
// requests' ids.
class ScriptedCoordinator final : public v1::ModelService::Service {
 public:
  ScriptedCoordinator() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    REQUIRE(server_ != nullptr);
  }
  ~ScriptedCoordinator() override { server_->Shutdown(); }

  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }

  void Then(Answer answer) {
    const MutexLock lock(mutex_);
    answers_.push_back(std::move(answer));
  }

  std::vector<std::string> request_ids() {
    const MutexLock lock(mutex_);
    return request_ids_;
  }

 private:
  grpc::Status RegisterModel(grpc::ServerContext*,
                             const v1::RegisterModelRequest* request,
                             v1::RegisterModelResponse*) override {
    return ToGrpcStatus(Next(request->request_id())(nullptr));
  }
  grpc::Status Sync(grpc::ServerContext*, const v1::SyncRequest* request,
                    Writer* writer) override {
    return ToGrpcStatus(Next(request->request_id())(writer));
  }

  Answer Next(const std::string& request_id) {
    const MutexLock lock(mutex_);
    request_ids_.push_back(request_id);
    if (answers_.empty())
      return Fails(absl::InternalError("one call too many"));
    Answer answer = std::move(answers_.front());
    answers_.pop_front();
    return answer;
  }

  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  Mutex mutex_;
  std::deque<Answer> answers_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> request_ids_ ABSL_GUARDED_BY(mutex_);
};

std::unique_ptr<Client> Connected(const ScriptedCoordinator& coordinator,
                                  absl::Duration retry_for) {
  ClientOptions options;
  options.address = coordinator.address();
  options.retry_for = retry_for;
  options.rpc_deadline = absl::Seconds(30);
  absl::StatusOr<std::unique_ptr<Client>> client =
      Client::Connect(std::move(options));
  REQUIRE_OK(client);
  return *std::move(client);
}

TEST_CASE("an address is needed", "[client]") {
  CHECK_THAT(Client::Connect({}).status(), StatusIs(Code::kInvalidArgument));
}

TEST_CASE("a coordinator that recovers is asked again under the same id",
          "[client]") {
  ScriptedCoordinator coordinator;
  const auto client = Connected(coordinator, absl::Seconds(30));
  coordinator.Then(Fails(Away()));
  coordinator.Then(Fails(Away()));
  coordinator.Then(Fails(absl::OkStatus()));
  SECTION("that the client makes") {
    CHECK_OK(client->RegisterModel({}).status());
    const std::vector<std::string> ids = coordinator.request_ids();
    REQUIRE(ids.size() == 3);
    CHECK_FALSE(ids[0].empty());
    CHECK(ids[1] == ids[0]);
    CHECK(ids[2] == ids[0]);
    coordinator.Then(Fails(absl::OkStatus()));
    CHECK_OK(client->RegisterModel({}).status());
    CHECK(coordinator.request_ids()[3] != ids[0]);  // another request
  }
  SECTION("that the caller chose") {
    v1::RegisterModelRequest request;
    request.set_request_id("mine");
    CHECK_OK(client->RegisterModel(request).status());
    CHECK(coordinator.request_ids() ==
          std::vector<std::string>{"mine", "mine", "mine"});
  }
}

TEST_CASE("what was refused is not asked again", "[client]") {
  ScriptedCoordinator coordinator;
  const auto client = Connected(coordinator, absl::Seconds(30));
  const absl::Status refusal = GENERATE(
      absl::FailedPreconditionError("busy"),
      absl::UnavailableError("agent \"a\" was lost"), absl::NotFoundError("x"));
  coordinator.Then(Fails(refusal));
  CHECK(client->RegisterModel({}).status() == refusal);
  CHECK(coordinator.request_ids().size() == 1);
}

TEST_CASE("a client that never retries asks once", "[client]") {
  ScriptedCoordinator coordinator;
  const auto client = Connected(coordinator, absl::ZeroDuration());
  coordinator.Then(Fails(Away()));
  CHECK_THAT(client->RegisterModel({}).status(),
             StatusIs(Code::kUnavailable, "recovering"));
  CHECK(coordinator.request_ids().size() == 1);
}

TEST_CASE("a client gives up a coordinator that stays away", "[client]") {
  ClientOptions options;
  options.address = "127.0.0.1:1";  // nobody listens there
  options.retry_for = absl::Milliseconds(100);
  REQUIRE_OK_AND_ASSIGN(const auto client, Client::Connect(options));
  CHECK_THAT(client->GetStatus().status(), StatusIs(Code::kUnavailable));
}

TEST_CASE("a long operation tells its progress and returns its result",
          "[client]") {
  ScriptedCoordinator coordinator;
  const auto client = Connected(coordinator, absl::Seconds(30));
  coordinator.Then([](Writer* writer) {
    Update(*writer, v1::OPERATION_PHASE_PLANNING);
    Update(*writer, v1::OPERATION_PHASE_EXECUTING);
    return Finishes(7)(writer);
  });
  std::vector<v1::OperationPhase> phases;
  REQUIRE_OK_AND_ASSIGN(
      const v1::OperationResult result,
      client->Sync({}, [&](const v1::OperationUpdate& update) {
        if (!update.has_result()) phases.push_back(update.phase());
      }));
  CHECK(result.version() == 7);
  CHECK(phases ==
        std::vector<v1::OperationPhase>{v1::OPERATION_PHASE_PLANNING,
                                        v1::OPERATION_PHASE_EXECUTING});
}

TEST_CASE("an operation that ends without a result is an error", "[client]") {
  ScriptedCoordinator coordinator;
  const auto client = Connected(coordinator, absl::Seconds(30));
  coordinator.Then(Fails(absl::OkStatus()));
  CHECK_THAT(client->Sync({}).status(), StatusIs(Code::kInternal, "result"));
}

// Reproducer: what an operation had run counted as time without an answer, so
// that one that ran longer than retry_for was not taken up again.
TEST_CASE("an operation whose stream breaks late is taken up again",
          "[client]") {
  ScriptedCoordinator coordinator;
  const absl::Duration retry_for = absl::Milliseconds(500);
  const auto client = Connected(coordinator, retry_for);
  coordinator.Then([&](Writer* writer) {
    Update(*writer, v1::OPERATION_PHASE_EXECUTING);
    absl::SleepFor(retry_for + absl::Milliseconds(100));
    return Away();
  });
  coordinator.Then(Finishes(3));
  REQUIRE_OK_AND_ASSIGN(const v1::OperationResult result, client->Sync({}));
  CHECK(result.version() == 3);
  const std::vector<std::string> ids = coordinator.request_ids();
  REQUIRE(ids.size() == 2);
  CHECK(ids[0] == ids[1]);
}

}  // namespace
}  // namespace sluice
