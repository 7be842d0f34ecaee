// Reduce groups of GPUs: results, and what goes wrong in NCCL or with agents.

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
#include "tests/integration/gpu_reduce_rig.h"
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

TEST_CASE("sums and averages of GPUs' tensors of all types, over any ranks",
          "[integration][gpu_reduce]") {
  const int agents = GENERATE(2, 4);
  GpuReduceRig rig(agents);
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
  GpuReduceRig rig(2);
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

// A reduction on all ranks that something goes wrong with. The device of the
// first one's worker is late.
struct Attempt {
  Attempt(GpuReduceRig& rig, const std::vector<int>& agents,
          const ReduceRanks& ranks, int64_t first_delay_ns = 0)
      : heard(ranks.size()) {
    for (size_t r = 0; r < ranks.size(); ++r) {
      tensors.push_back(std::make_unique<GpuTensors>(
          rig.gpu(agents[r]), *ranks[r], v1::DTYPE_F32, 300'000));
      tensors[r]->Fill(static_cast<int>(r), r == 0 ? first_delay_ns : 0);
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
  GpuReduceRig rig(3);
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
  GpuReduceRig rig(2);
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
  GpuReduceRig rig(3);
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

// An abort of NCCL waits for what its kernel is queued behind. If that were the
// worker's device, the end of the group would take as long, and more than
// --nccl-abort-timeout is the end of the agent.
TEST_CASE("a worker's late device does not keep a group from ending",
          "[integration][gpu_reduce]") {
  GpuReduceRig rig(3);
  const auto incarnation = [&]() -> uint64_t {
    const auto status = rig.cluster().client().GetStatus();
    if (!status.ok()) return 0;
    for (const v1::AgentStatus& agent : status->agents()) {
      if (agent.name() == "agent-0") return agent.incarnation();
    }
    return 0;
  };
  const uint64_t before = incarnation();
  CHECK(before != 0);
  {
    REQUIRE_OK_AND_ASSIGN(const ReduceRanks ranks, rig.Join(rig.all(), "g"));
    Attempt attempt(rig, rig.all(), ranks, /*first_delay_ns=*/
                    6000 * kMillisecond);
    REQUIRE_OK(rig.cluster().KillAgent(1));
    for (const size_t r : {0, 2}) {
      CHECK_THAT(attempt.Await(r), StatusIs(Code::kUnavailable, "agent-1"));
    }
    attempt.tensors.clear();  // when its worker's device is done
  }
  REQUIRE_OK(rig.cluster().RestartAgent(1));
  REQUIRE_OK(rig.cluster().AwaitAllAlive());
  CHECK(incarnation() == before);
  REQUIRE_OK_AND_ASSIGN(const ReduceRanks ranks, rig.Join(rig.all(), "g"));
  ReduceAllTypes(rig, rig.all(), ranks);
}

TEST_CASE("an agent killed while a group is made is met in its next life",
          "[integration][gpu_reduce]") {
  GpuReduceRig rig(3);
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
  GpuReduceRig rig(3);
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

}  // namespace
}  // namespace sluice::testing
