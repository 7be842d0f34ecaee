// Topic bcast.

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/ids.h"
#include "coordinator/planner/reference/redistribution.h"
#include "coordinator/planner/reference/storage_tracker.h"
#include "tests/golden/topics.h"
#include "tools/reference_cases/storage_json.h"

namespace sluice::golden {

using reference_cases::ReadRequest;
using reference_cases::ReadStorage;
using reference_cases::WriteId;
using reference_cases::WriteSteps;
namespace {

using coordinator::reference::CollectiveStep;
using coordinator::reference::RedistributionSteps;

std::vector<int> StageSizes(const RedistributionSteps& plan) {
  std::vector<int> sizes;
  for (const CollectiveStep& step : plan.steps) {
    sizes.resize(static_cast<size_t>(step.stage) + 1);
    ++sizes.back();
  }
  return sizes;
}

void CheckStagesDisjoint(const RedistributionSteps& plan, CaseCheck& check) {
  std::set<std::pair<int32_t, Rank>> sends, receives;
  for (const CollectiveStep& step : plan.steps) {
    check.True("a source is in a stage once",
               sends.emplace(step.stage, step.root).second);
    for (const Rank rank : step.peers) {
      check.True("a destination is in a stage once",
                 receives.emplace(step.stage, rank).second);
    }
  }
}

// Every (id, key) goes once, to exactly who misses it, from who may send it.
void CheckRequired(const RedistributionSteps& plan, CaseCheck& check) {
  std::map<std::pair<Json, std::string>, std::pair<Json, Rank>> delivered;
  for (const CollectiveStep& step : plan.steps) {
    Json peers = Json::array();
    for (const Rank rank : step.peers) peers.push_back(rank.value());
    for (const int32_t s : step.samples.at(0)) {
      const Json id = WriteId(plan.ids[static_cast<size_t>(s)]);
      const std::string key = plan.keys[static_cast<size_t>(step.keys.at(0))];
      check.True("an (id, key) goes once",
                 delivered.try_emplace({id, key}, peers, step.root).second);
    }
  }
  const Json& required = check.golden().at("required");
  check.Equal("deliveries", required.size(), delivered.size());
  for (const Json& need : required) {
    const auto it = delivered.find({need.at(0), need.at(1)});
    if (it == delivered.end()) {
      check.Fail("required: nobody sends " + need.dump());
      continue;
    }
    check.Equal("destinations", need.at(2), it->second.first);
    const Json& sources = need.at(3);
    check.True("the source is admissible",
               std::find(sources.begin(), sources.end(),
                         it->second.second.value()) != sources.end());
  }
}

}  // namespace

void CheckBroadcast(CaseCheck& check) {
  namespace reference = coordinator::reference;
  const Json& golden = check.golden();
  absl::StatusOr<reference::StorageTracker> storage =
      ReadStorage(golden.at("tracker"));
  if (!check.Ok("tracker", storage.status())) return;
  const absl::StatusOr<RedistributionSteps> plan =
      reference::PlanBroadcast(storage->Snapshot(), ReadRequest(golden));
  if (check.ExpectsRefusal()) return check.Refused(plan.status());
  if (!check.Ok("plan", plan.status())) return;
  const Json& right = check.right();
  if (right.contains("plan")) {
    check.Equal("plan", right["plan"], WriteSteps(*plan));
  } else if (!check.HasBug()) {
    check.Equal("plan", golden.at("plan"), WriteSteps(*plan));
    check.Equal("stage_sizes", golden.at("stage_sizes"), StageSizes(*plan));
  }
  CheckStagesDisjoint(*plan, check);
  if (golden.contains("required")) CheckRequired(*plan, check);
}

}  // namespace sluice::golden
