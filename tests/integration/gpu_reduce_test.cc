// Reduce groups of GPUs over the daemons that users run: the GPUs are host
// memory that real processes share (tests/fakes/cuda), NCCL is a library that
// moves real bytes and does wrong what it is told (tests/fakes/nccl).

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/cpp/reduce_group.h"
#include "tests/fakes/cuda/process_gpu.h"
#include "tests/integration/fake_nccl.h"
#include "tests/integration/gpu_tensors.h"
#include "tests/integration/reduce_ranks.h"
#include "tests/integration/reduce_tensors.h"
#include "tests/integration/status_text.h"
#include "tests/integration/test_cluster.h"
#include "tests/support/status_matchers.h"
#include "tools/local_cluster/process.h"

namespace sluice::testing {
namespace {

using Code = absl::StatusCode;

constexpr int kStuckExit = 75;
constexpr int64_t kMillisecond = 1'000'000;

std::vector<int> Numbers(int count) {
  std::vector<int> out;
  for (int i = 0; i < count; ++i) out.push_back(i);
  return out;
}

// Agents with a GPU and a worker each.
class Rig {
 public:
  explicit Rig(int agents, std::vector<int> gpus = {}) : agents_(agents) {
    TestCluster::Options options;
    options.nodes = 1;
    options.agents_per_node = agents;
    options.gpus = gpus.empty() ? Numbers(agents) : gpus;
    options.agent_flags = {"--nccl-abort-timeout=1s"};
    REQUIRE_OK_AND_ASSIGN(cluster_, TestCluster::Start(options));
    for (int i = 0; i < agents; ++i) {
      REQUIRE_OK_AND_ASSIGN(auto worker,
                            cluster().Attach(i, absl::StrCat("w", i)));
      workers_.push_back(std::move(worker));
      REQUIRE_OK_AND_ASSIGN(auto gpu, WorkerGpu::Open(runtime_, i));
      gpus_.push_back(std::make_unique<WorkerGpu>(std::move(gpu)));
    }
  }

  TestCluster& cluster() { return *cluster_; }
  WorkerGpu& gpu(int agent) { return *gpus_[static_cast<size_t>(agent)]; }
  std::vector<int> all() const { return Numbers(agents_); }

  ReduceGroupOptions Options(const std::vector<int>& agents,
                             const std::string& name) const {
    ReduceGroupOptions options;
    options.name = name;
    options.agents = cluster_->AgentNames(agents);
    options.space = v1::REDUCE_SPACE_GPU;
    options.bucket_mib = 1;
    return options;
  }
  absl::StatusOr<ReduceRanks> JoinWith(const std::vector<int>& agents,
                                       const ReduceGroupOptions& options) {
    std::vector<Worker*> members;
    for (const int agent : agents) {
      members.push_back(workers_[static_cast<size_t>(agent)].get());
    }
    return JoinTogether(members, options);
  }
  absl::StatusOr<ReduceRanks> Join(const std::vector<int>& agents,
                                   const std::string& name) {
    return JoinWith(agents, Options(agents, name));
  }
  // How the join of each ended; side by side, each with its own options.
  std::vector<absl::Status> TryJoin(
      const std::vector<ReduceGroupOptions>& options) {
    std::vector<absl::Status> out(options.size());
    std::vector<std::thread> threads;
    for (size_t i = 0; i < options.size(); ++i) {
      threads.emplace_back(
          [&, i] { out[i] = JoinOne(i, options[i]).status(); });
    }
    for (std::thread& thread : threads) thread.join();
    return out;
  }
  absl::StatusOr<std::unique_ptr<ReduceGroup>> JoinOne(
      size_t agent, const ReduceGroupOptions& options) {
    return workers_[agent]->JoinReduceGroup(options);
  }

  // What the fake library does wrong from now on.
  void SetFaults(const std::string& faults) { nccl_.SetFaults(faults); }

 private:
  const int agents_;
  FakeNccl nccl_;
  agent::cuda::ProcessGpuRuntime runtime_;
  std::vector<std::unique_ptr<WorkerGpu>> gpus_;
  std::unique_ptr<TestCluster> cluster_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

// Reduces small and large tensors of all types on all ranks, and compares.
// `agents[r]` is that of rank r.
void ReduceAllTypes(Rig& rig, const std::vector<int>& agents,
                    const ReduceRanks& ranks, int64_t divisor = 1,
                    int64_t delay_ns = 0) {
  std::vector<std::vector<std::unique_ptr<GpuTensors>>> tensors(ranks.size());
  std::vector<Heard> heard(ranks.size());
  for (size_t r = 0; r < ranks.size(); ++r) {
    for (const v1::DType dtype : {v1::DTYPE_F32, v1::DTYPE_BF16, v1::DTYPE_F16,
                                  v1::DTYPE_F64, v1::DTYPE_I32}) {
      for (const int64_t numel : {1, 999, 300'000}) {
        tensors[r].push_back(std::make_unique<GpuTensors>(
            rig.gpu(agents[r]), *ranks[r], dtype, numel));
      }
    }
  }
  for (size_t r = 0; r < ranks.size(); ++r) {
    for (const auto& each : tensors[r]) {
      each->Fill(static_cast<int>(r), delay_ns);
      ranks[r]->ReduceScatter(each->Inputs(), each->Output(), heard[r].Done());
    }
    ranks[r]->Flush([](const absl::Status&) {});
  }
  for (size_t r = 0; r < ranks.size(); ++r) {
    const auto statuses = heard[r].Await(tensors[r].size());
    REQUIRE(statuses.size() == tensors[r].size());
    for (const absl::Status& status : statuses) CHECK_OK(status);
    for (size_t i = 0; i < tensors[r].size(); ++i) {
      CAPTURE(r, i);
      CHECK(tensors[r][i]->IsReduced(static_cast<int>(r), divisor));
    }
  }
}

TEST_CASE("sums and averages of GPUs' tensors of all types, over any ranks",
          "[integration][gpu_reduce]") {
  const int agents = GENERATE(2, 4);
  Rig rig(agents);
  const std::vector<int> all = rig.all();
  REQUIRE_OK_AND_ASSIGN(const ReduceRanks ranks, rig.Join(all, "all"));
  ReduceAllTypes(rig, all, ranks, /*divisor=*/1, 10 * kMillisecond);
  const std::vector<int> backwards = {agents - 1, 0};
  ReduceGroupOptions options = rig.Options(backwards, "backwards");
  options.operation = v1::REDUCE_OPERATION_AVERAGE;
  REQUIRE_OK_AND_ASSIGN(const ReduceRanks averages,
                        rig.JoinWith(backwards, options));
  ReduceAllTypes(rig, backwards, averages, /*divisor=*/2);
  // Torn down between uses.
  for (const auto& rank : ranks) CHECK_OK(rank->TearDown());
  ReduceAllTypes(rig, all, ranks);
  CHECK_OK(LeaveTogether(averages));
  CHECK_OK(LeaveTogether(ranks));
}

TEST_CASE("groups of GPUs made and used in opposite orders both finish",
          "[integration][gpu_reduce]") {
  Rig rig(2);
  std::vector<std::thread> threads;
  std::vector<absl::StatusOr<ReduceRanks>> joined(2);
  for (int g = 0; g < 2; ++g) {
    threads.emplace_back(
        [&, g] { joined[g] = rig.Join(rig.all(), absl::StrCat("g", g)); });
  }
  for (std::thread& thread : threads) thread.join();
  for (auto& ranks : joined) REQUIRE_OK(ranks);
  std::vector<Heard> heard(2);
  std::vector<std::unique_ptr<GpuTensors>> tensors;
  for (const int r : {0, 1}) {
    for (const int g : {r, 1 - r}) {
      auto& rank = *(*joined[g])[r];
      tensors.push_back(std::make_unique<GpuTensors>(rig.gpu(r), rank,
                                                     v1::DTYPE_F32, 400'000));
      tensors.back()->Fill(r, 5 * kMillisecond);
      rank.ReduceScatter(tensors.back()->Inputs(), tensors.back()->Output(),
                         heard[g].Done());
    }
  }
  for (Heard& each : heard) {
    for (const absl::Status& status : each.Await(2)) CHECK_OK(status);
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    CHECK(tensors[i]->IsReduced(static_cast<int>(i / 2)));
  }
}

// A reduction on all ranks that something goes wrong with.
struct Attempt {
  Attempt(Rig& rig, const std::vector<int>& agents, const ReduceRanks& ranks)
      : heard(ranks.size()) {
    for (size_t r = 0; r < ranks.size(); ++r) {
      tensors.push_back(std::make_unique<GpuTensors>(
          rig.gpu(agents[r]), *ranks[r], v1::DTYPE_F32, 300'000));
      tensors[r]->Fill(static_cast<int>(r));
    }
    for (size_t r = 0; r < ranks.size(); ++r) {
      ranks[r]->ReduceScatter(tensors[r]->Inputs(), tensors[r]->Output(),
                              heard[r].Done());
    }
  }
  absl::Status Await(size_t rank) {
    const auto statuses = heard[rank].Await(1);
    return statuses.empty() ? absl::UnknownError("nothing was said")
                            : statuses[0];
  }

  std::vector<std::unique_ptr<GpuTensors>> tensors;
  std::vector<Heard> heard;
};

TEST_CASE(
    "what goes wrong in NCCL on one agent ends the group on all, which "
    "is made anew",
    "[integration][gpu_reduce]") {
  struct Row {
    const char* fault;
    Code code;
  };
  // Of the group calls the first warms, the second carries data.
  const std::vector<Row> rows = {{"op_hang@1:2", Code::kDeadlineExceeded},
                                 {"op_error@1:2", Code::kUnavailable},
                                 {"op_fail@1:2", Code::kInternal}};
  Rig rig(3);
  for (const Row& row : rows) {
    CAPTURE(row.fault);
    {
      ReduceGroupOptions options = rig.Options(rig.all(), "g");
      if (row.code == Code::kDeadlineExceeded) {
        options.call_deadline = absl::Seconds(2);
      }
      REQUIRE_OK_AND_ASSIGN(const ReduceRanks ranks,
                            rig.JoinWith(rig.all(), options));
      rig.SetFaults(row.fault);
      Attempt attempt(rig, rig.all(), ranks);
      for (size_t r = 0; r < 3; ++r) {
        CHECK(attempt.Await(r).code() == row.code);
      }
      rig.SetFaults("");
    }
    REQUIRE_OK_AND_ASSIGN(const ReduceRanks ranks, rig.Join(rig.all(), "g"));
    ReduceAllTypes(rig, rig.all(), ranks);
  }
}

// Waits until every agent tells of one communicator, which is so.
void AwaitCommunicator(TestCluster& cluster, v1::CommunicatorState state,
                       const std::string& error) {
  CHECK_OK(cluster.AwaitStatus(
      v1::CommunicatorState_Name(state),
      [&](const v1::GetStatusResponse& status) {
        return std::all_of(status.agents().begin(), status.agents().end(),
                           [&](const v1::AgentStatus& agent) {
                             const v1::NcclReport& nccl = agent.nccl();
                             return agent.nccl_version() == 22809 &&
                                    nccl.num_communicators() == 1 &&
                                    nccl.communicators(0).name() == "g" &&
                                    nccl.communicators(0).members() == 2 &&
                                    nccl.communicators(0).state() == state &&
                                    absl::StrContains(
                                        nccl.communicators(0).error(), error);
                           });
      }));
}

TEST_CASE("communicators are in the status, and why they ended",
          "[integration][gpu_reduce]") {
  Rig rig(2);
  {
    REQUIRE_OK_AND_ASSIGN(const ReduceRanks ranks, rig.Join(rig.all(), "g"));
    AwaitCommunicator(rig.cluster(), v1::COMMUNICATOR_STATE_READY, "");
    rig.SetFaults("op_fail@1:2");
    Attempt attempt(rig, rig.all(), ranks);
    for (size_t r = 0; r < 2; ++r) CHECK_FALSE(attempt.Await(r).ok());
  }
  AwaitCommunicator(rig.cluster(), v1::COMMUNICATOR_STATE_ENDED, "INTERNAL");
  const std::string text = StatusText(rig.cluster());
  CAPTURE(text);
  CHECK(absl::StrContains(text, "agent-1: NCCL 2.28.9, communicators: 1"));
  CHECK(absl::StrContains(text, "ended  INTERNAL"));
}

TEST_CASE("an agent that is killed in a collective ends it on all, and rejoins",
          "[integration][gpu_reduce]") {
  Rig rig(3);
  {
    REQUIRE_OK_AND_ASSIGN(const ReduceRanks ranks, rig.Join(rig.all(), "g"));
    rig.SetFaults("op_hang");
    Attempt attempt(rig, rig.all(), ranks);
    REQUIRE_OK(rig.cluster().KillAgent(1));
    for (const size_t r : {0, 2}) {
      CHECK_THAT(attempt.Await(r), StatusIs(Code::kUnavailable, "agent-1"));
    }
    CHECK_THAT(attempt.Await(1), StatusIs(Code::kUnavailable));
    rig.SetFaults("");
  }
  REQUIRE_OK(rig.cluster().RestartAgent(1));
  REQUIRE_OK(rig.cluster().AwaitAllAlive());
  REQUIRE_OK_AND_ASSIGN(const ReduceRanks ranks, rig.Join(rig.all(), "g"));
  ReduceAllTypes(rig, rig.all(), ranks);
}

TEST_CASE("an agent killed while a group is made is met in its next life",
          "[integration][gpu_reduce]") {
  Rig rig(3);
  // NCCL's own word of it is an error that a join would end with.
  rig.SetFaults("op_hang:1,gone_internal");
  const auto options = rig.Options(rig.all(), "g");
  // Kept: who leaves at once would end the join of who comes last.
  std::vector<absl::StatusOr<std::unique_ptr<ReduceGroup>>> joined(3);
  std::vector<std::thread> threads;
  for (size_t r = 0; r < 3; ++r) {
    threads.emplace_back([&, r] { joined[r] = rig.JoinOne(r, options); });
  }
  const absl::Status connects = rig.cluster().AwaitStatus(
      "three that connect", [](const v1::GetStatusResponse& status) {
        return std::all_of(status.agents().begin(), status.agents().end(),
                           [](const v1::AgentStatus& agent) {
                             return agent.nccl().num_communicators() == 1;
                           });
      });
  const absl::Status killed = rig.cluster().KillAgent(1);
  threads[1].join();
  rig.SetFaults("");
  const absl::Status restarted = rig.cluster().RestartAgent(1);
  const absl::Status alive = rig.cluster().AwaitAllAlive();
  const auto next = rig.JoinOne(1, options);
  threads[0].join();
  threads[2].join();
  for (const auto& status : {connects, killed, restarted, alive}) {
    CHECK_OK(status);
  }
  CHECK_OK(next);
  CHECK_OK(joined[0]);
  CHECK_THAT(joined[1], StatusIs(Code::kUnavailable));
  CHECK_OK(joined[2]);
}

TEST_CASE("an abort that hangs ends its agent, which rejoins",
          "[integration][gpu_reduce]") {
  Rig rig(3);
  {
    REQUIRE_OK_AND_ASSIGN(const ReduceRanks ranks, rig.Join(rig.all(), "g"));
    rig.SetFaults("abort_hang@1,op_error@0:2");
    Attempt attempt(rig, rig.all(), ranks);
    for (const size_t r : {0, 1, 2}) {
      CHECK_THAT(attempt.Await(r), StatusIs(Code::kUnavailable));
    }
    REQUIRE_OK_AND_ASSIGN(
        const int code,
        local_cluster::WaitForExit(rig.cluster().Daemon("agent-1"), kPatience));
    CHECK(code == kStuckExit);
    rig.SetFaults("");
  }
  REQUIRE_OK(rig.cluster().RestartAgent(1));
  REQUIRE_OK(rig.cluster().AwaitAllAlive());
  REQUIRE_OK_AND_ASSIGN(const ReduceRanks ranks, rig.Join(rig.all(), "g"));
  ReduceAllTypes(rig, rig.all(), ranks);
}

TEST_CASE("different versions of NCCL are told to all, naming two agents",
          "[integration][gpu_reduce]") {
  Rig rig(3);
  REQUIRE_OK(rig.cluster().KillAgent(1));
  ::setenv("SLUICE_FAKE_NCCL_VERSION", "22703", 1);
  const absl::Status restarted = rig.cluster().RestartAgent(1);
  ::unsetenv("SLUICE_FAKE_NCCL_VERSION");
  REQUIRE_OK(restarted);
  REQUIRE_OK(rig.cluster().AwaitAllAlive());
  REQUIRE_OK(rig.cluster().AwaitStatus(
      "versions", [](const v1::GetStatusResponse& status) {
        return absl::StrContains(status.agents(0).device_description(),
                                 "NCCL 2.28.9") &&
               absl::StrContains(status.agents(1).device_description(),
                                 "NCCL 2.27.3");
      }));
  const auto options = rig.Options(rig.all(), "g");
  for (const absl::Status& status : rig.TryJoin({options, options, options})) {
    CHECK_THAT(status, StatusIs(Code::kFailedPrecondition, "agent-0"));
    CHECK_THAT(status, StatusIs(Code::kFailedPrecondition, "agent-1"));
  }
}

TEST_CASE("a GPU of two agents is told to all, naming both",
          "[integration][gpu_reduce]") {
  Rig rig(3, /*gpus=*/{0, 1, 0});
  const auto options = rig.Options(rig.all(), "g");
  for (const absl::Status& status : rig.TryJoin({options, options, options})) {
    CHECK_THAT(status, StatusIs(Code::kFailedPrecondition, "agent-0"));
    CHECK_THAT(status, StatusIs(Code::kFailedPrecondition, "agent-2"));
  }
}

TEST_CASE("a group of GPUs and of host memory in one are told of each other",
          "[integration][gpu_reduce]") {
  Rig rig(2);
  const auto gpu = rig.Options(rig.all(), "g");
  ReduceGroupOptions host = gpu;
  host.space = v1::REDUCE_SPACE_HOST;
  for (const absl::Status& status : rig.TryJoin({gpu, host})) {
    CHECK_THAT(status, StatusIs(Code::kFailedPrecondition, "agent-0"));
    CHECK_THAT(status, StatusIs(Code::kFailedPrecondition, "agent-1"));
  }
}

TEST_CASE("memory that is not this GPU's is refused, and why is told to all",
          "[integration][gpu_reduce]") {
  Rig rig(2);
  REQUIRE_OK_AND_ASSIGN(ReduceRanks ranks, rig.Join(rig.all(), "g"));
  CHECK_THAT(ranks[0]->Allocate(64), StatusIs(Code::kInvalidArgument, "host"));
  WorkerGpu& gpu = rig.gpu(0);
  REQUIRE_OK(gpu.Use());
  REQUIRE_OK_AND_ASSIGN(void* const memory, gpu.runtime().Allocate(1 << 16));
  REQUIRE_OK_AND_ASSIGN(const GpuMemory good, gpu.Describe(memory, 1 << 16));
  GpuMemory bad = good;
  bad.bus_id = "0000:00:07.0";
  CHECK_THAT(ranks[0]->LendGpu(bad),
             StatusIs(Code::kInvalidArgument, "0000:00:07.0"));
  bad = good;
  bad.size_bytes = 1 << 17;
  CHECK_THAT(ranks[0]->LendGpu(bad), StatusIs(Code::kInvalidArgument));
  bad = good;
  bad.handle.resize(8);
  CHECK_THAT(ranks[0]->LendGpu(bad), StatusIs(Code::kInvalidArgument, "64"));
  bad = good;
  bad.event = std::string(64, 'x');
  CHECK_THAT(ranks[0]->LendGpu(bad), StatusIs(Code::kInvalidArgument, "event"));
  CHECK_OK(ranks[0]->LendGpu(good));
  // Freed before it was lent.
  REQUIRE_OK_AND_ASSIGN(void* const freed, gpu.runtime().Allocate(1 << 16));
  REQUIRE_OK_AND_ASSIGN(const GpuMemory gone, gpu.Describe(freed, 1 << 16));
  REQUIRE_OK(gpu.runtime().Free(freed));
  CHECK_THAT(ranks[0]->LendGpu(gone), StatusIs(Code::kInvalidArgument));
  REQUIRE_OK(gpu.runtime().Free(memory));
}

// Joins all agents to one group, which a member's agent cannot be in. Long
// before the deadline, which no test would live to see.
void CheckRefused(Rig& rig, const std::string& who, const std::string& why) {
  auto options = rig.Options(rig.all(), "g");
  options.deadline = absl::Hours(1);
  const std::vector<ReduceGroupOptions> all(rig.all().size(), options);
  for (const absl::Status& status : rig.TryJoin(all)) {
    CHECK_THAT(status, StatusIs(Code::kFailedPrecondition, who));
    CHECK_THAT(status, StatusIs(Code::kFailedPrecondition, why));
  }
}

TEST_CASE("an agent that serves host memory is in no group of GPUs: all hear",
          "[integration][gpu_reduce]") {
  Rig rig(3, /*gpus=*/{0, 1});
  CheckRefused(rig, "\"agent-2\" (rank 2) cannot join", "--device cuda");
  // The others do without it.
  REQUIRE_OK_AND_ASSIGN(const ReduceRanks ranks, rig.Join({0, 1}, "g"));
  ReduceAllTypes(rig, {0, 1}, ranks);
}

TEST_CASE("an agent without NCCL is in no group of GPUs: all hear",
          "[integration][gpu_reduce]") {
  Rig rig(3);
  REQUIRE_OK(rig.cluster().KillAgent(0));
  const std::string library = ::getenv("SLUICE_NCCL_LIBRARY");
  ::setenv("SLUICE_NCCL_LIBRARY", "/nowhere/libnccl.so.2", 1);
  const absl::Status restarted = rig.cluster().RestartAgent(0);
  ::setenv("SLUICE_NCCL_LIBRARY", library.c_str(), 1);
  REQUIRE_OK(restarted);
  REQUIRE_OK(rig.cluster().AwaitStatus(
      "agent-0 without NCCL", [](const v1::GetStatusResponse& status) {
        return absl::StrContains(status.agents(0).device_description(),
                                 "no NCCL");
      }));
  REQUIRE_OK(rig.cluster().AwaitAllAlive());
  CheckRefused(rig, "\"agent-0\" (rank 0) cannot join",
               "/nowhere/libnccl.so.2");
}

}  // namespace
}  // namespace sluice::testing
