// Topic gather_scatter.

#include "absl/status/statusor.h"
#include "coordinator/planner/reference/redistribution.h"
#include "coordinator/planner/reference/storage_tracker.h"
#include "coordinator/planner/reference/tracker_update.h"
#include "tests/golden/topics.h"
#include "tools/reference_cases/storage_json.h"

namespace sluice::golden {

using reference_cases::ReadRequest;
using reference_cases::ReadStorage;
using reference_cases::SortKeys;
using reference_cases::WriteSteps;
using reference_cases::WriteStorage;

void CheckGatherScatter(CaseCheck& check) {
  namespace reference = coordinator::reference;
  const Json& golden = check.golden();
  absl::StatusOr<reference::StorageTracker> storage =
      ReadStorage(golden.at("tracker"));
  if (!check.Ok("tracker", storage.status())) return;
  const absl::StatusOr<reference::RedistributionSteps> plan =
      reference::PlanGatherScatter(storage->Snapshot(), ReadRequest(golden));
  if (check.ExpectsRefusal()) return check.Refused(plan.status());
  if (!check.Ok("plan", plan.status())) return;
  // The reference gathers copies of who does not own them (A6).
  const Json& right = check.right();
  const char* name =
      right.contains("plan_owner_only") ? "plan_owner_only" : "plan";
  check.Equal(name, right.contains(name) ? right[name] : golden.at("plan"),
              WriteSteps(*plan));
  if (!golden.contains("tracker_after")) return;
  check.Ok("update", reference::ApplyGatherScatter(*plan, *storage));
  if (check.HasBug()) {
    // Other steps bring the same keys in another order.
    check.Equal("tracker_after", SortKeys(golden["tracker_after"]),
                WriteStorage(storage->Snapshot(), /*sort_keys=*/true));
  } else {
    check.Equal("tracker_after", golden["tracker_after"],
                WriteStorage(storage->Snapshot()));
  }
}

}  // namespace sluice::golden
