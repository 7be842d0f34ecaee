#ifndef SLUICE_TESTS_GPU_LENDER_PROCESS_H_
#define SLUICE_TESTS_GPU_LENDER_PROCESS_H_

// The running program again, as the process that lends memory (RunLender).

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/device/unique_fd.h"

namespace sluice::gpu_tests {

// Killed when it goes.
class LenderProcess {
 public:
  // Starts this program's file as `name` (which chooses the program in one file
  // of several) with --lender-socket, --device and --elements.
  // Errors: INTERNAL.
  static absl::StatusOr<std::unique_ptr<LenderProcess>> Start(
      const std::string& name, int64_t device, int64_t elements);
  LenderProcess(const LenderProcess&) = delete;
  LenderProcess& operator=(const LenderProcess&) = delete;
  ~LenderProcess();

  int socket() const { return socket_.get(); }
  // Closes the socket and waits for the process's own end.
  // Errors: INTERNAL - it ended otherwise than with status 0.
  absl::Status Finish();

 private:
  LenderProcess(pid_t pid, agent::UniqueFd socket)
      : pid_(pid), socket_(std::move(socket)) {}
  int Reap();

  pid_t pid_;
  agent::UniqueFd socket_;
};

}  // namespace sluice::gpu_tests

#endif  // SLUICE_TESTS_GPU_LENDER_PROCESS_H_
