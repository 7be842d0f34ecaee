#include "agent/nccl/segment_order.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace sluice::agent {
namespace {

std::string Name(Predecessor predecessor) {
  return predecessor.has_value() ? absl::StrCat("segment ", *predecessor)
                                 : "the start of the epoch";
}

}  // namespace

std::ostream& operator<<(std::ostream& os, const SegmentId& id) {
  return os << "(" << id.epoch << ", " << id.number << ")";
}

absl::Status SegmentOrder::Insert(const SegmentId& id, Predecessor predecessor,
                                  bool is_void) {
  if (id.epoch < epoch_) {
    return absl::AbortedError(absl::StrCat("segment ", id.number,
                                           " is of epoch ", id.epoch.value(),
                                           ", it is now ", epoch_.value()));
  }
  if (id.epoch > epoch_ || id.number == 0 ||
      (predecessor.has_value() && *predecessor >= id.number)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "segment ", id.number, " of epoch ", id.epoch.value(), " after ",
        Name(predecessor), " cannot be in epoch ", epoch_.value()));
  }
  // Numbers grow along an agent's segments: these are over, or run.
  if (ended_.has_value() && id.number <= *ended_) return absl::OkStatus();
  if (running_ == id.number) return absl::OkStatus();
  const bool followed =
      predecessor < ended_ || (running_.has_value() && predecessor == ended_);
  if (followed) {
    return absl::FailedPreconditionError(
        absl::StrCat("segment ", id.number, " follows ", Name(predecessor),
                     ", which another one has followed here"));
  }
  Next& next =
      waiting_.try_emplace(predecessor, Next{id.number, is_void}).first->second;
  if (next.number != id.number) {
    return absl::FailedPreconditionError(
        absl::StrCat("segment ", id.number, " follows ", Name(predecessor),
                     ", which segment ", next.number, " follows here"));
  }
  if (is_void) next.is_void = true;
  return absl::OkStatus();
}

absl::Status SegmentOrder::Admit(const SegmentId& id, Predecessor predecessor) {
  return Insert(id, predecessor, /*is_void=*/false);
}

absl::Status SegmentOrder::Void(const SegmentId& id, Predecessor predecessor) {
  return Insert(id, predecessor, /*is_void=*/true);
}

std::optional<SegmentId> SegmentOrder::Start() {
  while (!running_.has_value()) {
    const auto next = waiting_.find(ended_);
    if (next == waiting_.end()) return std::nullopt;
    const Next segment = next->second;
    waiting_.erase(next);
    if (segment.is_void) {
      ended_ = segment.number;
    } else {
      running_ = segment.number;
      return SegmentId{epoch_, segment.number};
    }
  }
  return std::nullopt;
}

absl::Status SegmentOrder::End(const SegmentId& id) {
  if (id.epoch != epoch_ || running_ != id.number) {
    return absl::FailedPreconditionError(
        absl::StrCat("segment ", id.number, " of epoch ", id.epoch.value(),
                     " does not run"));
  }
  ended_ = *running_;
  running_.reset();
  return absl::OkStatus();
}

std::optional<SegmentId> SegmentOrder::Raise(Epoch epoch) {
  if (epoch <= epoch_) return std::nullopt;
  std::optional<SegmentId> ran;
  if (running_.has_value()) ran = SegmentId{epoch_, *running_};
  *this = SegmentOrder(epoch);
  return ran;
}

std::optional<SegmentOrder::Stall> SegmentOrder::Stalled() const {
  if (running_.has_value() || waiting_.empty()) return std::nullopt;
  // The lowest predecessor: its successor is the oldest one that waits.
  const auto& [predecessor, next] = *waiting_.begin();
  if (predecessor == ended_) return std::nullopt;
  return Stall{.missing = *predecessor, .waiting = next.number};
}

}  // namespace sluice::agent
