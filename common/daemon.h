#ifndef SLUICE_COMMON_DAEMON_H_
#define SLUICE_COMMON_DAEMON_H_

// What every daemon's main() needs beside its options (common/flags.h): ending
// on signals, files others read, checks of the address it listens on, and its
// own use of the machine.

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sluice {

// Waits for SIGTERM or SIGINT.
//
// Thread rule: made once, at the start of main(), before any other thread, so
// that all inherit the blocked signals; Wait by one thread; Notify by any.
class ShutdownSignal {
 public:
  // Also ignores SIGPIPE. Errors: INTERNAL - the system refused.
  static absl::StatusOr<std::unique_ptr<ShutdownSignal>> Create();
  ~ShutdownSignal();
  ShutdownSignal(const ShutdownSignal&) = delete;
  ShutdownSignal& operator=(const ShutdownSignal&) = delete;

  // Returns the signal's number, or 0 after Notify. From then on the next
  // signal ends the process at once with status 128 + its number.
  int Wait();
  // Makes Wait return.
  void Notify();

 private:
  ShutdownSignal(int signal_fd, int event_fd)
      : signal_fd_(signal_fd), event_fd_(event_fd) {}

  const int signal_fd_;
  const int event_fd_;
};

// Holds a file's lock for the life of this object (and of the process). The
// file names the holder's pid.
class LockFile {
 public:
  // Errors: ALREADY_EXISTS - another process holds it (its pid is said);
  // PERMISSION_DENIED, NOT_FOUND or INTERNAL - cannot be made, with the path.
  static absl::StatusOr<std::unique_ptr<LockFile>> Acquire(
      const std::string& path);
  ~LockFile();
  LockFile(const LockFile&) = delete;
  LockFile& operator=(const LockFile&) = delete;

 private:
  explicit LockFile(int fd) : fd_(fd) {}

  const int fd_;
};

// Creates the folder (and those above it) with mode 0700 unless it is there.
// Errors: FAILED_PRECONDITION - it cannot be made or written in, with the path
// and why.
absl::Status MakeWritableDirectory(const std::string& path);

// Writes a file so that a reader sees the old content or the new one, never a
// part. Errors: FAILED_PRECONDITION - with the path and why.
absl::Status WriteFileAtomically(const std::string& path,
                                 absl::string_view content);

// Checks that `address` is HOST:PORT or unix:PATH and, unless `insecure`, that
// only this machine can reach it: there is no encryption.
// Errors: INVALID_ARGUMENT - malformed; FAILED_PRECONDITION - not loopback.
absl::Status CheckListenAddress(absl::string_view address, bool insecure);

// Says why nothing can listen on `address`, asked after a server failed to.
// Always an error: ALREADY_EXISTS - the port is in use; PERMISSION_DENIED,
// INVALID_ARGUMENT, UNAVAILABLE - as the system says.
absl::Status ExplainBindFailure(absl::string_view address);

// "HOST:PORT" with the port it got instead of the one it asked for.
std::string WithPort(absl::string_view address, int port);

// This process's use of the machine.
struct ProcessUsage {
  int64_t rss_bytes = 0;   // resident memory
  double cpu_seconds = 0;  // user and system, all threads
};
ProcessUsage ReadProcessUsage();

}  // namespace sluice

#endif  // SLUICE_COMMON_DAEMON_H_
