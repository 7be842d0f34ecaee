#ifndef SLUICE_AGENT_CHECKPOINT_SAFETENSORS_WRITER_H_
#define SLUICE_AGENT_CHECKPOINT_SAFETENSORS_WRITER_H_

// Writes one safetensors file whose tensors are known in advance, their bytes
// in any order.

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/model.h"

namespace sluice::agent {

// Thread rule: Write() may be called by several threads for disjoint ranges;
// Finish() after all of them.
class SafetensorsWriter {
 public:
  // Creates the file with its header and reserves its space. `tensors` lie in
  // it in this order.
  // Errors: INVALID_ARGUMENT - sizes overflow, a name is given twice or empty;
  // ALREADY_EXISTS - the file exists; others as the system says (no space).
  static absl::StatusOr<std::unique_ptr<SafetensorsWriter>> Create(
      const std::string& path, std::vector<TensorSpec> tensors,
      const std::map<std::string, std::string>& metadata = {});

  // Removes the file unless it was finished.
  ~SafetensorsWriter();
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  // Writes bytes of tensors[index], from byte `offset` of it.
  // Errors: OUT_OF_RANGE - beyond the tensor; others as the system says.
  absl::Status Write(size_t index, int64_t offset,
                     absl::Span<const uint8_t> bytes);

  // Closes the file. What was written is in the page cache, not forced to disk.
  // Errors: FAILED_PRECONDITION - as many bytes as the tensors have were not
  // written; others as the system says.
  absl::Status Finish();

  const std::vector<TensorSpec>& tensors() const { return tensors_; }
  int64_t file_bytes() const { return file_bytes_; }

 private:
  SafetensorsWriter() = default;

  std::string path_;
  int fd_ = -1;
  std::vector<TensorSpec> tensors_;
  std::vector<int64_t> offsets_;  // in the file, one per tensor
  int64_t file_bytes_ = 0;
  int64_t data_bytes_ = 0;
  std::atomic<int64_t> written_{0};
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CHECKPOINT_SAFETENSORS_WRITER_H_
