#ifndef SLUICE_COORDINATOR_PLANNER_REFERENCE_RECEIVER_BALANCER_H_
#define SLUICE_COORDINATOR_PLANNER_REFERENCE_RECEIVER_BALANCER_H_

// Chooses which of a few equivalent receivers a source sends to: the one used
// least so far, in turns, and never one on the source's own GPU.

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"

namespace sluice::coordinator::reference {

class ReceiverBalancer {
 public:
  enum class Outcome {
    kChosen,
    kDeferred,    // only where asked to: nothing collides, so it may wait
    kInfeasible,  // every candidate collides
  };
  struct Choice {
    Outcome outcome = Outcome::kChosen;
    int32_t candidate = 0;
  };

  ReceiverBalancer(int32_t num_blocks, int32_t candidates_per_block)
      : num_candidates_(candidates_per_block),
        blocks_(static_cast<size_t>(num_blocks)) {}

  // Chooses for one source from a block's candidates [0, n). The first call for
  // a block says at which of them its turns start. A candidate that collides
  // goes behind those used as often. With `only_if_collides`, a source without
  // collision is left for later.
  Choice Choose(int32_t block, int32_t start, bool only_if_collides,
                absl::FunctionRef<bool(int32_t)> collides);

 private:
  struct Candidate {
    int32_t uses = 0;
    int32_t turn = 0;
  };
  struct Block {
    std::vector<Candidate> candidates;
    int32_t next_turn = 0;
  };

  const int32_t num_candidates_;
  std::vector<Block> blocks_;
};

}  // namespace sluice::coordinator::reference

#endif  // SLUICE_COORDINATOR_PLANNER_REFERENCE_RECEIVER_BALANCER_H_
