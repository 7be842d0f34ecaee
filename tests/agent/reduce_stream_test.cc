// WorkerService.ReduceGroup on real sockets: workers of two agents of one
// process, over groups that move bytes within it.

#include <catch2/catch.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cpp/reduce_group.h"
#include "client/cpp/worker.h"
#include "common/mutex.h"
#include "tests/agent/agent_fixture.h"
#include "tests/fakes/fake_collectives.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::StatusIs;
using Code = absl::StatusCode;

// Agents "agent-0", "agent-1" under a fake coordinator, each with a worker.
struct Cluster : AgentFixture {
  static constexpr int kAgents = 2;

  explicit Cluster(int64_t memory_bytes = int64_t{1} << 30) {
    SetPeersCommand everybody;
    for (int i = 0; i < kAgents; ++i) {
      AgentServer::Options options = Options(absl::StrCat("agent-", i));
      options.memory_bytes = memory_bytes;
      auto started = AgentServer::Start(
          options, Factory(),
          [this](CollectiveMembers members, const ReduceGroups::Timeouts&) {
            return collectives.Make(std::move(members));
          });
      REQUIRE_OK(started);
      agents.push_back(*std::move(started));
      everybody.peers.push_back(Peer{Rank(i), absl::StrCat("agent-", i),
                                     "node-1", agents.back()->incarnation(), "",
                                     ""});
    }
    for (int i = 0; i < kAgents; ++i) {
      const auto n = static_cast<size_t>(i);
      peers.push_back(std::make_unique<CommandPeer>(*agents[n], 1));
      peers.back()->Welcome();
      peers.back()->Send(everybody);
      auto worker =
          Worker::Attach({agents[n]->worker_socket(), absl::StrCat("w", i)});
      REQUIRE_OK(worker);
      workers.push_back(*std::move(worker));
    }
  }
  ~Cluster() {
    workers.clear();
    peers.clear();
    for (auto& agent : agents) agent->Shutdown();
  }

  static ReduceGroupOptions Group(const std::string& name = "g") {
    ReduceGroupOptions options;
    options.name = name;
    options.agents = {"agent-0", "agent-1"};
    return options;
  }
  // Joins both, side by side.
  std::vector<std::unique_ptr<ReduceGroup>> JoinBoth(
      const ReduceGroupOptions& options = Group()) {
    std::vector<absl::StatusOr<std::unique_ptr<ReduceGroup>>> joined(kAgents);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < kAgents; ++i) {
      threads.emplace_back(
          [&, i] { joined[i] = workers[i]->JoinReduceGroup(options); });
    }
    for (std::thread& thread : threads) thread.join();
    std::vector<std::unique_ptr<ReduceGroup>> out;
    for (auto& group : joined) {
      REQUIRE_OK(group);
      out.push_back(*std::move(group));
    }
    return out;
  }

  sluice::testing::FakeCollectives collectives;
  std::vector<std::unique_ptr<AgentServer>> agents;
  std::vector<std::unique_ptr<CommandPeer>> peers;
  std::vector<std::unique_ptr<Worker>> workers;
};

// Two inputs of `n` floats and an output, in memory of a group.
struct Tensors {
  explicit Tensors(ReduceGroup& group, int64_t n = 4) : n(n) {
    auto allocated = group.Allocate(3 * n * 4);
    REQUIRE_OK(allocated);
    memory = *std::move(allocated);
    for (int64_t i = 0; i < 2 * n; ++i) At(0)[i] = static_cast<float>(i);
  }
  float* At(int64_t tensor) const {
    return reinterpret_cast<float*>(memory->data()) + tensor * n;
  }
  SharedTensor Tensor(int64_t index) const {
    return {memory, index * n * 4, {n}, v1::DTYPE_F32};
  }
  std::vector<SharedTensor> Inputs() const { return {Tensor(0), Tensor(1)}; }
  SharedTensor Output() const { return Tensor(2); }

  int64_t n;
  std::shared_ptr<SharedBytes> memory;
};

// Statuses of callbacks, in order.
class Heard {
 public:
  ReduceGroup::Done Done() {
    return [this](const absl::StatusOr<v1::ReducedScatter>& reduced) {
      MutexLock lock(mutex_);
      statuses_.push_back(reduced.status());
      changed_.SignalAll();
    };
  }
  std::vector<absl::Status> Await(size_t count) {
    MutexLock lock(mutex_);
    while (statuses_.size() < count) changed_.Wait(mutex_);
    return statuses_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::vector<absl::Status> statuses_ ABSL_GUARDED_BY(mutex_);
};

TEST_CASE("workers of two agents reduce tensors together",
          "[agent][reduce][grpc]") {
  Cluster cluster;
  auto groups = cluster.JoinBoth();
  CHECK(groups[1]->self() == 1);
  CHECK(groups[1]->members() == std::vector<std::string>{"agent-0", "agent-1"});
  std::vector<std::unique_ptr<Tensors>> tensors;
  Heard heard[2];
  for (size_t i = 0; i < 2; ++i) {
    tensors.push_back(std::make_unique<Tensors>(*groups[i]));
    groups[i]->ReduceScatter(tensors[i]->Inputs(), tensors[i]->Output(),
                             heard[i].Done());
    groups[i]->Flush([](const absl::Status&) {});
  }
  for (size_t i = 0; i < 2; ++i) {
    CHECK_OK(heard[i].Await(1)[0]);
    CHECK_OK(groups[i]->Flush());
    CHECK(tensors[i]->At(2)[1] == 2.f * (4.f * static_cast<float>(i) + 1.f));
    CHECK_OK(groups[i]->TearDown());
    CHECK_OK(groups[i]->Release(tensors[i]->memory));
    CHECK_THAT(groups[i]->Release(tensors[i]->memory),
               StatusIs(Code::kNotFound));
  }
  absl::Status other_left;
  std::thread other([&] { other_left = groups[1]->Leave(); });
  CHECK_OK(groups[0]->Leave());
  other.join();
  CHECK_OK(other_left);
  CHECK_THAT(groups[0]->Flush(), StatusIs(Code::kCancelled));
  // The name is free.
  cluster.JoinBoth();
}

TEST_CASE("a callback asks for the next reduce-scatter",
          "[agent][reduce][grpc]") {
  Cluster cluster;
  ReduceGroupOptions options = Cluster::Group();
  options.bucket_mib = 0;
  auto groups = cluster.JoinBoth(options);
  constexpr int kRounds = 50;
  Heard heard[2];
  std::vector<std::unique_ptr<Tensors>> tensors;
  std::vector<std::function<void(int)>> ask(2);
  for (size_t i = 0; i < 2; ++i) {
    tensors.push_back(std::make_unique<Tensors>(*groups[i]));
    ask[i] = [&, i](int left) {
      groups[i]->ReduceScatter(
          tensors[i]->Inputs(), tensors[i]->Output(),
          [&, i, left](const absl::StatusOr<v1::ReducedScatter>& reduced) {
            if (left > 1 && reduced.ok()) ask[i](left - 1);
            heard[i].Done()(reduced);
          });
    };
  }
  for (size_t i = 0; i < 2; ++i) ask[i](kRounds);
  for (size_t i = 0; i < 2; ++i) {
    for (const absl::Status& status : heard[i].Await(kRounds)) CHECK_OK(status);
  }
  CHECK(cluster.collectives.num_reduced() == kRounds);
}

TEST_CASE("a worker that breaks off ends the wait of the others",
          "[agent][reduce][grpc]") {
  Cluster cluster;
  auto groups = cluster.JoinBoth();
  Tensors tensors(*groups[0]);
  Heard heard;
  groups[0]->ReduceScatter(tensors.Inputs(), tensors.Output(), heard.Done());
  groups[0]->Flush([](const absl::Status&) {});
  std::string expected = "worker";
  switch (GENERATE(0, 1, 2)) {
    case 0:  // its stream
      groups[1].reset();
      break;
    case 1:  // its session, which its group outlives here
      cluster.workers[1].reset();
      break;
    default:  // its agent
      cluster.agents[1]->Shutdown();
      expected = "agent-1 stops";
  }
  CHECK_THAT(heard.Await(1)[0], StatusIs(Code::kUnavailable, expected));
  CHECK_THAT(groups[0]->Flush(), StatusIs(Code::kUnavailable, expected));
  groups.clear();
}

TEST_CASE("joins that cannot be are refused", "[agent][reduce][grpc]") {
  Cluster cluster;
  Worker& worker = *cluster.workers[0];
  ReduceGroupOptions options = Cluster::Group();
  options.agents = {"agent-1"};
  CHECK_THAT(worker.JoinReduceGroup(options),
             StatusIs(Code::kInvalidArgument, "agent-0"));
  options.agents = {"agent-0", "agent-0"};
  CHECK_THAT(worker.JoinReduceGroup(options),
             StatusIs(Code::kInvalidArgument, "twice"));
  options.agents = {"agent-0", "agent-7"};
  options.deadline = absl::Milliseconds(1);
  CHECK_THAT(worker.JoinReduceGroup(options),
             StatusIs(Code::kNotFound, "agent-7"));
  options = Cluster::Group("");
  CHECK_THAT(worker.JoinReduceGroup(options),
             StatusIs(Code::kInvalidArgument, "name"));
  options = Cluster::Group();
  options.operation = v1::REDUCE_OPERATION_UNSPECIFIED;
  CHECK_THAT(worker.JoinReduceGroup(options),
             StatusIs(Code::kInvalidArgument, "operation"));
  options = Cluster::Group();
  options.bucket_mib = 1e9;
  CHECK_THAT(worker.JoinReduceGroup(options),
             StatusIs(Code::kInvalidArgument, "bucket_mib"));
}

TEST_CASE("memory of nobody or of another group is refused, on all members",
          "[agent][reduce][grpc]") {
  Cluster cluster;
  auto groups = cluster.JoinBoth();
  auto others = cluster.JoinBoth(Cluster::Group("other"));
  Tensors good(*groups[0]);
  Tensors foreign(*others[1]);
  Heard heard[2];
  groups[0]->ReduceScatter(good.Inputs(), good.Output(), heard[0].Done());
  groups[0]->Flush([](const absl::Status&) {});
  groups[1]->ReduceScatter(foreign.Inputs(), foreign.Output(), heard[1].Done());
  for (Heard& each : heard) {
    CHECK_THAT(each.Await(1)[0],
               StatusIs(Code::kInvalidArgument, "was not lent"));
  }
  CHECK_OK(others[0]->TearDown());  // groups do not share an end
}

// A stream spoken by hand.
struct RawStream {
  explicit RawStream(RawWorker& worker) {
    Limit(context);
    stream = worker.stub->ReduceGroup(&context);
  }
  v1::ReduceReply Ask(const v1::ReduceRequest& request) {
    v1::ReduceReply reply;
    stream->Write(request);
    if (!stream->Read(&reply)) reply.mutable_outcome()->set_code(-1);
    return reply;
  }
  absl::Status Finish() {
    v1::ReduceReply reply;
    while (stream->Read(&reply)) {
    }
    return FromGrpcStatus(stream->Finish());
  }

  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReaderWriter<v1::ReduceRequest, v1::ReduceReply>>
      stream;
};

v1::ReduceRequest JoinAlone(uint64_t session) {
  v1::ReduceRequest request;
  request.set_id(1);
  request.mutable_join()->set_session(session);
  request.mutable_join()->set_name("alone");
  request.mutable_join()->add_ranks(0);
  request.mutable_join()->set_operation(v1::REDUCE_OPERATION_SUM);
  return request;
}

TEST_CASE("a stream begins with one join of an attached worker",
          "[agent][reduce][grpc]") {
  Cluster cluster;
  RawWorker worker(*cluster.agents[0], "raw");
  REQUIRE(worker.ok());
  v1::ReduceRequest flush;
  flush.set_id(2);
  flush.mutable_flush();
  {
    RawStream stream(worker);
    stream.stream->Write(flush);
    CHECK_THAT(stream.Finish(), StatusIs(Code::kInvalidArgument, "join"));
  }
  {
    RawStream stream(worker);
    const v1::ReduceReply refused = stream.Ask(JoinAlone(1));
    CHECK(refused.outcome().code() == static_cast<int>(Code::kNotFound));
    // As every later one.
    CHECK(stream.Ask(flush).outcome().message() == refused.outcome().message());
    stream.stream->WritesDone();
    CHECK_OK(stream.Finish());
  }
  RawStream stream(worker);
  const v1::ReduceRequest join = JoinAlone(worker.attached.session());
  CHECK(stream.Ask(join).outcome().code() == 0);
  CHECK(stream.Ask(flush).outcome().code() == 0);
  stream.stream->Write(join);
  CHECK_THAT(stream.Finish(), StatusIs(Code::kInvalidArgument, "once"));
}

TEST_CASE("a request that cannot be read is answered, and ends the group",
          "[agent][reduce][grpc]") {
  Cluster cluster;
  RawWorker worker(*cluster.agents[0], "raw");
  RawStream stream(worker);
  CHECK(stream.Ask(JoinAlone(worker.attached.session())).outcome().code() == 0);
  v1::ReduceRequest lend;
  lend.set_id(2);
  lend.mutable_lend()->set_token(77);  // of which nothing was given
  CHECK(stream.Ask(lend).outcome().code() == static_cast<int>(Code::kNotFound));
  v1::ReduceRequest reduce;
  reduce.set_id(3);
  reduce.mutable_reduce_scatter()->add_inputs()->set_dtype(
      static_cast<v1::DType>(99));
  const v1::ReduceReply refused = stream.Ask(reduce);
  CHECK(refused.id() == 3);
  CHECK(refused.outcome().code() == static_cast<int>(Code::kInvalidArgument));
  reduce.set_id(4);
  CHECK(stream.Ask(reduce).id() == 4);
  v1::ReduceRequest nothing;
  stream.stream->Write(nothing);
  CHECK_THAT(stream.Finish(), StatusIs(Code::kInvalidArgument, "body"));
}

// Reduces small tensors of a type on both; how that ends on each.
std::vector<absl::Status> ReduceBoth(
    const std::vector<std::unique_ptr<ReduceGroup>>& groups, v1::DType dtype) {
  std::vector<std::unique_ptr<Tensors>> tensors;
  Heard heard[2];
  for (size_t i = 0; i < 2; ++i) {
    tensors.push_back(std::make_unique<Tensors>(*groups[i]));
    std::vector<SharedTensor> inputs = tensors[i]->Inputs();
    SharedTensor output = tensors[i]->Output();
    for (SharedTensor* tensor : {&inputs[0], &inputs[1], &output}) {
      tensor->dtype = dtype;
    }
    groups[i]->ReduceScatter(inputs, output, heard[i].Done());
    groups[i]->Flush([](const absl::Status&) {});
  }
  return {heard[0].Await(1)[0], heard[1].Await(1)[0]};
}

TEST_CASE("buckets count against the agent's memory", "[agent][reduce][grpc]") {
  // Room for one type's bucket: two shards and a result of 512 KiB each.
  constexpr int64_t kArenaBytes = 3 << 19;
  Cluster cluster(/*memory_bytes=*/kArenaBytes + 1000);
  ReduceGroupOptions options = Cluster::Group();
  options.bucket_mib = 1;
  auto groups = cluster.JoinBoth(options);
  for (const absl::Status& status : ReduceBoth(groups, v1::DTYPE_F32)) {
    CHECK_OK(status);
  }
  // Given back between uses, they are free for another type.
  for (auto& group : groups) CHECK_OK(group->TearDown());
  for (const absl::Status& status : ReduceBoth(groups, v1::DTYPE_I32)) {
    CHECK_OK(status);
  }
  for (const absl::Status& status : ReduceBoth(groups, v1::DTYPE_F32)) {
    CHECK_THAT(status, StatusIs(Code::kResourceExhausted,
                                "needs 1572864 bytes on agent agent-"));
    CHECK_THAT(status,
               StatusIs(Code::kResourceExhausted, "1000 of 1573864 are free"));
  }
  // Given back with the group's end.
  groups.clear();
  groups = cluster.JoinBoth(options);
  for (const absl::Status& status : ReduceBoth(groups, v1::DTYPE_F32)) {
    CHECK_OK(status);
  }
}

}  // namespace
}  // namespace sluice::agent
