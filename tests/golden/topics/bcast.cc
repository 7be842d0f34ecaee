// Topic bcast.

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "tests/golden/ask.h"
#include "tests/golden/topics.h"

namespace sluice::golden {
namespace {

void CheckStagesDisjoint(const Json& answer, CaseCheck& check) {
  size_t step = 0;
  for (const size_t size : answer.at("stage_sizes")) {
    std::set<Json> sends, receives;
    for (const size_t end = step + size; step < end; ++step) {
      const Json& sent = answer.at("plan").at(step);
      check.True("a source is in a stage once",
                 sends.insert(sent.at("root")).second);
      for (const Json& rank : sent.at("dsts")) {
        check.True("a destination is in a stage once",
                   receives.insert(rank).second);
      }
    }
  }
  check.Equal("steps in stages", answer.at("plan").size(), step);
}

// Every (id, key) goes once, to exactly who misses it, from who may send it.
void CheckRequired(const Json& plan, CaseCheck& check) {
  std::map<std::pair<Json, Json>, std::pair<Json, Json>> delivered;
  for (const Json& step : plan) {
    for (const Json& id : step.at("ids")) {
      check.True("an (id, key) goes once",
                 delivered
                     .try_emplace({id, step.at("keys").at(0)}, step.at("dsts"),
                                  step.at("root"))
                     .second);
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
               std::find(sources.begin(), sources.end(), it->second.second) !=
                   sources.end());
  }
}

}  // namespace

void CheckBroadcast(CaseCheck& check) {
  const std::optional<Json> answer = AnswerToCase("bcast", check);
  if (!answer.has_value()) return;
  const Json& golden = check.golden();
  if (check.right().contains("plan")) {
    CompareMembers({"plan"}, check.right(), *answer, check);
  } else if (!check.HasBug()) {
    CompareMembers({"plan", "stage_sizes"}, golden, *answer, check);
  }
  CheckStagesDisjoint(*answer, check);
  if (golden.contains("required")) CheckRequired(answer->at("plan"), check);
}

}  // namespace sluice::golden
