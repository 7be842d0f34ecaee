#include "agent/nccl/segment_order.h"

#include <algorithm>

namespace sluice::agent {

void SegmentOrder::Enter(OperationId operation) { lanes_[operation] = {}; }

uint64_t SegmentOrder::Propose(OperationId operation, bool may_move) {
  lanes_.at(operation) = {may_move ? State::kProposed : State::kIdle, count_};
  return count_;
}

void SegmentOrder::Agree(OperationId operation, uint64_t count, bool moves) {
  // Also where it does not run: what is proposed from now on comes after it.
  count_ = std::max(count_, count);
  lanes_.at(operation) = {moves ? State::kAgreed : State::kIdle, count};
}

bool SegmentOrder::Start(OperationId operation) {
  Lane& mine = lanes_.at(operation);
  if (mine.state != State::kAgreed) return mine.state == State::kRunning;
  const SegmentNumber number{mine.count, operation};
  for (const auto& [id, other] : lanes_) {
    switch (other.state) {
      case State::kIdle:
        break;
      case State::kProposed:
        // The least number that it may come to have.
        if (SegmentNumber{other.count + 1, id} < number) return false;
        break;
      case State::kAgreed:
        if (SegmentNumber{other.count, id} < number) return false;
        break;
      case State::kRunning:
        return false;
    }
  }
  mine.state = State::kRunning;
  return true;
}

void SegmentOrder::End(OperationId operation) {
  lanes_.at(operation).state = State::kIdle;
}

void SegmentOrder::Leave(OperationId operation) { lanes_.erase(operation); }

}  // namespace sluice::agent
