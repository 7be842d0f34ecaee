// Samples, which lie in memory of the hosts, moved by NCCL because it is asked
// for: agents with GPUs that are host memory (tests/fakes/cuda), and a library
// that moves real bytes and does wrong what it is told (tests/fakes/nccl).

#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/cpp/client.h"
#include "client/cpp/worker.h"
#include "proto/sluice/v1/catalog_service.pb.h"
#include "proto/sluice/v1/operation.pb.h"
#include "tests/integration/fake_nccl.h"
#include "tests/integration/sample_set.h"
#include "tests/integration/test_cluster.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {
namespace {

using Code = absl::StatusCode;

constexpr int kSamples = 40;

// Two nodes of two agents; a worker on each has put a quarter of the samples.
class Rig {
 public:
  // By agent; those behind serve memory of the host.
  explicit Rig(const std::vector<int>& gpus) {
    REQUIRE_OK_AND_ASSIGN(
        cluster_,
        TestCluster::Start({.nodes = 2, .agents_per_node = 2, .gpus = gpus}));
    for (int agent = 0; agent < cluster_->size(); ++agent) {
      REQUIRE_OK_AND_ASSIGN(workers_.emplace_back(),
                            cluster_->Attach(agent, "producer"));
      REQUIRE_OK(
          samples_.Put(*workers_.back(), agent * kPart, (agent + 1) * kPart));
    }
  }

  void SetFaults(const std::string& faults) { nccl_.SetFaults(faults); }

  // The first half is wanted on agents 0 and 3, the other one on 1 and 2.
  absl::Status Move(v1::Pattern pattern, v1::Transport transport) {
    v1::RedistributeRequest request;
    request.set_pattern(pattern);
    request.set_transport(transport);
    for (size_t half = 0; half < wanting_.size(); ++half) {
      const int first = static_cast<int>(half) * kHalf;
      *request.add_wants() = samples_.WantOf(
          cluster_->AgentNames(wanting_[half]), first, first + kHalf);
    }
    return cluster_->client().Redistribute(request).status();
  }

  void CheckArrived() {
    for (size_t half = 0; half < wanting_.size(); ++half) {
      const int first = static_cast<int>(half) * kHalf;
      for (const int agent : wanting_[half]) {
        CAPTURE(agent);
        CHECK_OK(samples_.Check(Of(agent), first, first + kHalf));
      }
    }
  }

  // Nowhere is anything that was not put there.
  void CheckNothingArrived() {
    for (int agent = 0; agent < cluster_->size(); ++agent) {
      CAPTURE(agent);
      const int first = Foreign(agent);
      CHECK_THAT(samples_.Check(Of(agent), first, first + 1),
                 StatusIs(Code::kNotFound));
    }
  }

  // Back to what the workers have put.
  void Clear() {
    v1::ClearRequest clear;
    for (const std::string& id : samples_.Ids(0, kSamples)) {
      clear.add_sample_ids(id);
    }
    clear.set_keep_owners(true);
    REQUIRE_OK(cluster_->client().Clear(clear));
    for (int agent = 0; agent < cluster_->size(); ++agent) {
      const int first = Foreign(agent);
      CHECK_OK(samples_.AwaitDropped(Of(agent), first, first + 1));
    }
  }

 private:
  static constexpr int kPart = kSamples / 4;
  static constexpr int kHalf = kSamples / 2;
  const std::vector<std::vector<int>> wanting_ = {{0, 3}, {1, 2}};

  // A sample that the agent wants and another one has.
  static int Foreign(int agent) { return (agent + 1) % 4 * kPart; }
  Worker& Of(int agent) { return *workers_[static_cast<size_t>(agent)]; }

  FakeNccl nccl_;
  const SampleSet samples_{"sample-", kSamples};
  std::unique_ptr<TestCluster> cluster_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

TEST_CASE("samples cross nodes by NCCL where it is asked for, whole",
          "[integration][gpu_samples]") {
  Rig rig({0, 1, 2, 3});
  for (const v1::Pattern pattern :
       {v1::PATTERN_DIRECT, v1::PATTERN_GATHER_SCATTER,
        v1::PATTERN_BROADCAST}) {
    CAPTURE(v1::Pattern_Name(pattern));
    // Whoever meets NCCL fails, and unasked nobody does.
    rig.SetFaults("op_fail");
    CHECK_FALSE(rig.Move(pattern, v1::TRANSPORT_NCCL).ok());
    rig.CheckNothingArrived();
    CHECK_OK(rig.Move(pattern, v1::TRANSPORT_AUTO));
    rig.CheckArrived();
    rig.Clear();
    rig.SetFaults("");
    REQUIRE_OK(rig.Move(pattern, v1::TRANSPORT_NCCL));
    rig.CheckArrived();
    rig.Clear();
  }
}

TEST_CASE("NCCL asked for samples of an agent without a GPU is refused",
          "[integration][gpu_samples]") {
  Rig rig({0, 1, 2});
  const absl::Status refused = rig.Move(v1::PATTERN_DIRECT, v1::TRANSPORT_NCCL);
  CHECK_THAT(refused, StatusIs(Code::kFailedPrecondition, "agent-3"));
  CHECK_THAT(refused, StatusIs(Code::kFailedPrecondition, "transport NCCL"));
  rig.CheckNothingArrived();
  CHECK_OK(rig.Move(v1::PATTERN_DIRECT, v1::TRANSPORT_AUTO));
  rig.CheckArrived();
}

}  // namespace
}  // namespace sluice::testing
