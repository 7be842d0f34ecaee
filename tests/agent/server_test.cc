#include "agent/server.h"

#include <fcntl.h>
#include <grpcpp/health_check_service_interface.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "common/model.h"
#include "tests/agent/agent_fixture.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::StatusIs;
using Code = absl::StatusCode;

bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

TEST_CASE("an agent tells the coordinator where it is", "[agent][grpc]") {
  AgentFixture fixture;
  fixture.Start();
  REQUIRE(fixture.coordinator.AwaitRegistrations(1));
  const auto registered = fixture.coordinator.registrations()[0];
  CHECK(registered.name() == "agent-1");
  CHECK(registered.node() == "node-1");
  CHECK(registered.address() ==
        absl::StrCat("127.0.0.1:", fixture.agent->port()));
  CHECK(registered.socket_path() == fixture.agent->worker_socket());
  CHECK(registered.network_address() == "fake-address");
  CHECK(registered.incarnation() == fixture.agent->incarnation().value());
  CHECK(registered.device() == "host");
  struct stat info;
  REQUIRE(stat(fixture.dir.File("sockets").c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0700);
}

TEST_CASE("a Welcome is answered with an inventory", "[agent][grpc]") {
  AgentFixture fixture;
  fixture.Start();
  CommandPeer peer(*fixture.agent, /*epoch=*/1);
  peer.Welcome();
  const auto event =
      peer.Next([](const v1::AgentEvent& e) { return e.has_inventory(); });
  REQUIRE(event != nullptr);
  CHECK(event->incarnation() == fixture.agent->incarnation().value());
  CHECK_FALSE(event->inventory().more());
  CHECK_OK(peer.ResultOf(CommandId(1)));
}

TEST_CASE("a stream begins with a Welcome", "[agent][grpc]") {
  AgentFixture fixture;
  fixture.Start();
  CommandPeer peer(*fixture.agent, 1);
  peer.Send(ExecuteCommand{OperationId(1)});
  CHECK_THAT(peer.Finish(), StatusIs(Code::kFailedPrecondition));
}

TEST_CASE("a higher epoch replaces a stream, a lower one is refused",
          "[agent][grpc]") {
  AgentFixture fixture;
  fixture.Start();
  CommandPeer second(*fixture.agent, /*epoch=*/2);
  second.Welcome();
  REQUIRE_OK(second.ResultOf(CommandId(1)));

  CommandPeer old(*fixture.agent, /*epoch=*/1);
  old.Welcome();
  CHECK_THAT(old.Finish(), StatusIs(Code::kAborted, "2"));
  // The refused one has disturbed nobody.
  CHECK_OK(second.Do(SetPeersCommand{}));

  CommandPeer third(*fixture.agent, /*epoch=*/3);
  third.Welcome();
  REQUIRE_OK(third.ResultOf(CommandId(1)));
  CHECK_THAT(second.Finish(), StatusIs(Code::kAborted));
  CHECK_OK(third.Do(SetPeersCommand{}));
}

TEST_CASE("a coordinator that means another life is refused", "[agent][grpc]") {
  AgentFixture fixture;
  fixture.Start();
  CommandPeer peer(*fixture.agent, 1);
  peer.Send(WelcomeCommand{"cluster", Rank(3), Incarnation(12345)});
  CHECK_THAT(peer.Finish(), StatusIs(Code::kAborted, "12345"));
}

TEST_CASE("a malformed command ends the stream", "[agent][grpc]") {
  AgentFixture fixture;
  fixture.Start();
  auto stub = v1::AgentService::NewStub(
      Dial(absl::StrCat("127.0.0.1:", fixture.agent->port())));
  grpc::ClientContext context;
  Limit(context);
  auto stream = stub->CommandStream(&context);
  stream->Write(v1::Command());
  v1::AgentEvent event;
  CHECK_FALSE(stream->Read(&event));
  CHECK(stream->Finish().error_code() == grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_CASE("peers of other nodes are told to the executor", "[agent][grpc]") {
  AgentFixture fixture;
  fixture.Start();
  CommandPeer peer(*fixture.agent, 1);
  peer.Welcome();
  SetPeersCommand peers;
  peers.peers = {{Rank(3), "agent-1", "node-1", Incarnation(1), "self", "/s"},
                 {Rank(4), "agent-2", "node-1", Incarnation(2), "near", "/t"},
                 {Rank(5), "agent-3", "node-2", Incarnation(3), "far", "/u"}};
  REQUIRE_OK(peer.Do(peers));
  CHECK(fixture.executor->log() == std::vector<std::string>{"peer 5 far"});
  REQUIRE_OK(peer.Do(peers));  // nothing new
  peers.peers.pop_back();
  REQUIRE_OK(peer.Do(peers));
  CHECK(fixture.executor->log() ==
        std::vector<std::string>{"peer 5 far", "drop 5"});
}

TEST_CASE("two agents of one name do not share a folder", "[agent][grpc]") {
  AgentFixture fixture;
  fixture.Start();
  CHECK_THAT(AgentServer::Start(fixture.Options(), fixture.Factory()),
             StatusIs(Code::kAlreadyExists, "agent-1"));
  // Another name may.
  const auto other =
      AgentServer::Start(fixture.Options("agent-2"), fixture.Factory());
  CHECK_OK(other);
}

TEST_CASE("a port in use is said", "[agent][grpc]") {
  AgentFixture fixture;
  fixture.Start();
  AgentServer::Options options = fixture.Options("agent-2");
  options.listen = absl::StrCat("127.0.0.1:", fixture.agent->port());
  CHECK_THAT(
      AgentServer::Start(options, fixture.Factory()),
      StatusIs(Code::kAlreadyExists, absl::StrCat(fixture.agent->port())));
}

TEST_CASE("options that cannot work are refused by name", "[agent]") {
  AgentFixture fixture;
  const auto refuse = [&](auto change) {
    AgentServer::Options options = fixture.Options();
    change(options);
    return AgentServer::Start(options, fixture.Factory()).status();
  };
  using Options = AgentServer::Options;
  CHECK_THAT(refuse([](Options& o) { o.name = ""; }),
             StatusIs(Code::kInvalidArgument, "name"));
  CHECK_THAT(refuse([](Options& o) { o.name = "a/b"; }),
             StatusIs(Code::kInvalidArgument, "a/b"));
  CHECK_THAT(refuse([](Options& o) { o.coordinator = ""; }),
             StatusIs(Code::kInvalidArgument, "coordinator"));
  CHECK_THAT(refuse([](Options& o) { o.listen = "0.0.0.0:0"; }),
             StatusIs(Code::kFailedPrecondition));
  CHECK_THAT(refuse([](Options& o) { o.memory_bytes = -1; }),
             StatusIs(Code::kInvalidArgument, "memory"));
  CHECK_THAT(refuse([](Options& o) {
               o.socket_dir = "/tmp/" + std::string(100, 'd');
             }),
             StatusIs(Code::kInvalidArgument, "107"));
  CHECK_THAT(refuse([](Options& o) { o.socket_dir = "/proc/none"; }),
             StatusIs(Code::kFailedPrecondition, "/proc/none"));
}

TEST_CASE("an agent leaves nothing behind", "[agent][grpc]") {
  AgentFixture fixture;
  fixture.Start();
  REQUIRE(fixture.coordinator.AwaitRegistrations(1));
  const std::string sockets = fixture.dir.File("sockets");
  CHECK(Exists(sockets + "/agent-1.grpc.sock"));
  CHECK(Exists(sockets + "/agent-1.sock"));
  CommandPeer peer(*fixture.agent, 1);
  peer.Welcome();
  REQUIRE_OK(peer.ResultOf(CommandId(1)));
  CHECK_OK(fixture.agent->Drain(absl::Seconds(20)));
  CHECK(fixture.coordinator.drains() == 1);
  fixture.agent->Shutdown();
  CHECK_THAT(peer.Finish(), StatusIs(Code::kUnavailable));
  CHECK_FALSE(Exists(sockets + "/agent-1.grpc.sock"));
  CHECK_FALSE(Exists(sockets + "/agent-1.sock"));
  CHECK_FALSE(Exists(sockets + "/agent-1.lock"));
}

TEST_CASE("sockets of a killed predecessor are replaced", "[agent][grpc]") {
  AgentFixture fixture;
  const std::string sockets = fixture.dir.File("sockets");
  REQUIRE(mkdir(sockets.c_str(), 0700) == 0);
  for (const char* name :
       {"/agent-1.grpc.sock", "/agent-1.sock", "/agent-1.lock"}) {
    close(open((sockets + name).c_str(), O_CREAT | O_WRONLY, 0600));
  }
  fixture.Start();
  CHECK(RawWorker(*fixture.agent, "w").ok());
}

}  // namespace
}  // namespace sluice::agent
