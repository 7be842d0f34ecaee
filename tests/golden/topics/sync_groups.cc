// Topic sync_groups.

#include "coordinator/planner/reference/sync_groups.h"

#include <vector>

#include "tests/golden/topics.h"

namespace sluice::golden {
namespace {

namespace reference = coordinator::reference;
using reference::SenderMapping;

SenderMapping ReadMapping(const Json& mapping) {
  SenderMapping read;
  for (const Json& fanout : mapping) {
    read.push_back({fanout.at(0), fanout.at(1)});
  }
  return read;
}

void CheckGroups(CaseCheck& check) {
  const SenderMapping mapping = ReadMapping(check.golden().at("mapping"));
  std::vector<int32_t> order;
  for (const reference::Fanout& fanout : mapping) {
    order.push_back(fanout.sender);
  }
  check.Equal("groups", check.golden().at("groups"),
              reference::SplitSyncGroups(mapping, order));
}

// The reference drops some pairs of a round when it runs it (C1); all are here.
void CheckRounds(CaseCheck& check) {
  const SenderMapping mapping = ReadMapping(check.golden().at("mapping"));
  check.Equal("rounds", check.golden().at("rounds"),
              reference::DisjointRounds(mapping));
}

void CheckBatches(CaseCheck& check) {
  const std::vector<std::vector<int32_t>> tasks = check.golden().at("tasks");
  check.Equal("batches", check.golden().at("batches"),
              reference::CollectiveBatches(tasks));
}

}  // namespace

void CheckSyncGroups(CaseCheck& check) {
  const std::string fn = check.golden().at("fn");
  if (fn == "split_sync_groups") return CheckGroups(check);
  if (fn == "stage2_rounds") return CheckRounds(check);
  if (fn == "collective_task_scheduler") return CheckBatches(check);
  check.Fail("unknown fn " + fn);
}

}  // namespace sluice::golden
