#include "agent/nccl/host_group_controls.h"

#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/nccl/member_slots.h"
#include "common/mutex.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// Who waits for members, and how long, is the communicator's matter: it asks
// who is missing, and fails the group.
constexpr absl::Duration kPatience = absl::Hours(24);

// One exchange at a time is a call of the group; the others wait here.
class HostGroupControl final : public GroupControl {
 public:
  HostGroupControl(MemberSlots slots, GroupControls::OnFailed on_failed)
      : slots_(std::move(slots)), on_failed_(std::move(on_failed)) {}

  ~HostGroupControl() override { Leave(); }

  // Before anything else.
  void SetGroup(std::unique_ptr<CollectiveGroup> group) {
    MutexLock lock(mutex_);
    group_ = std::move(group);
  }

  void Leave() override {
    std::unique_ptr<CollectiveGroup> group;
    {
      MutexLock lock(mutex_);
      left_ = true;
      on_failed_ = nullptr;
      waiting_.clear();
      group = std::move(group_);
    }
    group.reset();  // the callbacks that run end first
  }

  void Exchange(std::string own, Done done) override {
    MutexLock lock(mutex_);
    if (left_) return;
    waiting_.push_back({std::move(own), std::move(done)});
    if (waiting_.size() == 1) Begin();
  }

  std::vector<int> Missing() const override {
    MutexLock lock(mutex_);
    return missing_;
  }

  void Fail(const absl::Status& reason) override {
    MutexLock lock(mutex_);
    if (group_ != nullptr) group_->Abort(reason, [] {});
  }

  // --- By the group's thread.
  void NoteMissing(const std::vector<int>& missing) {
    MutexLock lock(mutex_);
    missing_ = missing;
  }

  void NoteEnd(const absl::Status& reason) {
    GroupControls::OnFailed on_failed;
    {
      MutexLock lock(mutex_);
      on_failed = std::exchange(on_failed_, nullptr);
    }
    if (on_failed) std::move(on_failed)(reason);
  }

 private:
  struct Waiting {
    std::string own;
    Done done;
  };

  // Starts the first one that waits.
  void Begin() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const absl::Status written = slots_.Write(waiting_.front().own);
    if (!written.ok()) group_->Abort(written, [] {});
    // The group ends before this object: Leave.
    group_->Run(slots_.Call(),
                [this](absl::Status status) { End(std::move(status)); });
  }

  void End(absl::Status status) {
    absl::StatusOr<std::vector<std::string>> result =
        std::vector<std::string>();
    if (status.ok()) {
      result = slots_.Read();
    } else {
      result = status;
    }
    Done done;
    {
      MutexLock lock(mutex_);
      if (left_) return;
      if (status.ok()) missing_.clear();
      done = std::move(waiting_.front().done);
      waiting_.pop_front();
      if (!waiting_.empty()) Begin();
    }
    std::move(done)(std::move(result));
  }

  const MemberSlots slots_;

  mutable Mutex mutex_;
  GroupControls::OnFailed on_failed_ ABSL_GUARDED_BY(mutex_);
  bool left_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<Waiting> waiting_ ABSL_GUARDED_BY(mutex_);
  std::vector<int> missing_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<CollectiveGroup> group_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<std::shared_ptr<GroupControl>> HostGroupControls::Join(
    const CollectiveMembers& members, OnFailed on_failed) {
  SLUICE_ASSIGN_OR_RETURN(MemberSlots slots,
                          MemberSlots::Create(device_, members));
  auto control = std::make_shared<HostGroupControl>(std::move(slots),
                                                    std::move(on_failed));
  HostGroupOptions options;
  options.meet_timeout = kPatience;
  options.progress_timeout = kPatience;
  // Of the group, which the control outlives.
  options.watch.ended = [raw = control.get()](const absl::Status& reason) {
    raw->NoteEnd(reason);
  };
  options.watch.waiting = [raw = control.get()](const std::vector<int>& who) {
    raw->NoteMissing(who);
  };
  SLUICE_ASSIGN_OR_RETURN(auto group, make_group_(members, std::move(options)));
  control->SetGroup(std::move(group));
  return control;
}

}  // namespace sluice::agent
