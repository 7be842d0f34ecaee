#include "agent/nccl/member_exchange.h"

#include <memory>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/collective/call_header.h"
#include "agent/nccl/group_control.h"
#include "common/mutex.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// The result of an exchange, which outlives who waits for it.
struct Answer {
  Mutex mutex;
  std::optional<absl::StatusOr<std::vector<std::string>>> result
      ABSL_GUARDED_BY(mutex);
};

std::string MissingNames(const CollectiveMembers& members,
                         const GroupControl& control) {
  std::vector<std::string> names;
  for (const int member : control.Missing()) {
    names.push_back(MemberName(members, member));
  }
  return absl::StrJoin(names, ", ");
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ExchangeWithMembers(
    const std::shared_ptr<Communicator>& communicator, std::string own,
    absl::Time deadline) {
  const std::shared_ptr<GroupControl> control = communicator->control();
  if (control == nullptr) return communicator->status();
  const auto answer = std::make_shared<Answer>();
  const std::weak_ptr<Communicator> weak = communicator;
  control->Exchange(
      std::move(own),
      [answer, weak](absl::StatusOr<std::vector<std::string>> result) {
        {
          MutexLock lock(answer->mutex);
          answer->result = std::move(result);
        }
        if (const auto woken = weak.lock()) woken->Wake();
      });
  const absl::Status waited = communicator->Await(
      [&] {
        MutexLock lock(answer->mutex);
        return answer->result.has_value();
      },
      deadline, "members");
  if (absl::IsDeadlineExceeded(waited)) {
    return Annotate(
        waited, absl::StrCat("did not come: ",
                             MissingNames(communicator->members(), *control)));
  }
  SLUICE_RETURN_IF_ERROR(waited);
  MutexLock lock(answer->mutex);
  return *std::move(answer->result);
}

}  // namespace sluice::agent
