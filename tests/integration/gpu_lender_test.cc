// Worker processes that lend memory of a GPU and die: before a sync, while
// their kernels run, in the middle of copies (tests/fakes/cuda).

#include <signal.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cpp/client.h"
#include "client/cpp/worker.h"
#include "common/failpoint.h"
#include "common/status_macros.h"
#include "proto/sluice/v1/model_service.pb.h"
#include "proto/sluice/v1/operation.pb.h"
#include "proto/sluice/v1/status_service.pb.h"
#include "proto/sluice/v1/worker_service.pb.h"
#include "tests/fakes/cuda/process_gpu.h"
#include "tests/integration/gpu_memory.h"
#include "tests/integration/patterned_model.h"
#include "tests/integration/test_cluster.h"
#include "tests/support/status_matchers.h"
#include "tools/local_cluster/binaries.h"
#include "tools/local_cluster/process.h"

namespace sluice::testing {
namespace {

using agent::cuda::ProcessGpuRuntime;
using local_cluster::Process;

constexpr int64_t kRows = 64;
constexpr int64_t kMany = 1000;  // of a failpoint that is only counted
constexpr int64_t kNever = int64_t{3'600'000'000'000};  // ns; nobody waits

// Files of the fake GPU (memory and events) that a process maps.
std::set<std::string> GpuFiles(const Process& process) {
  std::set<std::string> inodes;
  std::ifstream maps(absl::StrCat("/proc/", process.pid, "/maps"));
  for (std::string line; std::getline(maps, line);) {
    if (!absl::StrContains(line, "memfd:") || !absl::StrContains(line, "gpu-"))
      continue;
    std::istringstream words(line);
    std::string range, permissions, offset, device, inode;
    words >> range >> permissions >> offset >> device >> inode;
    inodes.insert(inode);
  }
  return inodes;
}

// Two agents of one node, each with a GPU. Agent 0's part of the trainer is
// lent by a process of its own, agent 1's by this one. The rollout is on both
// agents, solo on agent 1.
class LenderRig {
 public:
  // Agents that failpoints stop are not lost meanwhile.
  absl::Status Start(bool failpoints = false) {
    SLUICE_ASSIGN_OR_RETURN(cluster_,
                            TestCluster::Start({.nodes = 1,
                                                .agents_per_node = 2,
                                                .lease = 2 * kPatience,
                                                .failpoints = failpoints,
                                                .gpus = {0, 1}}));
    v1::RegisterModelRequest request;
    *request.mutable_model() = model_;
    SLUICE_RETURN_IF_ERROR(cluster_->client().RegisterModel(request).status());
    SLUICE_RETURN_IF_ERROR(
        Place("trainer", {0, 1}, RowLayout(), v1::STORAGE_LENT));
    SLUICE_RETURN_IF_ERROR(
        Place("rollout", {0, 1}, ServingLayout(), v1::STORAGE_ARENA));
    SLUICE_RETURN_IF_ERROR(
        Place("solo", {1}, ServingLayout(), v1::STORAGE_ARENA));
    for (int i = 0; i < 2; ++i) {
      SLUICE_ASSIGN_OR_RETURN(workers_.emplace_back(),
                              cluster_->Attach(i, absl::StrCat("w", i)));
    }
    SLUICE_ASSIGN_OR_RETURN(gpu_, GpuOfWorker::Open(runtime_));
    SLUICE_ASSIGN_OR_RETURN(const v1::GetPlacementResponse described,
                            workers_[1]->GetPlacement("policy", "trainer"));
    layout_ = described.layout();
    SLUICE_ASSIGN_OR_RETURN(lent_, gpu_->Allocate(layout_.buffer_bytes()));
    return workers_[1]->LendDevice("policy", "trainer", lent_.bytes);
  }

  // Both ranks write the step, agent 0's in a new process; waits until it has
  // a version.
  absl::Status WriteStep(int64_t step, int64_t delay_ns,
                         const std::string& how = "") {
    SLUICE_ASSIGN_OR_RETURN(
        const std::string program,
        local_cluster::FindProgram({"tests/integration/gpu_lender"}));
    std::vector<std::string> words = {
        program, cluster_->processes().agents()[0].socket, absl::StrCat(kRows),
        absl::StrCat(step), absl::StrCat(delay_ns)};
    if (!how.empty()) words.push_back(how);
    SLUICE_ASSIGN_OR_RETURN(
        lender_, local_cluster::Spawn(words, cluster_->dir() + "/lender.log",
                                      {.die_with_parent = true}));
    SLUICE_RETURN_IF_ERROR(workers_[1]->BeginWrite("policy", "trainer"));
    std::vector<std::byte> content(static_cast<size_t>(layout_.buffer_bytes()));
    FillStep(model_, layout_, step, content.data());
    SLUICE_RETURN_IF_ERROR(gpu_->Write(lent_, content, /*delay_ns=*/0));
    SLUICE_RETURN_IF_ERROR(
        workers_[1]->EndWrite("policy", "trainer", step).status());
    return AwaitTrainer(true);
  }

  // Kills the lender; it stays a zombie until it is reaped.
  absl::Status Kill() { return local_cluster::Signal(lender_, SIGKILL); }
  absl::Status Reap() {
    return local_cluster::WaitForExit(lender_, kPatience).status();
  }

  absl::Status AwaitTrainer(bool has_version) {
    return cluster_->AwaitStatus(
        has_version ? "trainer with a version" : "trainer without a version",
        [has_version](const v1::GetStatusResponse& status) {
          const auto versions = ReplicaVersions(status, "policy", "trainer");
          return versions.size() == 1 && (versions[0] != 0) == has_version;
        });
  }
  // Waits until agent 0 maps nothing that the (living or dead) lender had.
  absl::Status AwaitUnmapped(const std::set<std::string>& files) {
    return cluster_->AwaitStatus("unmapping", [&](const auto&) {
      return CountMapped("agent-0", files) == 0;
    });
  }
  // How many of these files an agent maps.
  int CountMapped(const std::string& agent,
                  const std::set<std::string>& files) {
    int count = 0;
    for (const std::string& inode : GpuFiles(cluster_->Daemon(agent))) {
      if (files.contains(inode)) ++count;
    }
    return count;
  }

  struct SyncTo {
    std::string destination = "rollout";
    bool skip_digests = false;
    int deadline_seconds = 0;  // 0: the usual one
  };
  absl::StatusOr<v1::OperationResult> Sync(const SyncTo& to) {
    v1::SyncRequest request;
    request.set_skip_digests(to.skip_digests);
    if (to.deadline_seconds > 0) {
      request.mutable_deadline()->set_seconds(to.deadline_seconds);
    }
    request.set_model("policy");
    request.set_source("trainer");
    request.add_destinations(to.destination);
    return cluster_->impatient_client().Sync(request);
  }
  absl::StatusOr<v1::OperationResult> Sync() { return Sync({}); }
  // The step that all bytes of an agent's part of the rollout carry.
  absl::StatusOr<int64_t> ReadRollout(int agent) {
    return Read("rollout", agent);
  }
  absl::StatusOr<int64_t> Read(const std::string& placement, int agent) {
    Worker& worker = *workers_[static_cast<size_t>(agent)];
    SLUICE_ASSIGN_OR_RETURN(const v1::GetPlacementResponse described,
                            worker.GetPlacement("policy", placement));
    SLUICE_ASSIGN_OR_RETURN(const auto pin, worker.Pin("policy", placement));
    SLUICE_ASSIGN_OR_RETURN(const auto bytes, gpu_->Read(*pin));
    return ReadStep(model_, described.layout(), bytes.data());
  }

  TestCluster& cluster() { return *cluster_; }
  const Process& lender() const { return lender_; }

 private:
  absl::Status Place(const std::string& name, const std::vector<int>& agents,
                     const v1::Layout& layout, v1::Storage storage) {
    v1::RegisterPlacementRequest request;
    request.set_model(model_.name());
    request.set_placement(name);
    *request.mutable_mesh() =
        MeshOf({{"data", 1}, {"tensor", static_cast<int64_t>(agents.size())}},
               cluster_->AgentNames(agents));
    *request.mutable_layout() = layout;
    request.set_storage(storage);
    return cluster_->client().RegisterPlacement(request).status();
  }

  const v1::ModelSpec model_ = PatternedModel("policy", kRows);
  ProcessGpuRuntime runtime_;
  std::unique_ptr<TestCluster> cluster_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::unique_ptr<GpuOfWorker> gpu_;
  v1::RankLayout layout_;
  GpuOfWorker::Lent lent_;
  Process lender_;
};

// A sync that runs beside the test.
class Running {
 public:
  explicit Running(LenderRig& rig, const LenderRig::SyncTo& to)
      : thread_([this, &rig, to] { result_ = rig.Sync(to); }) {}
  ~Running() {
    if (thread_.joinable()) thread_.join();
  }
  const absl::StatusOr<v1::OperationResult>& Join() {
    thread_.join();
    return result_;
  }

 private:
  absl::StatusOr<v1::OperationResult> result_;
  std::thread thread_;
};

// A new lender and a step of it, which arrives whole.
void CheckGoesOn(LenderRig& rig, int64_t step) {
  REQUIRE_OK(rig.cluster().AwaitAllAlive());
  REQUIRE_OK(rig.WriteStep(step, 0));
  REQUIRE_OK(rig.Sync());
  for (int agent = 0; agent < 2; ++agent) {
    REQUIRE_OK_AND_ASSIGN(const int64_t found, rig.ReadRollout(agent));
    CHECK(found == step);
  }
}

TEST_CASE("a worker that is killed takes its GPU's memory with it",
          "[integration][gpu]") {
  LenderRig rig;
  REQUIRE_OK(rig.Start());
  REQUIRE_OK(rig.WriteStep(1, 0));
  REQUIRE_OK(rig.Sync());
  const std::set<std::string> files = GpuFiles(rig.lender());
  CHECK(rig.CountMapped("agent-0", files) >= 2);  // memory and event
  REQUIRE_OK(rig.Kill());
  REQUIRE_OK(rig.Reap());
  REQUIRE_OK(rig.AwaitTrainer(false));
  REQUIRE_OK(rig.AwaitUnmapped(files));
  CHECK_THAT(rig.Sync(), StatusIs(absl::StatusCode::kFailedPrecondition));
  // What was synced before stays.
  for (int agent = 0; agent < 2; ++agent) {
    REQUIRE_OK_AND_ASSIGN(const int64_t step, rig.ReadRollout(agent));
    CHECK(step == 1);
  }
  CheckGoesOn(rig, 2);
}

TEST_CASE("a worker that is killed before its kernel wrote ends the sync",
          "[integration][gpu]") {
  LenderRig rig;
  REQUIRE_OK(rig.Start(/*failpoints=*/true));
  REQUIRE_OK_AND_ASSIGN(auto waits,
                        rig.cluster().Arm("agent-0", "agent.hand_over", kMany));
  REQUIRE_OK(rig.WriteStep(1, kNever));
  const std::set<std::string> files = GpuFiles(rig.lender());
  Running sync(rig, {});
  // All that is left is to wait for the kernel, whose event will never come.
  REQUIRE_OK(rig.cluster().AwaitStatus(
      "wait", [&](const auto&) { return waits->passed() > 0; }));
  REQUIRE_OK(rig.Kill());
  REQUIRE_OK(rig.Reap());
  // In the words of the agent itself, or of a peer that heard of it first.
  const absl::Status ended = sync.Join().status();
  CAPTURE(ended);
  CHECK((absl::IsAborted(ended) || absl::IsUnavailable(ended)));
  CHECK(absl::StrContains(ended.message(), "agent-0"));
  CHECK_FALSE(rig.ReadRollout(0).ok());
  REQUIRE_OK(rig.AwaitUnmapped(files));
  CheckGoesOn(rig, 2);
}

TEST_CASE("a kernel that does not end is waited for until the deadline",
          "[integration][gpu]") {
  LenderRig rig;
  REQUIRE_OK(rig.Start(/*failpoints=*/true));
  REQUIRE_OK_AND_ASSIGN(auto waits,
                        rig.cluster().Arm("agent-0", "agent.hand_over", kMany));
  REQUIRE_OK(rig.WriteStep(1, kNever));
  CHECK_THAT(rig.Sync({.deadline_seconds = 2}),
             StatusIs(absl::StatusCode::kDeadlineExceeded));
  CHECK(waits->passed() > 0);
  CHECK_FALSE(rig.ReadRollout(0).ok());
  // The worker lives, and so does its agent.
  REQUIRE_OK(rig.AwaitTrainer(true));
  REQUIRE_OK(rig.Kill());
  REQUIRE_OK(rig.Reap());
  REQUIRE_OK(rig.AwaitTrainer(false));
  CheckGoesOn(rig, 2);
}

TEST_CASE("a worker that is killed in the middle of copies leaves no mixture",
          "[integration][gpu]") {
  const std::string stopped = GENERATE("agent-0", "agent-1");
  CAPTURE(stopped);
  LenderRig rig;
  REQUIRE_OK(rig.Start(/*failpoints=*/true));
  REQUIRE_OK(rig.WriteStep(1, 0));
  const std::set<std::string> files = GpuFiles(rig.lender());
  REQUIRE_OK_AND_ASSIGN(auto armed, rig.cluster().Arm(stopped, "agent.bytes", 1,
                                                      FailpointControl::kStop));
  Running sync(rig, {});
  REQUIRE_OK(rig.cluster().AwaitStatus(
      "stop", [&](const auto&) { return armed->fired(); }));
  REQUIRE_OK(rig.Kill());
  REQUIRE_OK(rig.Reap());
  armed.reset();
  REQUIRE_OK(local_cluster::Signal(rig.cluster().Daemon(stopped), SIGCONT));
  // What was complete before anybody knew may be published; nothing else.
  if (sync.Join().ok()) {
    for (int agent = 0; agent < 2; ++agent) {
      REQUIRE_OK_AND_ASSIGN(const int64_t step, rig.ReadRollout(agent));
      CHECK(step == 1);
    }
  } else {
    CHECK_FALSE(rig.ReadRollout(0).ok());
  }
  REQUIRE_OK(rig.AwaitTrainer(false));
  REQUIRE_OK(rig.AwaitUnmapped(files));
  CheckGoesOn(rig, 2);
}

TEST_CASE("a vote is taken back when memory goes that nothing compares",
          "[integration][gpu]") {
  LenderRig rig;
  REQUIRE_OK(rig.Start(/*failpoints=*/true));
  REQUIRE_OK(rig.WriteStep(1, 0));
  const std::set<std::string> files = GpuFiles(rig.lender());
  // Agent 0, which reads nothing, has voted (that is only counted); agent 1 has
  // not: nothing is decided.
  REQUIRE_OK_AND_ASSIGN(
      auto voted, rig.cluster().Arm("agent-0", "agent.after_vote", kMany));
  REQUIRE_OK_AND_ASSIGN(auto votes,
                        rig.cluster().Arm("agent-1", "agent.before_vote", 1,
                                          FailpointControl::kStop));
  Running sync(rig, {.destination = "solo", .skip_digests = true});
  REQUIRE_OK(rig.cluster().AwaitStatus("votes", [&](const auto&) {
    return voted->passed() > 0 && votes->fired();
  }));
  REQUIRE_OK(rig.Kill());
  REQUIRE_OK(rig.Reap());
  REQUIRE_OK(rig.AwaitTrainer(false));
  votes.reset();
  REQUIRE_OK(local_cluster::Signal(rig.cluster().Daemon("agent-1"), SIGCONT));
  const absl::Status ended = sync.Join().status();
  CAPTURE(ended);
  CHECK(absl::IsAborted(ended));
  CHECK(absl::StrContains(ended.message(), "agent-0"));
  CHECK_FALSE(rig.Read("solo", 1).ok());
  REQUIRE_OK(rig.AwaitUnmapped(files));
  CheckGoesOn(rig, 2);
}

// What the tests of slow kernels rely on: were the event not waited for, they
// would see it.
TEST_CASE("without its event a slow kernel's step is not there yet",
          "[integration][gpu]") {
  LenderRig rig;
  REQUIRE_OK(rig.Start());
  REQUIRE_OK(rig.WriteStep(1, kNever, "no-event"));
  REQUIRE_OK(rig.Sync());
  CHECK_THAT(rig.ReadRollout(0), StatusIs(absl::StatusCode::kDataLoss));
}

}  // namespace
}  // namespace sluice::testing
