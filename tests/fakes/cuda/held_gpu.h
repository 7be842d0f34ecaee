#ifndef SLUICE_TESTS_FAKES_CUDA_HELD_GPU_H_
#define SLUICE_TESTS_FAKES_CUDA_HELD_GPU_H_

// A fake GPU that can be held: what is queued is written down and runs only
// when it is let go, so that a test sees what was queued before what had ended,
// without a look at any clock.

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "agent/cuda/cuda_runtime.h"
#include "common/mutex.h"
#include "tests/fakes/cuda/process_gpu.h"

namespace sluice::agent::cuda {

// Thread-safe. While it is held nothing may be freed: that waits for all that
// was queued.
class HeldGpu final : public ProcessGpuRuntime {
 public:
  struct Queued {
    std::string what;  // the function of CudaRuntime: "Copy", "CopyBoxes", ...
    StreamHandle stream = nullptr;
  };

  HeldGpu() = default;
  // Lets go.
  ~HeldGpu() override { LetGo(); }

  void Hold();
  void LetGo();
  // What was queued since the last Forget, in this order.
  std::vector<Queued> queued() const;
  size_t Count(absl::string_view what) const;
  // On how many streams.
  size_t Streams() const;
  void Forget();
  // Waits until so many of this kind were queued; false after a minute.
  bool WaitForQueued(absl::string_view what, size_t count);
  // Until something was queued on so many streams.
  bool WaitForStreams(size_t count);

 protected:
  absl::Status Queue(StreamHandle stream, const char* what,
                     std::function<void()> run) override;

 private:
  // Waits until `reached()`, under the lock.
  bool WaitUntil(const std::function<bool()>& reached);
  size_t CountLocked(absl::string_view what) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  size_t StreamsLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  CondVar changed_;
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<Queued> queued_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice::agent::cuda

#endif  // SLUICE_TESTS_FAKES_CUDA_HELD_GPU_H_
