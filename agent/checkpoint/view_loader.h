#ifndef SLUICE_AGENT_CHECKPOINT_VIEW_LOADER_H_
#define SLUICE_AGENT_CHECKPOINT_VIEW_LOADER_H_

// Loads what one agent holds of a model from a checkpoint: only the views'
// bytes are read, straight from the mapped files into the local parameters.

#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "agent/checkpoint/checkpoint.h"
#include "common/model.h"

namespace sluice::agent {

struct LoadOptions {
  // Called on the loading thread after each `chunk_bytes` or less, and with
  // done == total at the end; false cancels. May be empty.
  std::function<bool(int64_t done_bytes, int64_t total_bytes)> progress;
  int64_t chunk_bytes = 8 << 20;
};

// Fills the first layout.buffer_bytes of `buffer`: views from the files, all
// else (padding, gaps between parameters) with zero. Returns the bytes read.
//
// Every tensor and view is checked before the first byte is written. After an
// error later than that, or a cancel, the buffer's contents are undefined;
// nothing touches it when this has returned.
// Errors: NOT_FOUND - the checkpoint lacks a tensor; INVALID_ARGUMENT - its
// dtype or shape differs from the model's (both are given), a view or parameter
// does not fit, or the buffer is too small (needed and found bytes);
// FAILED_PRECONDITION - a file was changed since it was opened; CANCELLED - by
// the progress callback.
absl::StatusOr<int64_t> LoadViews(const Checkpoint& checkpoint,
                                  const ModelSpec& model,
                                  const RankLayout& layout,
                                  absl::Span<uint8_t> buffer,
                                  const LoadOptions& options = {});

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CHECKPOINT_VIEW_LOADER_H_
