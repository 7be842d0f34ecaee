#include "agent/collective/stall_watch.h"

#include <utility>

namespace sluice::agent {

StallWatch::Verdict StallWatch::Look(absl::Time now, uint64_t moved,
                                     const std::function<Told()>& told) {
  if (std::exchange(moved_, moved) != moved) {
    moved_at_ = now;
    told_ = false;
    before_.reset();
    return Verdict::kGoOn;
  }
  const absl::Duration still = now - moved_at_;
  // Not at once: others may tell of the standstill before this one. Nor later:
  // they tell after half of the timeout, and do not begin to wait all at once.
  if (still >= timeout_ / 4 && !before_.has_value()) before_ = told();
  if (still >= timeout_) return Verdict::kOver;
  if (still < timeout_ / 2 || std::exchange(told_, true)) return Verdict::kGoOn;
  return Verdict::kTell;
}

std::vector<int> StallWatch::Silent(const Told& told, int self,
                                    std::vector<int> waited_for) const {
  std::vector<int> silent;
  if (!before_.has_value()) return waited_for;
  for (size_t m = 0; m < told.size() && m < before_->size(); ++m) {
    const int member = static_cast<int>(m);
    if (member != self && told[m] == (*before_)[m]) silent.push_back(member);
  }
  return silent.empty() ? waited_for : silent;
}

}  // namespace sluice::agent
