#ifndef SLUICE_TESTS_AGENT_AGENT_FIXTURE_H_
#define SLUICE_TESTS_AGENT_AGENT_FIXTURE_H_

// A real agent on real sockets, with an executor that moves nothing, and both
// its callers: a coordinator that speaks the command stream and a worker.

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "agent/device/descriptor_passing.h"
#include "agent/server.h"
#include "common/convert_command.h"
#include "common/status_grpc.h"
#include "proto/sluice/v1/agent_service.grpc.pb.h"
#include "proto/sluice/v1/descriptor_socket.pb.h"
#include "proto/sluice/v1/worker_service.grpc.pb.h"
#include "tests/agent/fake_executor.h"
#include "tests/agent/fake_membership.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_dir.h"

namespace sluice::agent {

inline std::shared_ptr<grpc::Channel> Dial(const std::string& address) {
  return grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
}

// A deadline that only a hang reaches.
inline void Limit(grpc::ClientContext& context) {
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::seconds(20));
}

// A coordinator's end of the command stream.
class CommandPeer {
 public:
  CommandPeer(AgentServer& agent, uint64_t epoch)
      : epoch_(epoch),
        incarnation_(agent.incarnation()),
        stub_(v1::AgentService::NewStub(
            Dial(absl::StrCat("127.0.0.1:", agent.port())))) {
    Limit(context_);
    stream_ = stub_->CommandStream(&context_);
  }
  ~CommandPeer() {
    context_.TryCancel();
    if (!finished_) stream_->Finish();
  }

  // Sends a command; returns its id.
  CommandId Send(CommandBody body) {
    const CommandId id(++last_id_);
    stream_->Write(ToProto(Command{id, Epoch(epoch_), std::move(body)}));
    return id;
  }
  void Welcome() { Send(WelcomeCommand{"cluster", Rank(3), incarnation_}); }

  // Returns the next event for which `wanted` is true; skips and acknowledges
  // others where they want it. Null when the stream ends.
  std::unique_ptr<v1::AgentEvent> Next(
      const std::function<bool(const v1::AgentEvent&)>& wanted) {
    auto event = std::make_unique<v1::AgentEvent>();
    while (stream_->Read(event.get())) {
      if (wanted(*event)) return event;
    }
    return nullptr;
  }
  absl::Status ResultOf(CommandId id) {
    const auto event = Next([&](const v1::AgentEvent& e) {
      return e.has_result() && e.result().command_id() == id.value();
    });
    if (event == nullptr) return absl::UnknownError("the stream ended");
    absl::Status outcome;
    REQUIRE_OK(ParseOutcome(event->result().outcome(), outcome));
    return outcome;
  }
  absl::Status Do(CommandBody body) { return ResultOf(Send(std::move(body))); }

  absl::Status Finish() {
    v1::AgentEvent event;
    while (stream_->Read(&event)) {
    }
    finished_ = true;
    return FromGrpcStatus(stream_->Finish());
  }

 private:
  const uint64_t epoch_;
  const Incarnation incarnation_;
  uint64_t last_id_ = 0;
  bool finished_ = false;
  std::unique_ptr<v1::AgentService::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::Command, v1::AgentEvent>>
      stream_;
};

// A worker's session, and its descriptor socket.
class RawWorker {
 public:
  RawWorker(const AgentServer& agent, const std::string& name)
      : stub(
            v1::WorkerService::NewStub(Dial("unix:" + agent.worker_socket()))) {
    v1::SessionRequest request;
    request.set_worker(name);
    Limit(context_);
    stream_ = stub->Session(&context_, request);
    v1::SessionEvent event;
    if (stream_->Read(&event)) attached = event.attached();
  }
  ~RawWorker() {
    context_.TryCancel();
    if (!finished_) stream_->Finish();
  }

  bool ok() const { return attached.session() != 0; }
  absl::Status Finish() {
    finished_ = true;
    return FromGrpcStatus(stream_->Finish());
  }
  v1::VersionNews NextNews() {
    v1::SessionEvent event;
    REQUIRE(stream_->Read(&event));
    return event.version();
  }

  // Calls one method of the stub.
  template <typename Request, typename Response>
  absl::Status Call(grpc::Status (v1::WorkerService::Stub::*method)(
                        grpc::ClientContext*, const Request&, Response*),
                    const Request& request, Response& response) {
    grpc::ClientContext context;
    Limit(context);
    return FromGrpcStatus((*stub.*method)(&context, request, &response));
  }

  absl::Status Give(int descriptor, uint64_t token) {
    v1::PassRequest request;
    request.mutable_give()->set_session(attached.session());
    request.mutable_give()->set_token(token);
    return Pass(request, {descriptor}).status();
  }
  absl::StatusOr<std::vector<UniqueFd>> Fetch(uint64_t token) {
    v1::PassRequest request;
    request.mutable_fetch()->set_session(attached.session());
    request.mutable_fetch()->set_token(token);
    return Pass(request, {});
  }

  std::unique_ptr<v1::WorkerService::Stub> stub;
  v1::Attached attached;

 private:
  absl::StatusOr<std::vector<UniqueFd>> Pass(const v1::PassRequest& request,
                                             const std::vector<int>& give) {
    auto socket = ConnectUnixSocket(attached.descriptor_socket());
    if (!socket.ok()) return socket.status();
    auto frame = ExchangeFrames(socket->get(), request.SerializeAsString(),
                                give, 1 << 20, absl::Seconds(20));
    if (!frame.ok()) return frame.status();
    v1::PassReply reply;
    reply.ParseFromString(frame->body);
    absl::Status outcome;
    REQUIRE_OK(ParseOutcome(reply.outcome(), outcome));
    if (!outcome.ok()) return outcome;
    return std::move(frame->descriptors);
  }

  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<v1::SessionEvent>> stream_;
  bool finished_ = false;
};

// An agent under a fake coordinator.
struct AgentFixture {
  AgentServer::Options Options(const std::string& name = "agent-1") const {
    AgentServer::Options options;
    options.name = name;
    options.node = "node-1";
    options.coordinator = coordinator.address();
    options.socket_dir = dir.File("sockets");
    options.memory_bytes = 1 << 20;
    options.staging_bytes = 1 << 20;
    return options;
  }
  AgentServer::ExecutorFactory Factory() {
    return [this](AgentServer::ExecutorDeps deps)
               -> absl::StatusOr<std::unique_ptr<TransferExecutor>> {
      auto made = std::make_unique<FakeExecutor>(std::move(deps.callbacks));
      executor = made.get();
      return made;
    };
  }
  void Start() {
    auto started = AgentServer::Start(Options(), Factory());
    REQUIRE_OK(started);
    agent = *std::move(started);
  }

  sluice::testing::TestDir dir;
  sluice::testing::FakeMembership coordinator;
  FakeExecutor* executor = nullptr;
  std::unique_ptr<AgentServer> agent;
};

}  // namespace sluice::agent

#endif  // SLUICE_TESTS_AGENT_AGENT_FIXTURE_H_
