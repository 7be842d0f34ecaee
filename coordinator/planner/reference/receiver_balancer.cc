#include "coordinator/planner/reference/receiver_balancer.h"

#include <algorithm>
#include <utility>

namespace sluice::coordinator::reference {

ReceiverBalancer::Choice ReceiverBalancer::Choose(
    int32_t block, int32_t start, bool only_if_collides,
    absl::FunctionRef<bool(int32_t)> collides) {
  Block& b = blocks_[static_cast<size_t>(block)];
  if (b.candidates.empty()) {
    b.candidates.resize(static_cast<size_t>(num_candidates_));
    for (int32_t turn = 0; turn < num_candidates_; ++turn) {
      b.candidates[static_cast<size_t>((start + turn) % num_candidates_)].turn =
          turn;
    }
    b.next_turn = num_candidates_;
  }
  const auto candidate = [&b](int32_t c) -> Candidate& {
    return b.candidates[static_cast<size_t>(c)];
  };
  const auto before = [&](int32_t x, int32_t y) {
    return std::make_pair(candidate(x).uses, candidate(x).turn) <
           std::make_pair(candidate(y).uses, candidate(y).turn);
  };
  std::vector<int32_t> colliding;
  int32_t best = -1;
  for (int32_t c = 0; c < num_candidates_; ++c) {
    if (collides(c)) {
      colliding.push_back(c);
    } else if (best < 0 || before(c, best)) {
      best = c;
    }
  }
  std::sort(colliding.begin(), colliding.end(), before);
  for (const int32_t c : colliding) candidate(c).turn = b.next_turn++;
  if (only_if_collides && colliding.empty()) return {Outcome::kDeferred, 0};
  if (best < 0) return {Outcome::kInfeasible, 0};
  ++candidate(best).uses;
  return {Outcome::kChosen, best};
}

}  // namespace sluice::coordinator::reference
