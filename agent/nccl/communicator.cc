#include "agent/nccl/communicator.h"

#include <cstddef>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// Waiting asks again at once, then ever more seldom: most collectives of
// buckets end within the first.
constexpr int kEagerRounds = 64;
constexpr int kQuickRounds = 1000;
constexpr absl::Duration kQuickPause = absl::Microseconds(50);
constexpr absl::Duration kPause = absl::Milliseconds(1);

// Whether what NCCL says may come of another member's end. That a call is not
// allowed does not.
bool IsSymptom(const absl::Status& error) {
  return absl::IsUnavailable(error) || absl::IsInternal(error);
}

// One group call: a sum that every member is in, which a group of one has, too,
// and then a byte of each kind to come. NCCL connects what a call needs when it
// is made first, which is slow and may hang.
NcclResult IssueWarmUp(Communicator::Use use, int members, int self,
                       const NcclApi& nccl, NcclComm comm, NcclStream& stream) {
  constexpr int kHalf = NcclStream::kScratchBytes / 2;
  auto* const from = static_cast<std::byte*>(stream.scratch());
  std::byte* const to = from + kHalf;
  const NcclDataType byte = NcclDataType::kUint8;
  NcclResult error = NcclResult::kSuccess;
  const auto note = [&error](NcclResult result) {
    if (result != NcclResult::kInProgress && error == NcclResult::kSuccess) {
      error = result;
    }
  };
  note(nccl.GroupStart());
  note(nccl.AllReduce(to, to, 1, NcclDataType::kInt32, NcclRedOp::kSum, comm,
                      stream.handle()));
  if (use == Communicator::Use::kMessages) {
    for (int m = 0; m < members; ++m) {
      if (m == self) continue;
      note(nccl.Send(from, 1, byte, m, comm, stream.handle()));
      note(nccl.Recv(to + m % kHalf, 1, byte, m, comm, stream.handle()));
    }
  } else if (members <= kHalf) {  // more find no room
    note(nccl.ReduceScatter(from, to, 1, byte, NcclRedOp::kSum, comm,
                            stream.handle()));
  }
  const NcclResult ended = nccl.GroupEnd();
  return error == NcclResult::kSuccess ? ended : error;
}

}  // namespace

Communicator::Communicator(CollectiveMembers members,
                           std::shared_ptr<const NcclLibrary> library,
                           NcclDevice& device, const Clock& clock,
                           absl::Duration reason_wait)
    : members_(std::move(members)),
      library_(std::move(library)),
      device_(device),
      clock_(clock),
      reason_wait_(reason_wait) {}

Communicator::Call::Call(Communicator& communicator)
    : communicator_(communicator) {
  MutexLock lock(communicator_.mutex_);
  if (communicator_.state_ >= State::kEnding) return;
  if (!communicator_.symptom_.ok()) return;
  begun_ = true;
  comm_ = communicator_.comm_;
  ++communicator_.calls_;
}

Communicator::Call::~Call() {
  if (!begun_) return;
  MutexLock lock(communicator_.mutex_);
  if (--communicator_.calls_ == 0) communicator_.changed_.SignalAll();
}

Communicator::State Communicator::state() const {
  MutexLock lock(mutex_);
  return state_;
}

absl::Status Communicator::status() const {
  MutexLock lock(mutex_);
  return reason_;
}

absl::Status Communicator::symptom() const {
  MutexLock lock(mutex_);
  return symptom_;
}

std::shared_ptr<GroupControl> Communicator::control() const {
  MutexLock lock(mutex_);
  return control_;
}

bool Communicator::SetControl(const std::shared_ptr<GroupControl>& control) {
  MutexLock lock(mutex_);
  if (state_ >= State::kEnding) return false;
  control_ = control;
  return true;
}

absl::Status Communicator::MakeStream() {
  const Call call(*this);
  if (!call.begun()) return AwaitReason();
  SLUICE_RETURN_IF_ERROR(device_.Use());
  SLUICE_ASSIGN_OR_RETURN(stream_, device_.NewStream());
  return absl::OkStatus();
}

absl::Status Communicator::Init(const NcclUniqueId& id, NcclConfig config,
                                absl::Time deadline) {
  absl::Status issued;
  {
    const Call call(*this);
    if (!call.begun()) return AwaitReason();
    SLUICE_RETURN_IF_ERROR(device_.Use());
    const MutexLock inside(inside_mutex_);
    const NcclResult result = library_->api().CommInitRankConfig(
        &made_, static_cast<int>(members_.peers.size()), id, members_.self,
        &config);
    {
      MutexLock lock(mutex_);
      comm_ = made_;
    }
    issued = library_->Check(result, "ncclCommInitRankConfig", made_);
  }
  if (!issued.ok()) return Diagnose(std::move(issued));
  return AwaitAccepted(deadline);
}

absl::Status Communicator::WarmUp(Use use, absl::Time deadline) {
  return Run(
      [&](const NcclApi& nccl, NcclComm comm, NcclStream& stream) {
        return IssueWarmUp(use, static_cast<int>(members_.peers.size()),
                           members_.self, nccl, comm, stream);
      },
      deadline);
}

absl::Status Communicator::Run(Issue issue, absl::Time deadline) {
  absl::Status issued;
  {
    const Call call(*this);
    if (!call.begun()) return AwaitReason();
    SLUICE_RETURN_IF_ERROR(device_.Use());
    const MutexLock inside(inside_mutex_);
    issued = library_->Check(issue(library_->api(), call.comm(), *stream_),
                             "NCCL group call", call.comm());
  }
  if (!issued.ok()) return Diagnose(std::move(issued));
  // Only then is everything on the stream.
  SLUICE_RETURN_IF_ERROR(AwaitAccepted(deadline));
  {
    const Call call(*this);
    if (!call.begun()) return AwaitReason();
    SLUICE_RETURN_IF_ERROR(stream_->Record());
  }
  absl::Status failure;
  SLUICE_RETURN_IF_ERROR(Await(
      [&] {
        const Call call(*this);
        if (!call.begun()) return false;
        const absl::StatusOr<bool> reached = stream_->Reached();
        if (!reached.ok()) failure = reached.status();
        return !reached.ok() || *reached;
      },
      deadline, "data"));
  return failure;
}

absl::Status Communicator::Diagnose(absl::Status error) {
  if (!IsSymptom(error)) return error;
  absl::Time reason_by;
  {
    MutexLock lock(mutex_);
    if (state_ >= State::kEnding) return reason_;
    symptom_met_ = true;
    reason_by = NoteSymptomLocked(error);
  }
  SLUICE_RETURN_IF_ERROR(Await([&] { return clock_.Now() >= reason_by; },
                               absl::InfiniteFuture(), "a reason"));
  return error;
}

absl::Time Communicator::NoteSymptomLocked(const absl::Status& error) {
  if (symptom_.ok()) {
    symptom_ = error;
    reason_by_ = clock_.Now() + reason_wait_;
    changed_.SignalAll();
  }
  return reason_by_;
}

absl::Status Communicator::AwaitReason() {
  return Await([] { return false; }, absl::InfiniteFuture(), "a reason");
}

absl::Status Communicator::AwaitAccepted(absl::Time deadline) {
  absl::Status failure;
  SLUICE_RETURN_IF_ERROR(Await(
      [&] {
        const Call call(*this);
        if (!call.begun()) return false;
        const std::optional<NcclResult> result = Ask(call.comm());
        if (!result.has_value()) return false;
        failure = library_->Check(*result, "NCCL", call.comm());
        return result != NcclResult::kInProgress;
      },
      deadline, "NCCL to accept calls"));
  return failure.ok() ? failure : Diagnose(std::move(failure));
}

std::optional<NcclResult> Communicator::Ask(NcclComm comm) {
  if (!inside_mutex_.TryLock()) return std::nullopt;
  NcclResult result = NcclResult::kSuccess;
  const NcclResult asked = library_->api().CommGetAsyncError(comm, &result);
  inside_mutex_.Unlock();
  return asked != NcclResult::kSuccess ? asked : result;
}

absl::Status Communicator::Await(absl::FunctionRef<bool()> ready,
                                 absl::Time deadline, absl::string_view what) {
  for (int round = 0;; ++round) {
    bool ends_soon = false;
    {
      MutexLock lock(mutex_);
      if (state_ >= State::kEnding) return reason_;
      ends_soon = !symptom_.ok();
    }
    if (ready()) return absl::OkStatus();
    if (!ends_soon && clock_.Now() > deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("waited too long for ", what));
    }
    if (round < kEagerRounds) {
      std::this_thread::yield();
      continue;
    }
    MutexLock lock(mutex_);
    if (state_ >= State::kEnding) return reason_;
    changed_.WaitFor(mutex_, round < kQuickRounds ? kQuickPause : kPause);
  }
}

void Communicator::Wake() {
  MutexLock lock(mutex_);
  changed_.SignalAll();
}

void Communicator::AwaitEnded() {
  MutexLock lock(mutex_);
  while (state_ != State::kEnded) changed_.Wait(mutex_);
}

bool Communicator::SetReady() {
  MutexLock lock(mutex_);
  if (state_ != State::kConnecting) return false;
  state_ = State::kReady;
  changed_.SignalAll();
  return true;
}

absl::Status Communicator::Poll() {
  {
    MutexLock lock(mutex_);
    if (!symptom_.ok()) {
      const bool due = !symptom_met_ && clock_.Now() >= reason_by_;
      return due ? symptom_ : absl::OkStatus();
    }
  }
  const Call call(*this);
  if (!call.begun() || call.comm() == nullptr) return absl::OkStatus();
  const std::optional<NcclResult> result = Ask(call.comm());
  if (!result.has_value()) return absl::OkStatus();
  absl::Status error = library_->Check(*result, "NCCL", call.comm());
  if (!IsSymptom(error)) return error;
  MutexLock lock(mutex_);
  NoteSymptomLocked(error);
  return absl::OkStatus();
}

bool Communicator::Claim() {
  MutexLock lock(mutex_);
  return !std::exchange(claimed_, true);
}

bool Communicator::Mark(const absl::Status& reason, absl::Duration allowed) {
  MutexLock lock(mutex_);
  if (state_ >= State::kEnding) return false;
  state_ = State::kEnding;
  reason_ = Annotate(reason, absl::StrCat("group ", members_.name));
  end_by_ = clock_.Now() + allowed;
  changed_.SignalAll();
  return true;
}

bool Communicator::Overdue() const {
  MutexLock lock(mutex_);
  return state_ == State::kEnding && clock_.Now() > end_by_;
}

NcclComm Communicator::AwaitCalls(absl::Duration grace) {
  MutexLock lock(mutex_);
  const absl::Time limit = clock_.Now() + grace;
  while (calls_ > 0 && (comm_ == nullptr || clock_.Now() < limit)) {
    changed_.WaitFor(mutex_, kPause);
  }
  return comm_;
}

void Communicator::Close(bool graceful, absl::Duration grace,
                         absl::Duration finalize_timeout) {
  // Of a device that failed there is nothing to keep.
  (void)device_.Use();
  const NcclComm comm = AwaitCalls(grace);
  if (comm != nullptr) {
    const auto destroyed = [&] {
      // A call that its grace did not suffice for is still inside.
      if (!inside_mutex_.TryLock()) return false;
      const bool finalized = Finalized(comm, finalize_timeout);
      if (finalized) library_->api().CommDestroy(comm);
      inside_mutex_.Unlock();
      return finalized;
    };
    // Results do not matter any more: the handle is gone either way.
    if (!graceful || !destroyed()) library_->api().CommAbort(comm);
  }
  std::shared_ptr<GroupControl> control;
  {
    MutexLock lock(mutex_);
    while (calls_ > 0) changed_.Wait(mutex_);
    comm_ = nullptr;
    control = std::move(control_);
  }
  stream_.reset();
  if (control != nullptr) control->Leave();
  control.reset();
  MutexLock lock(mutex_);
  state_ = State::kEnded;
  changed_.SignalAll();
}

bool Communicator::Finalized(NcclComm comm, absl::Duration timeout) {
  const NcclApi& nccl = library_->api();
  NcclResult result = nccl.CommFinalize(comm);
  const absl::Time limit = clock_.Now() + timeout;
  while (result == NcclResult::kInProgress && clock_.Now() < limit) {
    if (nccl.CommGetAsyncError(comm, &result) != NcclResult::kSuccess) {
      return false;
    }
    std::this_thread::sleep_for(absl::ToChronoMicroseconds(kPause));
  }
  return result == NcclResult::kSuccess;
}

}  // namespace sluice::agent
