// TWO_STAGE on random meshes whose sizes divide: the plan, carried out on real
// arrays, gives what brute force gives, and the validator agrees.

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/plan.h"
#include "coordinator/planner/planner_inputs.h"
#include "coordinator/planner/planners.h"
#include "tests/coordinator/planner/planner_builders.h"
#include "tests/property/random_reshard.h"
#include "tests/property/reshard_oracle.h"
#include "tests/property/tampering.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator {
namespace {

using ::sluice::testing::Draw;
using ::sluice::testing::EngineLayout;
using ::sluice::testing::IsOk;
using ::sluice::testing::MakeMesh;
using ::sluice::testing::MakeReshard;
using ::sluice::testing::MakeTopology;
using ::sluice::testing::NumCases;
using ::sluice::testing::Rng;
using ::sluice::testing::RunPlan;
using ::sluice::testing::TinyDecoder;
using ::sluice::testing::TrainerLayout;

ReshardInput DividingReshard(Rng& rng) {
  const int64_t pipe = int64_t{1} << Draw(rng, 0, 2);
  const int64_t data = Draw(rng, 1, 3);
  const int64_t tensor = int64_t{1} << Draw(rng, 0, 1);
  const int64_t engine_tensor = tensor << Draw(rng, 0, 2);
  const int64_t replicas = Draw(rng, 1, 3);
  const auto trainers = static_cast<int32_t>(pipe * data * tensor);
  const auto engines = static_cast<int32_t>(replicas * engine_tensor);
  // On GPUs of their own, or some of them on the trainer's.
  const auto first = static_cast<int32_t>(Draw(rng, 0, 1) * trainers);
  const int64_t per_node = Draw(rng, 1, 8);
  std::vector<int32_t> nodes;
  for (int32_t rank = 0; rank < std::max(trainers, first + engines); ++rank) {
    nodes.push_back(static_cast<int32_t>(rank / per_node));
  }
  ReshardInput input = MakeReshard(
      TinyDecoder(static_cast<int>(pipe * Draw(rng, 1, 2))), TrainerLayout(),
      MakeMesh(absl::StrCat("pipe=", pipe, ",data=", data, ",tensor=", tensor),
               0),
      EngineLayout(),
      MakeMesh(absl::StrCat("data=", replicas, ",tensor=", engine_tensor),
               first),
      MakeTopology(nodes));
  input.pattern = Pattern::kTwoStage;
  return input;
}

TEST_CASE("TWO_STAGE plans of random reshards do what brute force does",
          "[planner]") {
  const int cases = NumCases(200);
  Rng rng(Catch::rngSeed());
  int64_t relays = 0;
  int planned = 0;
  for (int i = 0; i < cases; ++i) {
    CAPTURE(Catch::rngSeed(), i);
    ReshardInput input = DividingReshard(rng);
    const absl::StatusOr<TransferPlan> plan = PlanReshard(input);
    if (!plan.ok()) {
      // The mapping may refuse, by name; the planner itself never does.
      CAPTURE(plan.status().ToString());
      CHECK(plan.status().code() == absl::StatusCode::kInvalidArgument);
      input.pattern = Pattern::kDirect;
      CHECK(PlanReshard(input).ok());
      continue;
    }
    ++planned;
    CHECK_THAT(RunPlan(input, *plan), Catch::Equals(""));
    REQUIRE_THAT(ValidateReshard(input, *plan), IsOk());
    for (const Transfer& transfer : plan->transfers) {
      relays += transfer.reads_after ? 1 : 0;
    }
  }
  CHECK(planned > cases / 2);
  CHECK(relays > cases);
}

}  // namespace
}  // namespace sluice::coordinator
