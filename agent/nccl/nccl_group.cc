#include "agent/nccl/nccl_group.h"

#include <algorithm>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/collective/call_header.h"
#include "agent/nccl/group_call.h"
#include "common/mutex.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// Calls whose headers are on their way while the first one's data moves.
constexpr size_t kAhead = 8;

// What came of an exchange, which outlives who waits for it.
struct Headers {
  Mutex mutex;
  std::optional<absl::StatusOr<std::vector<std::string>>> result
      ABSL_GUARDED_BY(mutex);

  bool Came() {
    MutexLock lock(mutex);
    return result.has_value();
  }
  absl::StatusOr<std::vector<std::string>> Take() {
    MutexLock lock(mutex);
    return *std::move(result);
  }
};

struct Pending {
  CollectiveCall call;
  CollectiveGroup::Done done;
  uint64_t ordinal = 0;
  absl::Status checked;
  std::shared_ptr<Headers> headers;  // null: not sent yet
};

class NcclGroup final : public CollectiveGroup {
 public:
  NcclGroup(Communicators& communicators, const Clock& clock,
            std::shared_ptr<Communicator> communicator,
            NcclGroupOptions options)
      : communicators_(communicators),
        clock_(clock),
        communicator_(std::move(communicator)),
        members_(communicator_->members()),
        options_(options),
        thread_([this] { Work(); }) {}

  ~NcclGroup() override {
    Abort(absl::CancelledError("the group was closed"), [] {});
    {
      MutexLock lock(mutex_);
      stopping_ = true;
      changed_.SignalAll();
    }
    thread_.join();
    communicators_.Withdraw(communicator_);
  }

  void Run(CollectiveCall call, Done done) override {
    auto pending = std::make_shared<Pending>();
    pending->checked =
        CheckCall(call, static_cast<int>(members_.peers.size()), members_.self);
    pending->call = std::move(call);
    pending->done = std::move(done);
    MutexLock lock(mutex_);
    pending->ordinal = next_ordinal_++;
    queue_.push_back(std::move(pending));
    changed_.SignalAll();
  }

  void Abort(absl::Status reason,
             absl::AnyInvocable<void() &&> ended) override {
    communicators_.Abort(communicator_, reason);
    MutexLock lock(mutex_);
    aborts_.push_back(std::move(ended));
    changed_.SignalAll();
  }

 private:
  void Work() {
    // Why everything fails; OK as long as it does not.
    absl::Status failure =
        communicators_.Connect(communicator_, options_.connect_timeout);
    while (AwaitWork()) {
      const std::shared_ptr<Pending> pending = First();
      if (pending != nullptr && failure.ok()) {
        const absl::Status carried = Carry(*pending);
        if (!carried.ok()) failure = End(carried);
        Finish(carried.ok() ? carried : failure);
        continue;
      }
      if (failure.ok()) failure = End(absl::OkStatus());
      while (First() != nullptr) Finish(failure);
      for (auto& ended : TakeAborts()) std::move(ended)();
    }
  }

  // Waits for calls or aborts; false when there are none left and the group
  // closes.
  bool AwaitWork() {
    MutexLock lock(mutex_);
    while (queue_.empty() && aborts_.empty() && !stopping_) {
      changed_.Wait(mutex_);
    }
    return !queue_.empty() || !aborts_.empty();
  }

  std::shared_ptr<Pending> First() {
    MutexLock lock(mutex_);
    return queue_.empty() ? nullptr : queue_.front();
  }

  void Finish(const absl::Status& status) {
    std::shared_ptr<Pending> pending;
    {
      MutexLock lock(mutex_);
      pending = std::move(queue_.front());
      queue_.pop_front();
    }
    // The memory goes first: the caller may wait for that.
    pending->call = {};
    std::move(pending->done)(status);
  }

  std::vector<absl::AnyInvocable<void() &&>> TakeAborts() {
    MutexLock lock(mutex_);
    return std::exchange(aborts_, {});
  }

  // Ends the group on all members; returns why it ended, which is `reason` only
  // if nothing came before it. No memory is touched after that.
  absl::Status End(const absl::Status& reason) {
    if (!reason.ok()) communicators_.Abort(communicator_, reason);
    communicator_->AwaitEnded();
    return communicator_->status();
  }

  // 1. Headers of this call and of some after it go to all members.
  // 2. When all have come, they are compared.
  // 3. NCCL moves the data.
  absl::Status Carry(const Pending& pending) {
    const absl::Time deadline = clock_.Now() + options_.call_timeout;
    SLUICE_RETURN_IF_ERROR(SendHeaders());
    SLUICE_ASSIGN_OR_RETURN(const std::vector<std::string> sent,
                            AwaitHeaders(pending, deadline));
    std::vector<CallHeaderView> headers;  // of what was sent
    for (const std::string& bytes : sent) {
      SLUICE_ASSIGN_OR_RETURN(headers.emplace_back(),
                              DecodeCallHeader(bytes, num_members()));
    }
    SLUICE_RETURN_IF_ERROR(CompareCallHeaders(members_, headers));
    const bool even = EvenPieces(headers);
    absl::Status held;
    absl::Status moved = communicator_->Run(
        [&](const NcclApi& nccl, NcclComm comm, NcclStream& stream) {
          if (pending.call.after != nullptr) {
            held = stream.HoldBack(pending.call.after.get());
            if (!held.ok()) return NcclResult::kUnhandledCudaError;
          }
          return IssueGroupCall(pending.call, num_members(), members_.self,
                                even, nccl, comm, stream);
        },
        deadline);
    if (!held.ok()) moved = held;
    return Annotate(moved, CallText(*headers[members_.self].header));
  }

  absl::Status SendHeaders() {
    const std::shared_ptr<GroupControl> control = communicator_->control();
    if (control == nullptr) return communicator_->status();
    std::vector<std::shared_ptr<Pending>> next;
    {
      MutexLock lock(mutex_);
      next.assign(queue_.begin(),
                  queue_.begin() + std::min(queue_.size(), kAhead));
    }
    for (const std::shared_ptr<Pending>& pending : next) {
      if (pending->headers != nullptr) continue;
      // Others would wait for it: nobody gets further than the call before.
      if (!pending->checked.ok()) {
        return pending == next.front() ? pending->checked : absl::OkStatus();
      }
      pending->headers = std::make_shared<Headers>();
      control->Exchange(
          EncodeCallHeader(pending->call, pending->ordinal, num_members()),
          [headers = pending->headers, communicator = communicator_](
              absl::StatusOr<std::vector<std::string>> result) {
            {
              MutexLock lock(headers->mutex);
              headers->result = std::move(result);
            }
            communicator->Wake();
          });
    }
    return absl::OkStatus();
  }

  int num_members() const { return static_cast<int>(members_.peers.size()); }

  absl::StatusOr<std::vector<std::string>> AwaitHeaders(const Pending& pending,
                                                        absl::Time deadline) {
    const absl::Status waited = communicator_->Await(
        [&] { return pending.headers->Came(); }, deadline, "members");
    if (absl::IsDeadlineExceeded(waited)) {
      return Annotate(waited, absl::StrCat("call ", pending.ordinal,
                                           ", did not come: ", MissingNames()));
    }
    SLUICE_RETURN_IF_ERROR(waited);
    return pending.headers->Take();
  }

  std::string MissingNames() const {
    const std::shared_ptr<GroupControl> control = communicator_->control();
    if (control == nullptr) return "";
    std::vector<std::string> names;
    for (const int member : control->Missing()) {
      names.push_back(MemberName(members_, member));
    }
    return absl::StrJoin(names, ", ");
  }

  Communicators& communicators_;
  const Clock& clock_;
  const std::shared_ptr<Communicator> communicator_;
  const CollectiveMembers members_;
  const NcclGroupOptions options_;

  Mutex mutex_;
  CondVar changed_;
  std::deque<std::shared_ptr<Pending>> queue_ ABSL_GUARDED_BY(mutex_);
  std::vector<absl::AnyInvocable<void() &&>> aborts_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_ordinal_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  // Last: uses the members above.
  std::thread thread_;
};

}  // namespace

absl::Status NcclGroupOptions::Validate() const {
  for (const absl::Duration timeout : {connect_timeout, call_timeout}) {
    if (timeout > absl::ZeroDuration()) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "expected timeouts above 0, found ", absl::FormatDuration(timeout)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<CollectiveGroup>> MakeNcclGroup(
    Communicators& communicators, const Clock& clock,
    const CollectiveMembers& members, NcclGroupOptions options) {
  SLUICE_RETURN_IF_ERROR(options.Validate());
  SLUICE_ASSIGN_OR_RETURN(auto communicator, communicators.Find(members.Id()));
  return std::make_unique<NcclGroup>(communicators, clock,
                                     std::move(communicator), options);
}

}  // namespace sluice::agent
