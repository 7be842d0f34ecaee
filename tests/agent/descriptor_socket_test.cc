#include "agent/descriptor_socket.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "agent/device/interrupt.h"
#include "agent/device/memory_file.h"
#include "agent/device/unique_fd.h"
#include "agent/peer_directory.h"
#include "agent/socket_paths.h"
#include "proto/sluice/v1/descriptor_socket.pb.h"
#include "tests/agent/fake_executor.h"
#include "tests/fakes/fake_clock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_dir.h"

namespace sluice::agent {
namespace {

using testing::StatusIs;

constexpr SessionId kSession(9);

// An agent's descriptor socket with what lies behind it.
struct Agent {
  Agent() : executor({}) {
    auto started = DescriptorSocket::Start(DescriptorSocketPath(grpc_path()),
                                           {table, sources, executor});
    REQUIRE_OK(started);
    socket = *std::move(started);
    table.AddSession(kSession);
  }
  std::string grpc_path() const { return dir.File("a.grpc.sock"); }

  // Sends one request on a connection of its own.
  absl::StatusOr<v1::PassReply> Ask(const v1::PassRequest& request,
                                    const std::vector<int>& give = {},
                                    std::vector<UniqueFd>* got = nullptr) {
    auto connection = ConnectUnixSocket(socket->path());
    if (!connection.ok()) return connection.status();
    auto frame = ExchangeFrames(connection->get(), request.SerializeAsString(),
                                give, 1 << 20, absl::Seconds(20));
    if (!frame.ok()) return frame.status();
    v1::PassReply reply;
    REQUIRE(reply.ParseFromString(frame->body));
    if (got != nullptr) *got = std::move(frame->descriptors);
    return reply;
  }

  sluice::testing::TestDir dir;
  DescriptorTable table;
  SourceTable sources;
  FakeExecutor executor;
  std::unique_ptr<DescriptorSocket> socket;
};

v1::PassRequest GiveRequest(SessionId session, uint64_t token) {
  v1::PassRequest request;
  request.mutable_give()->set_session(session.value());
  request.mutable_give()->set_token(token);
  return request;
}

v1::PassRequest FetchRequest(SessionId session, uint64_t token) {
  v1::PassRequest request;
  request.mutable_fetch()->set_session(session.value());
  request.mutable_fetch()->set_token(token);
  return request;
}

std::shared_ptr<MappedMemory> Arena(int64_t bytes) {
  HostDevice device;
  auto memory = device.Allocate(bytes, "test");
  REQUIRE_OK(memory);
  return *std::move(memory);
}

absl::StatusCode CodeOf(const v1::PassReply& reply) {
  return static_cast<absl::StatusCode>(reply.outcome().code());
}

// Operation 5 of rank 0: one box of 40 bytes to rank `puller`.
ExecutionRequest Sending(Rank puller, std::shared_ptr<MappedMemory> memory) {
  ExecutionRequest request;
  request.operation = OperationId(5);
  request.self = Rank(0);
  BoundTransfer& transfer = request.transfers.emplace_back();
  transfer.id = 2;
  transfer.link = LinkClass::kSameNode;
  transfer.source = Rank(0);
  transfer.destination = puller;
  BoundPiece& piece = transfer.pieces.emplace_back();
  piece.dtype = DType::kU8;
  piece.shape = {100};
  piece.box = Box({{10, 50}});
  piece.source = BoundPlace{std::move(memory), 7, {1}};
  return request;
}

TEST_CASE("a worker gives a descriptor, the agent takes it once",
          "[agent][socket]") {
  Agent agent;
  const auto memory = Arena(4096);
  REQUIRE_OK_AND_ASSIGN(
      const v1::PassReply reply,
      agent.Ask(GiveRequest(kSession, 1), {memory->descriptor()}));
  CHECK(reply.outcome().code() == 0);
  REQUIRE_OK_AND_ASSIGN(
      const v1::PassReply again,
      agent.Ask(GiveRequest(kSession, 1), {memory->descriptor()}));
  CHECK(CodeOf(again) == absl::StatusCode::kAlreadyExists);
  REQUIRE_OK_AND_ASSIGN(UniqueFd taken, agent.table.Take(kSession, 1));
  CHECK(CheckMemoryFile(taken.get()).value_or(0) == 4096);
  CHECK_THAT(agent.table.Take(kSession, 1),
             StatusIs(absl::StatusCode::kNotFound));
}

TEST_CASE("what is given without a session or descriptor is refused",
          "[agent][socket]") {
  Agent agent;
  const auto memory = Arena(4096);
  REQUIRE_OK_AND_ASSIGN(
      v1::PassReply reply,
      agent.Ask(GiveRequest(SessionId(10), 1), {memory->descriptor()}));
  CHECK(CodeOf(reply) == absl::StatusCode::kNotFound);
  REQUIRE_OK_AND_ASSIGN(reply, agent.Ask(GiveRequest(kSession, 1)));
  CHECK(CodeOf(reply) == absl::StatusCode::kInvalidArgument);
  REQUIRE_OK_AND_ASSIGN(reply, agent.Ask(v1::PassRequest()));
  CHECK(CodeOf(reply) == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("descriptors that are never used are bounded, and end with a session",
          "[agent][socket]") {
  Agent agent;
  const auto memory = Arena(4096);
  for (int i = 0; i < DescriptorTable::kMaxGiven; ++i) {
    REQUIRE_OK_AND_ASSIGN(
        const v1::PassReply reply,
        agent.Ask(GiveRequest(kSession, static_cast<uint64_t>(i)),
                  {memory->descriptor()}));
    REQUIRE(reply.outcome().code() == 0);
  }
  REQUIRE_OK_AND_ASSIGN(
      const v1::PassReply over,
      agent.Ask(GiveRequest(kSession, 1000), {memory->descriptor()}));
  CHECK(CodeOf(over) == absl::StatusCode::kResourceExhausted);
  agent.table.RemoveSession(kSession);
  CHECK_THAT(agent.table.Take(kSession, 0),
             StatusIs(absl::StatusCode::kNotFound));
}

TEST_CASE("another process fetches what its session was granted, to read only",
          "[agent][socket]") {
  Agent agent;
  const auto memory = Arena(4096);
  std::memcpy(memory->data() + 10, "granted", 7);
  const uint64_t token =
      agent.table.Grant(kSession, BufferId(3), Access::kReadOnly, memory);

  const pid_t child = fork();
  if (child == 0) {
    auto connection = ConnectUnixSocket(agent.socket->path());
    if (!connection.ok()) _exit(1);
    auto frame = ExchangeFrames(
        connection->get(), FetchRequest(kSession, token).SerializeAsString(),
        {}, 4096, absl::Seconds(20));
    if (!frame.ok() || frame->descriptors.size() != 1) _exit(2);
    const int fd = frame->descriptors[0].get();
    auto copy = Duplicate(fd);
    if (!copy.ok() ||
        MapMemoryFile(*std::move(copy), 4096, Access::kReadWrite).ok()) {
      _exit(3);
    }
    auto mapped = MapMemoryFile(std::move(frame->descriptors[0]), 4096,
                                Access::kReadOnly);
    if (!mapped.ok()) _exit(4);
    _exit(std::memcmp((*mapped)->data() + 10, "granted", 7) == 0 ? 0 : 5);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(status == 0);
}

TEST_CASE("a grant is the session's own and ends with the memory",
          "[agent][socket]") {
  Agent agent;
  agent.table.AddSession(SessionId(10));
  auto memory = Arena(4096);
  const uint64_t token =
      agent.table.Grant(kSession, BufferId(3), Access::kReadOnly, memory);
  REQUIRE_OK_AND_ASSIGN(v1::PassReply reply,
                        agent.Ask(FetchRequest(SessionId(10), token)));
  CHECK(CodeOf(reply) == absl::StatusCode::kNotFound);
  memory.reset();
  REQUIRE_OK_AND_ASSIGN(reply, agent.Ask(FetchRequest(kSession, token)));
  CHECK(CodeOf(reply) == absl::StatusCode::kNotFound);
}

TEST_CASE("a request above the limit ends the connection only",
          "[agent][socket]") {
  Agent agent;
  REQUIRE_OK_AND_ASSIGN(const UniqueFd connection,
                        ConnectUnixSocket(agent.socket->path()));
  CHECK_FALSE(
      ExchangeFrames(connection.get(),
                     std::string(DescriptorSocket::kMaxRequestBytes + 1, 'x'),
                     {}, 1 << 20, absl::Seconds(20))
          .ok());
  REQUIRE_OK_AND_ASSIGN(const v1::PassReply reply,
                        agent.Ask(FetchRequest(kSession, 1)));
  CHECK(CodeOf(reply) == absl::StatusCode::kNotFound);
}

TEST_CASE("a peer opens what is prepared for it, and maps it once",
          "[agent][socket]") {
  Agent agent;
  sluice::testing::FakeClock clock;
  SocketPeerDirectory directory(clock);
  directory.SetSelf(Rank(1));
  directory.SetPeers(
      {Peer{Rank(0), "a", "n", Incarnation(1), "", agent.grpc_path()}});
  const auto memory = Arena(4096);
  memory->data()[7] = std::byte{77};
  const absl::Time deadline = clock.Now() + absl::Seconds(20);

  CHECK_THAT(directory.Open(OperationId(5), Rank(0), deadline, -1),
             StatusIs(absl::StatusCode::kFailedPrecondition, "5"));
  agent.sources.Add(Sending(Rank(1), memory));
  REQUIRE_OK(agent.executor.Prepare(Sending(Rank(1), memory)));

  REQUIRE_OK_AND_ASSIGN(const PeerSource source,
                        directory.Open(OperationId(5), Rank(0), deadline, -1));
  CHECK(source.board->size() == 4096);
  REQUIRE(source.transfers.size() == 1);
  const PeerTransferSource& transfer = source.transfers.at(2);
  REQUIRE(transfer.pieces.size() == 1);
  CHECK(transfer.boxes[0] == Box({{10, 50}}));
  CHECK(transfer.pieces[0].strides_bytes == std::vector<int64_t>{1});
  CHECK(transfer.pieces[0].memory->data()[transfer.pieces[0].offset_bytes] ==
        std::byte{77});

  REQUIRE_OK_AND_ASSIGN(const PeerSource second,
                        directory.Open(OperationId(5), Rank(0), deadline, -1));
  CHECK(second.transfers.at(2).pieces[0].memory == transfer.pieces[0].memory);
  CHECK(directory.num_mappings() == 1);
}

TEST_CASE("a mapping goes when nobody used it for long, or its peer is anew",
          "[agent][socket]") {
  Agent agent;
  sluice::testing::FakeClock clock;
  SocketPeerDirectory directory(clock);
  Peer peer{Rank(0), "a", "n", Incarnation(1), "", agent.grpc_path()};
  directory.SetSelf(Rank(1));
  directory.SetPeers({peer});
  const auto memory = Arena(4096);
  agent.sources.Add(Sending(Rank(1), memory));
  REQUIRE_OK(agent.executor.Prepare(Sending(Rank(1), memory)));
  auto source = directory.Open(OperationId(5), Rank(0),
                               clock.Now() + absl::Seconds(20), -1);
  REQUIRE_OK(source);
  clock.Advance(2 * SocketPeerDirectory::kKeepUnused);
  directory.Trim();
  CHECK(directory.num_mappings() == 1);  // an execution holds it
  source = absl::UnknownError("released");
  directory.Trim();
  CHECK(directory.num_mappings() == 0);

  REQUIRE_OK(directory.Open(OperationId(5), Rank(0),
                            clock.Now() + absl::Seconds(20), -1));
  CHECK(directory.num_mappings() == 1);
  directory.SetPeers({peer});
  CHECK(directory.num_mappings() == 1);
  peer.incarnation = Incarnation(2);
  directory.SetPeers({peer});
  CHECK(directory.num_mappings() == 0);
}

TEST_CASE("nothing is planned for another puller; a gone peer is named",
          "[agent][socket]") {
  sluice::testing::FakeClock clock;
  SocketPeerDirectory directory(clock);
  directory.SetSelf(Rank(4));
  const absl::Time deadline = clock.Now() + absl::Seconds(20);
  CHECK_THAT(directory.Open(OperationId(5), Rank(0), deadline, -1),
             StatusIs(absl::StatusCode::kUnavailable, "rank 0"));
  {
    Agent agent;
    directory.SetPeers({Peer{Rank(0), "agent-zero", "n", Incarnation(1), "",
                             agent.grpc_path()}});
    const auto memory = Arena(4096);
    agent.sources.Add(Sending(Rank(1), memory));
    REQUIRE_OK(agent.executor.Prepare(Sending(Rank(1), memory)));
    REQUIRE_OK_AND_ASSIGN(
        const PeerSource source,
        directory.Open(OperationId(5), Rank(0), deadline, -1));
    CHECK(source.transfers.empty());
  }
  CHECK_THAT(directory.Open(OperationId(5), Rank(0), deadline, -1),
             StatusIs(absl::StatusCode::kUnavailable, "agent-zero"));
}

TEST_CASE("the wait for a peer that does not answer can be given up",
          "[agent][socket]") {
  const sluice::testing::TestDir dir;
  const std::string grpc_path = GrpcSocketPath(dir.path(), "still");
  UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  DescriptorSocketPath(grpc_path).copy(address.sun_path,
                                       sizeof(address.sun_path) - 1);
  REQUIRE(bind(listener.get(), reinterpret_cast<const sockaddr*>(&address),
               sizeof(address)) == 0);
  REQUIRE(listen(listener.get(), 1) == 0);
  sluice::testing::FakeClock clock;
  SocketPeerDirectory directory(clock);
  directory.SetSelf(Rank(1));
  directory.SetPeers(
      {Peer{Rank(0), "still", "n", Incarnation(1), "", grpc_path}});
  REQUIRE_OK_AND_ASSIGN(Interrupt interrupt, Interrupt::Create());
  std::thread other([&] { interrupt.Raise(); });
  CHECK_THAT(
      directory.Open(OperationId(5), Rank(0), clock.Now() + absl::Hours(1),
                     interrupt.descriptor()),
      StatusIs(absl::StatusCode::kCancelled, "still"));
  other.join();
}

}  // namespace
}  // namespace sluice::agent
