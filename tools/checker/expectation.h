#ifndef SLUICE_TOOLS_CHECKER_EXPECTATION_H_
#define SLUICE_TOOLS_CHECKER_EXPECTATION_H_

// What every local parameter of one agent must hold, worked out by hand from
// the model's numbers for the two layouts the quickstart uses. Its geometry is
// its own: rows and columns of matrices, no boxes, no rules, no planner.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tools/checker/checkpoint_bytes.h"

namespace sluice::checker {

// Consecutive rows of a local parameter: rows [row_lo, row_hi) and columns
// [column_lo, column_hi) of a checkpoint tensor; or zeros (no tensor).
struct RowBlock {
  std::string tensor;
  int64_t row_lo = 0, row_hi = 0;
  int64_t column_lo = 0, column_hi = 0;
};

// A local parameter: its row blocks from the top.
using Expectation = std::map<std::string, std::vector<RowBlock>>;

// Where one agent stands.
struct Position {
  int64_t stage = 0, stages = 1;
  int64_t tensor = 0, tensors = 1;
};

// Layout of the trainer (presets/layouts/megatron.json).
Expectation ExpectMegatron(const CheckpointBytes& checkpoint,
                           const Position& at);
// Layout of the inference engine (presets/layouts/vllm.json).
Expectation ExpectVllm(const CheckpointBytes& checkpoint, const Position& at);

}  // namespace sluice::checker

#endif  // SLUICE_TOOLS_CHECKER_EXPECTATION_H_
