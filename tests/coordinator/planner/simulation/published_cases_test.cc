// How fast plans are for weight syncs of published models, on simulated links.

#include "bench/planner/published_cases.h"

#include <catch2/catch.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/link_table.h"
#include "coordinator/planner/planner_inputs.h"
#include "coordinator/planner/simulation/evaluation.h"
#include "presets/link_presets.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator::simulation {
namespace {

using bench::PublishedCase;
using bench::PublishedCases;
using ::sluice::testing::StatusIs;

Evaluation EvaluateCase(const PublishedCase& published,
                        std::vector<PlanPattern> patterns) {
  REQUIRE_OK_AND_ASSIGN(const LinkTable table, FindLinkPreset(published.links));
  REQUIRE_OK_AND_ASSIGN(const ReshardInput input,
                        bench::MakeReshardInput(published));
  REQUIRE_OK_AND_ASSIGN(Evaluation out, Evaluate(input, patterns, table));
  return out;
}

// Thousands of ranks take too long here; //bench:cluster_simulation has them.
constexpr int32_t kMaxRanks = 1024;

TEST_CASE("plans of published layouts take at most 1.15 of the bound's time",
          "[planner]") {
  int judged = 0;
  for (const PublishedCase& published : PublishedCases()) {
    if (published.num_ranks() > kMaxRanks) continue;
    CAPTURE(published.name);
    const Evaluation evaluation = EvaluateCase(published, {});
    const PatternResult& direct = evaluation.patterns[0];
    CHECK(direct.plan.certificate.bound_ratio <= 1.05);
    CHECK(evaluation.TimeRatio(direct) <= 1.15);
    CHECK(evaluation.TimeRatio(direct) >= 1);
    ++judged;
  }
  CHECK(judged >= 8);
}

PatternResult TwoStage(const std::string& name) {
  REQUIRE_OK_AND_ASSIGN(const PublishedCase published,
                        bench::FindPublishedCase(name));
  return EvaluateCase(published, {PlanPattern::kTwoStage}).patterns.at(1);
}

TEST_CASE("TWO_STAGE serves engines of every published expert layout",
          "[planner]") {
  // Sources with one tensor rank, and engines with data-parallel attention.
  for (const char* name :
       {"deepseek-v3-256-to-256", "kimi-k2-256-to-128", "kimi-k2-nvl72"}) {
    CAPTURE(name);
    CHECK_OK(TwoStage(name).status);
  }
}

TEST_CASE("TWO_STAGE has no place for FSDP shards, and says so", "[planner]") {
  for (const char* name :
       {"llama-405b-fsdp-512-to-128", "qwen3-30b-ethernet"}) {
    CAPTURE(name);
    CHECK_THAT(TwoStage(name).status,
               StatusIs(absl::StatusCode::kInvalidArgument, "\"shard\""));
  }
}

}  // namespace
}  // namespace sluice::coordinator::simulation
