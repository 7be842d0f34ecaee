#ifndef SLUICE_BENCH_LINES_H_
#define SLUICE_BENCH_LINES_H_

// Lines of text between a process and its children, over pipes.

#include <sys/types.h>

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/clock.h"

namespace sluice::bench {

// Reads one line, without its end. The clock's reading bounds the wait.
// Errors: DEADLINE_EXCEEDED; UNAVAILABLE - the other end is closed.
absl::StatusOr<std::string> ReadLine(int fd, const Clock& clock,
                                     absl::Time deadline);

// Reads all there is until the other end is closed.
// Errors: DEADLINE_EXCEEDED.
absl::StatusOr<std::string> ReadToEnd(int fd, const Clock& clock,
                                      absl::Time deadline);

// Errors: UNAVAILABLE - the other end is closed.
absl::Status WriteLine(int fd, absl::string_view line);

// Waits for a child's end, and kills it at the deadline. Returns its status as
// waitpid does.
int AwaitEnd(pid_t pid, const Clock& clock, absl::Time deadline);

}  // namespace sluice::bench

#endif  // SLUICE_BENCH_LINES_H_
