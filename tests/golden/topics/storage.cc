// Topic storage.

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "common/ids.h"
#include "coordinator/planner/reference/storage_tracker.h"
#include "tests/golden/topics.h"
#include "tools/reference_cases/storage_json.h"

namespace sluice::golden {

using reference_cases::ReadIds;
using reference_cases::WriteStorage;
namespace {

using coordinator::reference::StorageSnapshot;
using coordinator::reference::StorageTracker;

absl::Status Apply(const Json& op, StorageTracker& storage) {
  const std::vector<std::string> ids = ReadIds(op.at("ids"));
  if (op.at("op") == "clear") {
    storage.Clear(ids);
    return absl::OkStatus();
  }
  const std::string keys[] = {op.at("key")};
  return storage.Add(Rank(op.at("rank").get<int32_t>()), ids, keys,
                     op.at("is_owner"));
}

}  // namespace

void CheckStorage(CaseCheck& check) {
  const Json& golden = check.golden();
  absl::StatusOr<StorageTracker> storage =
      StorageTracker::Create(golden.at("world_size"));
  if (!check.Ok("storage", storage.status())) return;
  // Every state is read at the end, from a snapshot taken in between.
  std::vector<StorageSnapshot> snapshots;
  absl::Status refused;
  for (const Json& op : golden.at("ops")) {
    refused.Update(Apply(op, *storage));
    snapshots.push_back(storage->Snapshot());
  }
  if (check.ExpectsRefusal()) return check.Refused(refused);
  check.Ok("operations", refused);
  for (const Json& checkpoint : golden.at("checkpoints")) {
    const size_t op = checkpoint.at("after_op");
    check.Equal(absl::StrCat("after operation ", op), checkpoint.at("state"),
                WriteStorage(snapshots.at(op)));
  }
  check.Equal("final", golden.at("final"), WriteStorage(storage->Snapshot()));
}

}  // namespace sluice::golden
