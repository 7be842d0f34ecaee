#include "agent/nccl/host_group_controls.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/collective/call_header.h"
#include "agent/device/mapped_memory.h"
#include "common/dtype.h"
#include "common/mutex.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// Who waits for members, and how long, is the communicator's matter: it asks
// who is missing, and fails the group.
constexpr absl::Duration kPatience = absl::Hours(24);

// What is given, behind its size: cards of those who join, headers of calls.
constexpr int64_t kLeastSlotBytes = 1024;

int64_t SlotBytes(int members) {
  const int64_t wanted = int64_t{sizeof(uint64_t)} + CallHeaderBytes(members);
  return (std::max(kLeastSlotBytes, wanted) + 63) / 64 * 64;
}

// One exchange at a time is a call of the group; the others wait here.
class HostGroupControl final : public GroupControl {
 public:
  HostGroupControl(int members, std::shared_ptr<MappedMemory> memory,
                   GroupControls::OnFailed on_failed)
      : members_(members),
        slot_bytes_(SlotBytes(members)),
        memory_(std::move(memory)),
        on_failed_(std::move(on_failed)) {}

  ~HostGroupControl() override { Leave(); }

  // Before anything else.
  void SetGroup(std::unique_ptr<CollectiveGroup> group) {
    MutexLock lock(mutex_);
    group_ = std::move(group);
  }

  // Own slot, then those of all members.
  static int64_t MemoryBytes(int members) {
    return (members + 1) * SlotBytes(members);
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

  std::byte* Slot(int index) const {
    return memory_->data() + index * slot_bytes_;
  }

  // Starts the first one that waits.
  void Begin() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const std::string& own = waiting_.front().own;
    const uint64_t bytes = own.size();
    if (bytes > static_cast<uint64_t>(slot_bytes_) - sizeof bytes) {
      group_->Abort(
          absl::InvalidArgumentError(absl::StrCat(
              "what members tell each other: expected at most ",
              slot_bytes_ - int64_t{sizeof bytes}, " bytes, found ", bytes)),
          [] {});
    } else {
      std::memcpy(Slot(0), &bytes, sizeof bytes);
      std::memcpy(Slot(0) + sizeof bytes, own.data(), own.size());
    }
    CollectiveCall call;
    call.kind = CollectiveKind::kAllGather;
    call.dtype = DType::kU8;
    call.description = "members of a group of GPUs meet";
    call.inputs = {{memory_, 0, slot_bytes_}};
    for (int m = 0; m < members_; ++m) {
      call.outputs.push_back({memory_, (m + 1) * slot_bytes_, slot_bytes_});
    }
    // The group ends before this object: Leave.
    group_->Run(std::move(call),
                [this](absl::Status status) { End(std::move(status)); });
  }

  void End(absl::Status status) {
    absl::StatusOr<std::vector<std::string>> result =
        std::vector<std::string>();
    if (status.ok()) {
      result = ReadSlots();
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

  absl::StatusOr<std::vector<std::string>> ReadSlots() const {
    std::vector<std::string> all;
    for (int m = 0; m < members_; ++m) {
      uint64_t bytes = 0;
      std::memcpy(&bytes, Slot(m + 1), sizeof bytes);
      if (bytes > static_cast<uint64_t>(slot_bytes_) - sizeof bytes) {
        return absl::InternalError(absl::StrCat("member ", m, " gave ", bytes,
                                                " bytes, more than ",
                                                slot_bytes_, " at most"));
      }
      all.emplace_back(
          reinterpret_cast<const char*>(Slot(m + 1)) + sizeof bytes, bytes);
    }
    return all;
  }

  const int members_;
  const int64_t slot_bytes_;
  const std::shared_ptr<MappedMemory> memory_;

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
  const int count = static_cast<int>(members.peers.size());
  SLUICE_ASSIGN_OR_RETURN(
      std::shared_ptr<MappedMemory> memory,
      device_.Allocate(HostGroupControl::MemoryBytes(count),
                       absl::StrCat("control of ", members.name)));
  auto control = std::make_shared<HostGroupControl>(count, std::move(memory),
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
