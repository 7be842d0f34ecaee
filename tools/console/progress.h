#ifndef SLUICE_TOOLS_CONSOLE_PROGRESS_H_
#define SLUICE_TOOLS_CONSOLE_PROGRESS_H_

// Progress of a long step on stderr: one line that is written over on a
// terminal, a plain line now and then elsewhere.

#include <cstdint>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/mutex.h"

namespace sluice::console {

// Shows a step from its construction to its end. Thread-safe.
class Progress {
 public:
  // Off terminals a line is printed at most once in `interval`.
  explicit Progress(absl::string_view step, bool quiet = false,
                    absl::Duration interval = absl::Seconds(5));
  // Ends the line if Finish was not called.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `detail` follows the bytes, such as "executing" or "waits for agent-3".
  // A total of 0 is not known yet.
  void Update(int64_t done_bytes, int64_t total_bytes,
              absl::string_view detail = "");
  // Ends with a line that says how it went.
  void Finish(absl::string_view outcome);

 private:
  const std::string step_;
  const bool quiet_;
  const bool terminal_;
  const absl::Duration interval_;
  const absl::Time started_;
  Mutex mutex_;
  absl::Time printed_ ABSL_GUARDED_BY(mutex_);
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace sluice::console

#endif  // SLUICE_TOOLS_CONSOLE_PROGRESS_H_
