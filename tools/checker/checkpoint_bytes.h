#ifndef SLUICE_TOOLS_CHECKER_CHECKPOINT_BYTES_H_
#define SLUICE_TOOLS_CHECKER_CHECKPOINT_BYTES_H_

// The bytes of a Hugging Face style checkpoint directory, read plainly. This
// shares no code with what it checks.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace sluice::checker {

// A tensor's bytes in a mapped file; 1-d tensors are matrices of one column.
struct Matrix {
  const std::byte* data = nullptr;
  int64_t rows = 0;
  int64_t columns = 1;
  int64_t element_bytes = 0;
};

// The numbers of config.json that shapes follow from.
struct ModelNumbers {
  int64_t layers = 0;
  int64_t query_heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  bool tied = false;
};

class CheckpointBytes {
 public:
  // Errors: NOT_FOUND - a file; INVALID_ARGUMENT - what cannot be read.
  static absl::StatusOr<CheckpointBytes> Open(const std::string& directory);

  const ModelNumbers& numbers() const { return numbers_; }
  // Returns the tensor, or nullptr if the checkpoint has none of that name.
  const Matrix* Find(const std::string& name) const;

 private:
  struct Mapping;

  ModelNumbers numbers_;
  std::map<std::string, Matrix> tensors_;
  std::vector<std::shared_ptr<Mapping>> mappings_;
};

}  // namespace sluice::checker

#endif  // SLUICE_TOOLS_CHECKER_CHECKPOINT_BYTES_H_
