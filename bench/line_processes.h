#ifndef SLUICE_BENCH_LINE_PROCESSES_H_
#define SLUICE_BENCH_LINE_PROCESSES_H_

// Processes of a bench that move bytes among themselves and do as they are
// told, all at once.

#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/clock.h"

namespace sluice::bench {

// Child processes that are spoken to in lines.
class LineProcesses {
 public:
  LineProcesses() = default;
  // Closes their inputs and waits for their ends.
  ~LineProcesses();
  LineProcesses(const LineProcesses&) = delete;
  LineProcesses& operator=(const LineProcesses&) = delete;

  // A child that runs `main` and exits with what it returns. To be called
  // before the first thread is made.
  absl::Status Fork(
      const std::function<int(int from_parent, int to_parent)>& main);

  size_t size() const { return children_.size(); }

  absl::Status Tell(absl::string_view line);
  // Tells child i lines[i].
  absl::Status TellEach(const std::vector<std::string>& lines);
  // A line of each.
  absl::StatusOr<std::vector<std::string>> ReadEach();
  // Waits for this line of all. Errors: DATA_LOSS - a child says "bad".
  absl::Status Expect(absl::string_view line);
  // Tells `line`, waits for "ready", and times from "go" to the last "done";
  // then tells "check" and waits for "good".
  absl::StatusOr<double> Time(absl::string_view line);

 private:
  struct Child {
    pid_t pid = -1;
    int to = -1;
    int from = -1;
  };
  SystemClock clock_;
  std::vector<Child> children_;
};

}  // namespace sluice::bench

#endif  // SLUICE_BENCH_LINE_PROCESSES_H_
