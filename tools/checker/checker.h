#ifndef SLUICE_TOOLS_CHECKER_CHECKER_H_
#define SLUICE_TOOLS_CHECKER_CHECKER_H_

// Compares all bytes of an agent's parameters with what they must be.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/checker/checkpoint_bytes.h"
#include "tools/checker/expectation.h"

namespace sluice::checker {

// A local parameter as its agent describes it.
struct HeldParam {
  std::string name;
  std::vector<int64_t> shape;
  int64_t offset_bytes = 0;
};

// Compares every byte of `memory` that a parameter covers. `sign_flips` says
// how often the sign of each element was flipped since the checkpoint (the
// quickstart's exact update). Rows beyond the expected ones are padding and
// must be zero. Returns the number of bytes compared. Errors: DATA_LOSS - a
// parameter is missing, unexpected, of another shape or has a wrong byte:
// parameter, row, column, expected and found are named.
absl::StatusOr<int64_t> CheckMemory(const CheckpointBytes& checkpoint,
                                    const Expectation& expectation,
                                    const std::vector<HeldParam>& held,
                                    const std::byte* memory,
                                    int64_t memory_bytes, int sign_flips);

}  // namespace sluice::checker

#endif  // SLUICE_TOOLS_CHECKER_CHECKER_H_
