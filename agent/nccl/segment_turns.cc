#include "agent/nccl/segment_turns.h"

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// Between two looks at what may have broken.
constexpr absl::Duration kLook = absl::Milliseconds(20);

}  // namespace

absl::Status SegmentTurns::Admit(const SegmentTurn& turn) {
  MutexLock lock(mutex_);
  const absl::Status admitted = order_.Admit(turn.id(), turn.predecessor());
  changed_.SignalAll();
  return admitted;
}

absl::Status SegmentTurns::Await(const SegmentTurn& turn,
                                 absl::Duration patience,
                                 absl::FunctionRef<absl::Status()> broken) {
  absl::Time stalled_since = absl::InfiniteFuture();
  for (;;) {
    SLUICE_RETURN_IF_ERROR(broken());
    MutexLock lock(mutex_);
    if (!running_.has_value()) {
      running_ = order_.Start();
      if (running_.has_value()) changed_.SignalAll();
    }
    if (running_ == turn.id()) return absl::OkStatus();
    const auto stall = running_.has_value() ? std::nullopt : order_.Stalled();
    if (!stall.has_value()) {
      stalled_since = absl::InfiniteFuture();
    } else if (stalled_since == absl::InfiniteFuture()) {
      stalled_since = clock_.Now();
    } else if (clock_.Now() - stalled_since > patience) {
      return absl::DeadlineExceededError(
          absl::StrCat("segment ", stall->waiting, " waits for segment ",
                       stall->missing, ", which has not come"));
    }
    changed_.WaitFor(mutex_, kLook);
  }
}

void SegmentTurns::Leave(const SegmentTurn& turn) {
  MutexLock lock(mutex_);
  absl::Status left;
  if (running_ == turn.id()) {
    running_.reset();
    // Of an epoch that is over there is nothing to end.
    if (turn.epoch == order_.epoch()) left = order_.End(turn.id());
  } else if (turn.epoch == order_.epoch()) {
    left = order_.Void(turn.id(), turn.predecessor());
  }
  if (!left.ok()) LogError("order of segments", {{"status", left}});
  changed_.SignalAll();
}

void SegmentTurns::Void(const SegmentTurn& turn) {
  MutexLock lock(mutex_);
  if (running_ == turn.id() || turn.epoch != order_.epoch()) return;
  const absl::Status voided = order_.Void(turn.id(), turn.predecessor());
  if (!voided.ok()) LogError("order of segments", {{"status", voided}});
  changed_.SignalAll();
}

void SegmentTurns::Raise(Epoch epoch) {
  MutexLock lock(mutex_);
  order_.Raise(epoch);
  changed_.SignalAll();
}

}  // namespace sluice::agent
