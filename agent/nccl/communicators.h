#ifndef SLUICE_AGENT_NCCL_COMMUNICATORS_H_
#define SLUICE_AGENT_NCCL_COMMUNICATORS_H_

// The communicators of this agent: made for declared groups, watched, ended.
//
// NCCL waits for ever for a member that is gone, and ending a communicator may
// itself hang. So every wait here can be left, a watchdog asks for asynchronous
// errors and ends what failed, and an end that does not come tells `on_stuck`,
// which ends the process: as a new incarnation it owes nothing to anybody.

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/collective/collective.h"
#include "agent/nccl/communicator.h"
#include "agent/nccl/group_control.h"
#include "agent/nccl/nccl_api.h"
#include "agent/nccl/nccl_library.h"
#include "agent/nccl/stream.h"
#include "common/clock.h"
#include "common/ids.h"
#include "common/mutex.h"
#include "common/nccl_report.h"

namespace sluice::agent {

struct CommunicatorOptions {
  // From the start of Connect to all members having warmed it.
  absl::Duration connect_timeout = absl::Seconds(60);
  // How long the other members may take to drop what this one drops.
  absl::Duration finalize_timeout = absl::Seconds(10);
  // How long a call under way may go on before the abort comes beside it.
  absl::Duration call_grace = absl::Seconds(1);
  // How long an end may take before the process is given up.
  absl::Duration abort_timeout = absl::Seconds(10);
  // How long an error that NCCL tells of is held back for the reason to come
  // from the other members or from who retires one: NCCL names nobody.
  absl::Duration reason_wait = absl::Milliseconds(500);
  // Between two looks of the watchdog.
  absl::Duration poll_interval = absl::Milliseconds(20);
  // SMs that a communicator's kernels may take; 0: as many as NCCL likes.
  int max_sms = 0;

  // Errors: INVALID_ARGUMENT.
  absl::Status Validate() const;
};

// All but the library outlive the communicators.
struct CommunicatorDeps {
  std::shared_ptr<const NcclLibrary> library;
  NcclDevice& device;
  GroupControls& controls;
  const Clock& clock;
  // Called once, on the watchdog's thread, with what hangs. Expected to end the
  // process; where it does not, what hangs is left behind.
  std::function<void(const std::string&)> on_stuck;
};

// Thread-safe.
class Communicators {
 public:
  using Shared = std::shared_ptr<Communicator>;

  // Starts the watchdog.
  // Errors: INVALID_ARGUMENT - options.
  static absl::StatusOr<std::unique_ptr<Communicators>> Create(
      CommunicatorDeps deps, CommunicatorOptions options);

  // Ends all (CANCELLED) and waits for it, except for what is stuck.
  ~Communicators();
  Communicators(const Communicators&) = delete;
  Communicators& operator=(const Communicators&) = delete;

  // Allows the group: no communicator is made for any other. The key is
  // members.Id(), that is, name, ranks and incarnations.
  // Errors: INVALID_ARGUMENT - no members, or `self` not one of them.
  // ABORTED - a member was retired (named).
  absl::Status Declare(const CollectiveMembers& members);

  // The group's communicator, which is still to be connected where there was
  // none. Does not wait. Errors: NOT_FOUND - not declared.
  absl::StatusOr<Shared> Find(uint64_t id);

  // Makes it ready, with all members, within `timeout` and what the options
  // allow; it is already where it was used before. Waits for that: to be called
  // on a thread of the group's own, so that groups made in opposite orders
  // never wait for each other. When it fails on one member, it fails on all.
  // `use` is the same on all members.
  // Errors: FAILED_PRECONDITION - see CheckCards. DEADLINE_EXCEEDED - who did
  // not come. Why it was ended. What NCCL says.
  absl::Status Connect(const Shared& communicator,
                       absl::Duration timeout = absl::InfiniteDuration(),
                       Communicator::Use use = Communicator::Use::kReductions);

  // Lets go of a group that all members let go of, nothing being under way;
  // aborts it when they do not within finalize_timeout. Returns at once; the
  // declaration goes, too. Unknown ids are ignored.
  void Drop(uint64_t id);

  // Takes the declaration of a group back whose communicator has ended, unless
  // another one was made since.
  void Withdraw(const Shared& communicator);

  // Aborts a communicator, here and on the other members. Returns at once. The
  // group stays declared: Find makes it anew.
  void Abort(const Shared& communicator, const absl::Status& reason);

  // A life of an agent is over: aborts every communicator it is in, and takes
  // back their declarations.
  void Retire(Rank rank, Incarnation incarnation, const absl::Status& reason);

  // A life that was thought lost is there after all: groups may have it again.
  void Admit(Rank rank, Incarnation incarnation);

  // Aborts everything, for instance because a new coordinator took over.
  void AbortAll(const absl::Status& reason);

  // Returns what there is to tell of them, those that failed lately included.
  NcclReport Report() const;
  const NcclLibrary& library() const { return *deps_.library; }

 private:
  struct Failed {
    absl::Time until;  // told until then
    CommunicatorReport report;
  };

  Communicators(CommunicatorDeps deps, CommunicatorOptions options);

  absl::Status ConnectMembers(const Shared& communicator, Communicator::Use use,
                              absl::Time deadline);
  // Whether NCCL takes the members, by the cards of all.
  absl::Status CompareCards(const Shared& communicator, absl::Time deadline);
  // Member 0's unique id.
  absl::StatusOr<NcclUniqueId> ExchangeId(const Shared& communicator,
                                          absl::Time deadline);
  // Ends all of them: none is freed before each is marked, and each is freed on
  // a thread of its own, because freeing one may wait for another.
  void End(const std::vector<Shared>& communicators, const absl::Status& reason,
           bool graceful);
  void Watch();
  // One look at everything.
  void Look();
  // Lets go of those that have ended, and takes note of the failures among them
  // that people may ask for.
  void RemoveLocked(const std::vector<Shared>& ended)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const CommunicatorDeps deps_;
  const CommunicatorOptions options_;

  mutable Mutex mutex_;
  CondVar changed_;
  absl::flat_hash_map<uint64_t, CollectiveMembers> declared_
      ABSL_GUARDED_BY(mutex_);
  // In the order of their making; what has ended until the next look.
  std::vector<Shared> communicators_ ABSL_GUARDED_BY(mutex_);
  std::deque<Failed> failed_ ABSL_GUARDED_BY(mutex_);  // oldest first
  std::set<std::pair<Rank, Incarnation>> retired_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool stuck_ ABSL_GUARDED_BY(mutex_) = false;
  // Last: uses the members above.
  std::thread watchdog_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_NCCL_COMMUNICATORS_H_
