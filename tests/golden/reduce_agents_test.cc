// Topic bucketer by real agents, in CI.

#include "tests/golden/reduce_agents.h"

#include <catch2/catch.hpp>
#include <memory>

#include "tests/golden/case_check.h"
#include "tests/golden/golden_file.h"
#include "tests/support/status_matchers.h"

namespace sluice::golden {
namespace {

TEST_CASE("real agents answer as the reference", "[golden][integration]") {
  const bool on_gpus = GENERATE(false, true);
  CAPTURE(on_gpus);
  REQUIRE_OK_AND_ASSIGN(const std::unique_ptr<ReduceAgents> agents,
                        ReduceAgents::Start(on_gpus));
  REQUIRE_OK_AND_ASSIGN(const FileResult result,
                        RunGoldenFile("tests/golden/vectors/bucketer.json",
                                      {{"bucketer", [&](CaseCheck& check) {
                                          CheckBucketerOnAgents(*agents, check);
                                        }}}));
  INFO(result.Report());
  CHECK(result.num_passed == 42);
  CHECK(result.failures.empty());
}

TEST_CASE("a wrong answer of real agents is a failure",
          "[golden][integration]") {
  REQUIRE_OK_AND_ASSIGN(const std::unique_ptr<ReduceAgents> agents,
                        ReduceAgents::Start());
  const Json golden = Json::parse(R"({"world_size": 2, "bucket_cap_mb": 1,
      "n_groups": 1, "ops": [
        {"op": "reduce_scatter", "shape": [2], "dtype": "f32", "group": 0,
         "callback": true}, {"op": "flush"}],
      "expect": {"events": [
          {"op": 0, "callbacks_fired": [], "collectives": []},
          {"op": 1, "callbacks_fired": [0], "collectives": [
            {"group": "g0", "numel_per_shard": 3, "dtype": "float32"}]}],
        "callback_order": [{"callback_of_op": 0, "fired_during_op": 1,
                            "reason": "flush"}],
        "final_buckets": [],
        "results_by_rank": [[], []]}})");
  CaseCheck check(golden);
  CheckBucketerOnAgents(*agents, check);
  CHECK(check.num_differences() == 3);  // numel_per_shard, results of two ranks
}

}  // namespace
}  // namespace sluice::golden
