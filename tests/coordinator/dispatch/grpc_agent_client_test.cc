// Command streams against a real gRPC server in this process that plays the
// agent.

#include "coordinator/dispatch/grpc_agent_client.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/convert_command.h"
#include "common/mutex.h"
#include "proto/sluice/v1/agent_service.grpc.pb.h"

namespace sluice::coordinator {
namespace {

constexpr Rank kRank{4};
constexpr Incarnation kIncarnation{77};

// A list that one side fills and the other waits on.
template <typename T>
class Mailbox {
 public:
  void Put(T value) {
    MutexLock lock(mutex_);
    values_.push_back(std::move(value));
    changed_.SignalAll();
  }
  // The next value; fails the test after 20 s.
  T Take() {
    MutexLock lock(mutex_);
    while (values_.empty()) {
      if (!changed_.WaitFor(mutex_, absl::Seconds(20))) {
        FAIL("nothing came");
      }
    }
    T value = std::move(values_.front());
    values_.pop_front();
    return value;
  }
  bool empty() {
    MutexLock lock(mutex_);
    return values_.empty();
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::deque<T> values_ ABSL_GUARDED_BY(mutex_);
};

using Reactor = grpc::ServerBidiReactor<v1::Command, v1::AgentEvent>;

// Takes commands, answers each with a result, until it is told to end.
class AgentReactor final : public Reactor {
 public:
  AgentReactor(Mailbox<v1::Command>& commands, bool malformed)
      : commands_(commands), malformed_(malformed) {
    StartRead(&command_);
  }
  void OnReadDone(bool ok) override {
    if (!ok) {
      Finish(grpc::Status::OK);
      return;
    }
    answer_.set_incarnation(kIncarnation.value());
    if (!malformed_) {
      answer_.mutable_result()->set_command_id(command_.command_id());
    }
    commands_.Put(command_);
    StartWrite(&answer_);
  }
  void OnWriteDone(bool ok) override {
    if (ok) StartRead(&command_);
    if (!ok) Finish(grpc::Status::OK);
  }
  void OnDone() override { delete this; }

 private:
  Mailbox<v1::Command>& commands_;
  const bool malformed_;
  v1::Command command_;
  v1::AgentEvent answer_;
};

class FakeAgent final : public v1::AgentService::CallbackService {
 public:
  // Port 0 takes a free one.
  explicit FakeAgent(int port = 0, bool malformed = false)
      : malformed_(malformed) {
    grpc::ServerBuilder builder;
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.AddListeningPort(absl::StrCat("127.0.0.1:", port),
                             grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    REQUIRE(server_ != nullptr);
  }
  ~FakeAgent() override { server_->Shutdown(std::chrono::system_clock::now()); }

  Reactor* CommandStream(grpc::CallbackServerContext*) override {
    return new AgentReactor(commands, malformed_);
  }

  int port() const { return port_; }
  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }

  Mailbox<v1::Command> commands;

 private:
  const bool malformed_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

// What the client tells, as words.
struct News {
  Mailbox<std::string> lines;
  Mailbox<AgentEvent> events;

  AgentStreamCallbacks Callbacks() {
    return {[this] { lines.Put("up"); },
            [this](const absl::Status& why) {
              lines.Put(why.ok() ? "down without a reason" : "down");
            },
            [this](AgentEvent event) { events.Put(std::move(event)); }};
  }
};

Command Execute(uint64_t id) {
  return {CommandId(id), Epoch(1), ExecuteCommand{OperationId(id)}};
}

uint64_t ResultOf(const AgentEvent& event) {
  return std::get<CommandResult>(event.body).command.value();
}

TEST_CASE("commands arrive in order and events come back", "[dispatch][grpc]") {
  FakeAgent agent;
  News news;
  GrpcAgentClientFactory factory;
  const auto client =
      factory.Connect({kRank, kIncarnation, agent.address()}, news.Callbacks());
  CHECK(news.lines.Take() == "up");
  constexpr uint64_t kCommands = 500;
  for (uint64_t id = 1; id <= kCommands; ++id) client->Send(Execute(id));
  std::vector<uint64_t> arrived;
  std::vector<uint64_t> answered;
  std::vector<uint64_t> expected;
  for (uint64_t id = 1; id <= kCommands; ++id) {
    expected.push_back(id);
    arrived.push_back(agent.commands.Take().command_id());
    answered.push_back(ResultOf(news.events.Take()));
  }
  CHECK(arrived == expected);
  CHECK(answered == expected);
}

TEST_CASE("a stream that breaks is opened again when the agent is back",
          "[dispatch][grpc]") {
  News news;
  GrpcAgentClientFactory factory;
  auto agent = std::make_unique<FakeAgent>();
  const int port = agent->port();
  const auto client = factory.Connect({kRank, kIncarnation, agent->address()},
                                      news.Callbacks());
  CHECK(news.lines.Take() == "up");
  for (int life = 0; life < 3; ++life) {
    agent.reset();
    CHECK(news.lines.Take() == "down");
    client->Send(Execute(1));  // dropped: no stream is open
    agent = std::make_unique<FakeAgent>(port);
    CHECK(news.lines.Take() == "up");
    client->Send(Execute(2));
    CHECK(agent->commands.Take().command_id() == 2);
    CHECK(ResultOf(news.events.Take()) == 2);
  }
}

TEST_CASE("an agent that is not there yet is found when it comes",
          "[dispatch][grpc]") {
  News news;
  GrpcAgentClientFactory factory;
  const int port = FakeAgent().port();  // was free a moment ago
  const auto client =
      factory.Connect({kRank, kIncarnation, absl::StrCat("127.0.0.1:", port)},
                      news.Callbacks());
  const FakeAgent agent(port);
  CHECK(news.lines.Take() == "up");
}

TEST_CASE("a malformed event breaks the stream", "[dispatch][grpc]") {
  FakeAgent agent(/*port=*/0, /*malformed=*/true);
  News news;
  GrpcAgentClientFactory factory;
  const auto client =
      factory.Connect({kRank, kIncarnation, agent.address()}, news.Callbacks());
  CHECK(news.lines.Take() == "up");
  client->Send(Execute(1));
  CHECK(news.lines.Take() == "down");
  CHECK(news.events.empty());
}

TEST_CASE("a command too large for a message is refused in the agent's place",
          "[dispatch][grpc]") {
  FakeAgent agent;
  News news;
  GrpcAgentClientOptions options;
  options.max_message_bytes = 4096;
  GrpcAgentClientFactory factory(options);
  const auto client =
      factory.Connect({kRank, kIncarnation, agent.address()}, news.Callbacks());
  CHECK(news.lines.Take() == "up");
  ClearSamplesCommand clear;
  clear.sample_ids.assign(1000, "a sample's id");
  client->Send({CommandId(5), Epoch(1), clear});
  client->Send(Execute(6));
  const AgentEvent refused = news.events.Take();
  CHECK(ResultOf(refused) == 5);
  CHECK(std::get<CommandResult>(refused.body).outcome.code() ==
        absl::StatusCode::kResourceExhausted);
  CHECK(refused.incarnation == kIncarnation);
  CHECK(agent.commands.Take().command_id() == 6);
}

TEST_CASE("a full queue breaks the stream instead of growing",
          "[dispatch][grpc]") {
  FakeAgent agent;
  News news;
  GrpcAgentClientOptions options;
  options.max_queued_commands = 2;
  GrpcAgentClientFactory factory(options);
  const auto client =
      factory.Connect({kRank, kIncarnation, agent.address()}, news.Callbacks());
  CHECK(news.lines.Take() == "up");
  // The agent reads one after the other: a hundred thousand do not fit.
  for (uint64_t id = 1; id <= 100000; ++id) client->Send(Execute(id));
  CHECK(news.lines.Take() == "down");
  CHECK(news.lines.Take() == "up");
}

TEST_CASE("clients end in every state", "[dispatch][grpc]") {
  FakeAgent agent;
  News news;
  for (int i = 0; i < 50; ++i) {
    GrpcAgentClientFactory factory;
    auto connected = factory.Connect({kRank, kIncarnation, agent.address()},
                                     news.Callbacks());
    auto refused = factory.Connect({Rank(5), kIncarnation, "127.0.0.1:1"}, {});
    if (i % 2 == 0) {
      CHECK(news.lines.Take() == "up");
      connected->Send(Execute(1));
    }
    // The factory's destructor waits for all that is underway.
  }
}

}  // namespace
}  // namespace sluice::coordinator
