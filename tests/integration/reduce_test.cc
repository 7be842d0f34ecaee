// Reduce groups over the daemons that users run.

#include <catch2/catch.hpp>
#include <csignal>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "client/cpp/reduce_group.h"
#include "tests/integration/patterned_model.h"
#include "tests/integration/reduce_ranks.h"
#include "tests/integration/reduce_rig.h"
#include "tests/integration/reduce_tensors.h"
#include "tests/integration/test_cluster.h"
#include "tests/support/status_matchers.h"
#include "tools/local_cluster/binaries.h"
#include "tools/local_cluster/process.h"

namespace sluice::testing {
namespace {

using Code = absl::StatusCode;

// Elements of reductions that tests/integration/reduce_worker takes part in.
constexpr int64_t kEndlessNumel = 200'000;

// Reduces small and large tensors of all types on all ranks, and compares.
void ReduceAllTypes(const ReduceRanks& ranks, int64_t divisor) {
  std::vector<std::vector<Tensors>> tensors(ranks.size());
  std::vector<Heard> heard(ranks.size());
  for (size_t r = 0; r < ranks.size(); ++r) {
    for (const v1::DType dtype : {v1::DTYPE_F32, v1::DTYPE_BF16, v1::DTYPE_F16,
                                  v1::DTYPE_F64, v1::DTYPE_I32}) {
      for (const int64_t numel : {1, 1000, 300'000}) {
        tensors[r].push_back(Tensors::Make(*ranks[r], dtype, numel));
        tensors[r].back().Fill(static_cast<int>(r));
      }
    }
  }
  for (size_t r = 0; r < ranks.size(); ++r) {
    for (const Tensors& each : tensors[r]) {
      ranks[r]->ReduceScatter(each.Inputs(), each.Output(), heard[r].Done());
    }
    ranks[r]->Flush([](const absl::Status&) {});
  }
  for (size_t r = 0; r < ranks.size(); ++r) {
    const auto statuses = heard[r].Await(tensors[r].size());
    REQUIRE(statuses.size() == tensors[r].size());
    for (const absl::Status& status : statuses) CHECK_OK(status);
    for (const Tensors& each : tensors[r]) {
      CAPTURE(r, each.dtype, each.numel);
      CHECK(each.IsReduced(static_cast<int>(r), divisor));
    }
  }
}

TEST_CASE("sums and averages of all types, over any ranks of a mesh",
          "[integration][reduce]") {
  ReduceRig rig;
  REQUIRE_OK(rig.Start(/*nodes=*/1, /*agents_per_node=*/4));
  REQUIRE_OK_AND_ASSIGN(ReduceRanks all, rig.Join({0, 1, 2, 3}, "all"));
  ReduceAllTypes(all, 1);
  REQUIRE_OK_AND_ASSIGN(
      ReduceRanks backwards,
      rig.Join({2, 0}, "backwards", v1::REDUCE_OPERATION_AVERAGE));
  ReduceAllTypes(backwards, 2);
  // Groups of the same agents do not wait for each other: what one member of
  // each has not asked for holds up that group alone.
  REQUIRE_OK_AND_ASSIGN(ReduceRanks odd, rig.Join({1, 3}, "odd"));
  Heard waiting;
  const Tensors first = Tensors::Make(*odd[0], v1::DTYPE_F32, 4);
  first.Fill(0);
  odd[0]->ReduceScatter(first.Inputs(), first.Output(), waiting.Done());
  odd[0]->Flush([](const absl::Status&) {});
  ReduceAllTypes(all, 1);
  CHECK_OK(LeaveTogether(all));
  const Tensors second = Tensors::Make(*odd[1], v1::DTYPE_F32, 4);
  second.Fill(1);
  odd[1]->ReduceScatter(second.Inputs(), second.Output(), waiting.Done());
  CHECK_OK(odd[1]->Flush());
  for (const absl::Status& status : waiting.Await(2)) CHECK_OK(status);
  CHECK(first.IsReduced(0));
  CHECK(second.IsReduced(1));
}

TEST_CASE("members on several nodes reduce as those of one",
          "[integration][reduce]") {
  ReduceRig rig;
  REQUIRE_OK(rig.Start(/*nodes=*/2, /*agents_per_node=*/2));
  REQUIRE_OK_AND_ASSIGN(const ReduceRanks across, rig.Join({3, 0, 2}, "odd"));
  REQUIRE_OK_AND_ASSIGN(
      const ReduceRanks all,
      rig.Join({0, 1, 2, 3}, "all", v1::REDUCE_OPERATION_AVERAGE));
  ReduceAllTypes(across, 1);
  ReduceAllTypes(all, 4);
}

TEST_CASE("a member that does not ask is named", "[integration][reduce]") {
  ReduceRig rig;
  REQUIRE_OK(rig.Start(/*nodes=*/1, /*agents_per_node=*/3));
  ReduceGroupOptions options;
  options.call_deadline = absl::Seconds(2);
  REQUIRE_OK_AND_ASSIGN(const ReduceRanks ranks,
                        rig.JoinWith({0, 1, 2}, {0, 1, 2}, "g", options));
  std::vector<Heard> heard(3);
  for (const size_t r : {0, 2}) {
    const Tensors tensors = Tensors::Make(*ranks[r], v1::DTYPE_F32, 10);
    ranks[r]->ReduceScatter(tensors.Inputs(), tensors.Output(),
                            heard[r].Done());
    ranks[r]->Flush([](const absl::Status&) {});
  }
  for (const size_t r : {0, 2}) {
    const auto statuses = heard[r].Await(1);
    REQUIRE(statuses.size() == 1);
    CHECK_THAT(statuses[0], StatusIs(Code::kDeadlineExceeded, "agent-1"));
  }
  // A member that does not join is, too.
  options.deadline = absl::Seconds(2);
  CHECK_THAT(rig.JoinWith({0, 2}, {0, 1, 2}, "h", options),
             StatusIs(Code::kDeadlineExceeded, "agent-1"));
}

TEST_CASE("ranks that differ are named on all of them",
          "[integration][reduce]") {
  ReduceRig rig;
  REQUIRE_OK(rig.Start(/*nodes=*/1, /*agents_per_node=*/3));
  struct Difference {
    std::string name;
    // What rank 1 asks for first and second, in place of F32[8] and F32[5].
    std::pair<v1::DType, int64_t> first, second;
    std::string named;
  };
  for (const Difference& difference : std::vector<Difference>{
           {"shape", {v1::DTYPE_F32, 9}, {v1::DTYPE_F32, 5}, "F32[9]"},
           {"type", {v1::DTYPE_I32, 8}, {v1::DTYPE_F32, 5}, "I32[8]"},
           {"order", {v1::DTYPE_F32, 5}, {v1::DTYPE_F32, 8}, "F32[5], F32[8]"},
       }) {
    CAPTURE(difference.name);
    REQUIRE_OK_AND_ASSIGN(ReduceRanks ranks,
                          rig.Join({0, 1, 2}, difference.name));
    std::vector<Heard> heard(3);
    for (size_t r = 0; r < 3; ++r) {
      const auto first =
          r == 1 ? difference.first : std::make_pair(v1::DTYPE_F32, 8L);
      const auto second =
          r == 1 ? difference.second : std::make_pair(v1::DTYPE_F32, 5L);
      for (const auto& [dtype, numel] : {first, second}) {
        const Tensors tensors = Tensors::Make(*ranks[r], dtype, numel);
        ranks[r]->ReduceScatter(tensors.Inputs(), tensors.Output(),
                                heard[r].Done());
      }
      ranks[r]->Flush([](const absl::Status&) {});
    }
    for (Heard& each : heard) {
      const auto statuses = each.Await(2);
      REQUIRE(statuses.size() == 2);
      for (const absl::Status& status : statuses) {
        CHECK_THAT(status, StatusIs(Code::kFailedPrecondition, "agent-1"));
        CHECK_THAT(status,
                   StatusIs(Code::kFailedPrecondition, difference.named));
        CHECK_THAT(status, StatusIs(Code::kFailedPrecondition, "F32[8]"));
      }
    }
  }
}

TEST_CASE("bad input on one rank is told to all of them",
          "[integration][reduce]") {
  ReduceRig rig;
  REQUIRE_OK(rig.Start(/*nodes=*/1, /*agents_per_node=*/3));
  const std::vector<
      std::pair<std::string, std::function<void(std::vector<SharedTensor>&)>>>
      cases = {
          {"input 2", [](auto& inputs) { inputs[2].shape = {4}; }},
          {"input 1", [](auto& inputs) { inputs[1].dtype = v1::DTYPE_I32; }},
          {"3 members", [](auto& inputs) { inputs.pop_back(); }},
          {"was not lent", [](auto& inputs) { inputs[0].memory = nullptr; }},
      };
  for (const auto& [named, spoil] : cases) {
    CAPTURE(named);
    REQUIRE_OK_AND_ASSIGN(ReduceRanks ranks, rig.Join({0, 1, 2}, named));
    std::vector<Heard> heard(3);
    for (size_t r = 0; r < 3; ++r) {
      const Tensors tensors = Tensors::Make(*ranks[r], v1::DTYPE_F32, 8);
      std::vector<SharedTensor> inputs = tensors.Inputs();
      if (r == 2) spoil(inputs);
      ranks[r]->ReduceScatter(inputs, tensors.Output(), heard[r].Done());
      ranks[r]->Flush([](const absl::Status&) {});
    }
    for (Heard& each : heard) {
      const auto statuses = each.Await(1);
      REQUIRE(statuses.size() == 1);
      CHECK_THAT(statuses[0], StatusIs(statuses[0].code(), "agent-2"));
      CHECK_THAT(statuses[0], StatusIs(statuses[0].code(), named));
      CHECK_FALSE(statuses[0].ok());
    }
  }
}

TEST_CASE("a worker that dies ends its group on all, and another one joins",
          "[integration][reduce]") {
  ReduceRig rig;
  REQUIRE_OK(rig.Start(/*nodes=*/1, /*agents_per_node=*/3));
  REQUIRE_OK_AND_ASSIGN(ReduceRanks ranks, rig.Join({0, 1, 2}, "g"));
  std::vector<Heard> heard(3);
  for (const size_t r : {0, 2}) {
    const Tensors tensors = Tensors::Make(*ranks[r], v1::DTYPE_F32, 200'000);
    ranks[r]->ReduceScatter(tensors.Inputs(), tensors.Output(),
                            heard[r].Done());
  }
  ranks[1].reset();  // as its process would, with the session after it
  rig.workers[1].reset();
  for (const size_t r : {0, 2}) {
    const auto statuses = heard[r].Await(1);
    REQUIRE(statuses.size() == 1);
    CHECK_THAT(statuses[0], StatusIs(Code::kUnavailable, "agent-1"));
    CHECK_THAT(ranks[r]->Flush(), StatusIs(Code::kUnavailable, "agent-1"));
  }
  ranks.clear();
  REQUIRE_OK_AND_ASSIGN(rig.workers[1], rig.cluster->Attach(1, "successor"));
  REQUIRE_OK_AND_ASSIGN(ranks, rig.Join({0, 1, 2}, "g"));
  ReduceAllTypes(ranks, 1);
}

// One rank reduces again and again, until an error.
class Endless {
 public:
  explicit Endless(ReduceGroup& group)
      : group_(group),
        tensors_(Tensors::Make(group, v1::DTYPE_F32, kEndlessNumel)) {}
  void Next() {
    group_.ReduceScatter(
        tensors_.Inputs(), tensors_.Output(),
        [this](const absl::StatusOr<v1::ReducedScatter>& reduced) {
          if (reduced.ok()) Next();
          heard_.Done()(reduced);
        });
  }
  // Returns what has ended once so much has.
  std::vector<absl::Status> Await(size_t count) { return heard_.Await(count); }
  // Returns the error.
  absl::Status AwaitError() {
    for (size_t count = 1;; ++count) {
      const auto statuses = Await(count);
      if (statuses.size() < count) return absl::OkStatus();
      if (!statuses[count - 1].ok()) return statuses[count - 1];
    }
  }

 private:
  ReduceGroup& group_;
  const Tensors tensors_;
  Heard heard_;
};

TEST_CASE(
    "a worker's process that is killed in the middle of reductions ends "
    "them on all",
    "[integration][reduce]") {
  ReduceRig rig;
  REQUIRE_OK(rig.Start(/*nodes=*/1, /*agents_per_node=*/3));
  const std::vector<int> agents = {0, 1, 2};
  REQUIRE_OK_AND_ASSIGN(
      const std::string program,
      local_cluster::FindProgram({"tests/integration/reduce_worker"}));
  REQUIRE_OK_AND_ASSIGN(
      const auto process,
      local_cluster::Spawn(
          {program, rig.cluster->processes().agents().at(1).socket, "g",
           absl::StrJoin(rig.cluster->AgentNames(agents), ",")},
          rig.cluster->dir() + "/reduce_worker.log",
          {.die_with_parent = true}));
  REQUIRE_OK_AND_ASSIGN(ReduceRanks ranks, rig.JoinWith({0, 2}, agents, "g"));
  Endless first(*ranks[0]), second(*ranks[1]);
  first.Next();
  second.Next();
  REQUIRE(first.Await(20).size() >= 20);
  REQUIRE_OK(local_cluster::Signal(process, SIGKILL));
  CHECK_THAT(first.AwaitError(), StatusIs(Code::kUnavailable, "agent-1"));
  CHECK_THAT(second.AwaitError(), StatusIs(Code::kUnavailable, "agent-1"));
  REQUIRE_OK(local_cluster::WaitForExit(process, kPatience));
  ranks.clear();
  REQUIRE_OK_AND_ASSIGN(ranks, rig.Join(agents, "g"));
  ReduceAllTypes(ranks, 1);
}

TEST_CASE("an agent that is killed ends its groups on all, and rejoins",
          "[integration][reduce]") {
  ReduceRig rig;
  REQUIRE_OK(rig.Start(/*nodes=*/1, /*agents_per_node=*/3));
  REQUIRE_OK_AND_ASSIGN(ReduceRanks ranks, rig.Join({0, 1, 2}, "g"));
  REQUIRE_OK_AND_ASSIGN(ReduceRanks others, rig.Join({0, 2}, "others"));
  std::vector<Heard> heard(3);
  for (size_t r = 0; r < 2; ++r) {
    const Tensors tensors = Tensors::Make(*ranks[r], v1::DTYPE_F32, 200'000);
    ranks[r]->ReduceScatter(tensors.Inputs(), tensors.Output(),
                            heard[r].Done());
  }
  REQUIRE_OK(rig.cluster->KillAgent(1));
  for (size_t r = 0; r < 2; ++r) {
    const auto statuses = heard[r].Await(1);
    REQUIRE(statuses.size() == 1);
    CHECK(statuses[0].code() == Code::kUnavailable);
    // Its own worker hears of it by its connection.
    if (r == 0)
      CHECK_THAT(statuses[0], StatusIs(Code::kUnavailable, "agent-1"));
  }
  ReduceAllTypes(others, 1);
  ranks.clear();
  REQUIRE_OK(rig.cluster->RestartAgent(1));
  REQUIRE_OK(rig.cluster->AwaitAllAlive());
  REQUIRE_OK_AND_ASSIGN(ranks, rig.Join({0, 1, 2}, "g"));
  ReduceAllTypes(ranks, 1);
}

// Two agents that train and serve "policy".
absl::Status RegisterPolicy(TestCluster& cluster, const v1::ModelSpec& model) {
  v1::RegisterModelRequest request;
  *request.mutable_model() = model;
  absl::Status status = cluster.client().RegisterModel(request).status();
  for (const bool trains : {true, false}) {
    v1::RegisterPlacementRequest place;
    place.set_model(model.name());
    place.set_placement(trains ? "trainer" : "rollout");
    *place.mutable_mesh() =
        MeshOf({{"data", 1}, {"tensor", 2}}, cluster.AgentNames({0, 1}));
    *place.mutable_layout() = trains ? RowLayout() : ServingLayout();
    place.set_storage(trains ? v1::STORAGE_LENT : v1::STORAGE_ARENA);
    status.Update(cluster.client().RegisterPlacement(place).status());
  }
  return status;
}

TEST_CASE("syncs and reduce-scatters in opposite orders both finish",
          "[integration][reduce]") {
  ReduceRig rig;
  REQUIRE_OK(rig.Start(/*nodes=*/1, /*agents_per_node=*/2));
  const v1::ModelSpec model = PatternedModel("policy", /*rows=*/8192);
  REQUIRE_OK(RegisterPolicy(*rig.cluster, model));
  REQUIRE_OK_AND_ASSIGN(
      const auto trainer,
      PatternedTrainer::Start(*rig.cluster, model, "trainer", {0, 1}));
  REQUIRE_OK_AND_ASSIGN(ReduceRanks ranks, rig.Join({0, 1}, "g"));
  std::vector<Tensors> tensors;
  for (size_t r = 0; r < 2; ++r) {
    tensors.push_back(Tensors::Make(*ranks[r], v1::DTYPE_F32, 1 << 20));
    tensors[r].Fill(static_cast<int>(r));
  }
  std::vector<Heard> heard(2);
  const auto reduce = [&](size_t r) {
    ranks[r]->ReduceScatter(tensors[r].Inputs(), tensors[r].Output(),
                            heard[r].Done());
  };
  v1::SyncRequest request;
  request.set_model("policy");
  request.set_source("trainer");
  request.add_destinations("rollout");
  constexpr size_t kRounds = 4;
  for (size_t round = 1; round <= kRounds; ++round) {
    REQUIRE_OK(trainer->WriteNextStep());
    // The first agent reduces, then syncs; the other one syncs first.
    const size_t early = round % 2;
    reduce(early);
    absl::Status synced;
    std::thread sync(
        [&] { synced = rig.cluster->client().Sync(request).status(); });
    // In every other round the sync must end while the reduction waits, or
    // both are under way at once.
    if (round > 2) sync.join();
    reduce(1 - early);
    for (size_t r = 0; r < 2; ++r) {
      const auto statuses = heard[r].Await(round);
      REQUIRE(statuses.size() == round);
      CHECK_OK(statuses.back());
      CHECK(tensors[r].IsReduced(static_cast<int>(r)));
    }
    if (round <= 2) sync.join();
    CHECK_OK(synced);
  }
}

}  // namespace
}  // namespace sluice::testing
