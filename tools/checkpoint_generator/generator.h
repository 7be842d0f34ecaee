#ifndef SLUICE_TOOLS_CHECKPOINT_GENERATOR_GENERATOR_H_
#define SLUICE_TOOLS_CHECKPOINT_GENERATOR_GENERATOR_H_

// Writes a checkpoint of the Qwen2 family's names and shapes with random
// values: something real enough to load where no real one is at hand.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/dtype.h"
#include "common/model.h"

namespace sluice {

// The defaults are Qwen2.5-1.5B cut to 8 layers.
struct GeneratorOptions {
  uint64_t seed = 1;
  int64_t layers = 8;
  int64_t hidden = 1536;
  int64_t heads = 12;
  int64_t kv_heads = 2;
  int64_t head_dim = 128;
  int64_t intermediate = 8960;
  int64_t vocab = 151936;
  bool tied = true;    // no lm_head.weight
  bool biases = true;  // on q, k and v
  DType dtype = DType::kBF16;
  int64_t files = 2;

  // Errors: INVALID_ARGUMENT - a number out of range, more KV heads than query
  // heads, a dtype without values, a size that overflows.
  absl::Status Validate() const;
};

// Returns the tensors in the order of the files. `options` is valid.
std::vector<TensorSpec> GeneratedTensors(const GeneratorOptions& options);

// Called on any thread, one call at a time.
using GeneratorProgress =
    std::function<void(int64_t done_bytes, int64_t total_bytes)>;

// Writes the checkpoint to `directory`, which appears whole or not at all, and
// returns true; returns false at once if it is there already, made with the
// same options. Two calls for one directory, in any processes, wait for each
// other.
// Errors: INVALID_ARGUMENT - see Validate; ALREADY_EXISTS - the directory has
// other contents, or was made with other options (says which; `replace` removes
// only the latter); RESOURCE_EXHAUSTED - not enough room on the disk (needed
// and free bytes); others as the system says.
absl::StatusOr<bool> GenerateCheckpoint(const GeneratorOptions& options,
                                        const std::string& directory,
                                        bool replace = false,
                                        const GeneratorProgress& progress = {});

}  // namespace sluice

#endif  // SLUICE_TOOLS_CHECKPOINT_GENERATOR_GENERATOR_H_
