// Topic grid.

#include "absl/strings/str_cat.h"
#include "tests/golden/ask.h"
#include "tests/golden/topics.h"

namespace sluice::golden {
namespace {

void CheckViews(const Json& answer, CaseCheck& check) {
  for (Json expected : check.golden().at("per_rank")) {
    const int64_t rank = expected.at("rank");
    // The first is a process outside, -1.
    Json found = answer.at("per_rank").at(static_cast<size_t>(rank + 1));
    // The reference never learns it outside the model; here everybody may ask.
    if (expected.at("model_world_size").is_object()) {
      expected.erase("model_world_size");
      found.erase("model_world_size");
    }
    check.Equal(absl::StrCat("view of ", rank), expected, found);
  }
}

void CheckMapping(const Json& answer, CaseCheck& check) {
  const Json& mapping = check.golden().at("rank_mapping");
  for (int64_t rank = 0; rank < answer.at("world_size"); ++rank) {
    const auto i = static_cast<size_t>(rank);
    check.Equal(absl::StrCat("global rank of ", rank),
                mapping.is_null() ? Json(rank) : mapping.at(i),
                answer.at("global_ranks").at(i));
    check.Equal(absl::StrCat("topology rank of global rank ", rank), rank,
                answer.at("topology_ranks").at(i));
  }
}

}  // namespace

void CheckGrid(CaseCheck& check) {
  const std::optional<Json> answer = AnswerToCase("grid", check);
  if (!answer.has_value()) return;
  CompareMembers({"world_size", "p2p_groups", "dp_groups", "pipe_groups",
                  "model_groups", "created_groups"},
                 check.golden(), *answer, check);
  CheckMapping(*answer, check);
  CheckViews(*answer, check);
}

}  // namespace sluice::golden
