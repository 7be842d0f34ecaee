#ifndef SLUICE_TOOLS_QUICKSTART_WORKER_PROCESS_H_
#define SLUICE_TOOLS_QUICKSTART_WORKER_PROCESS_H_

// A worker process and the two pipes it is driven by (see worker/main.cc).

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/device/unique_fd.h"
#include "tools/local_cluster/process.h"

namespace sluice::quickstart {

// Not thread-safe. A command is sent, then its answer awaited: several workers
// work side by side between the two.
class WorkerProcess {
 public:
  // Starts the process, whose weights are to lie on `device` ("host" or
  // "cuda:N"); its first answer says whether it is attached.
  // Errors: NOT_FOUND - the binary; RESOURCE_EXHAUSTED.
  static absl::StatusOr<std::unique_ptr<WorkerProcess>> Start(
      const std::string& binary, const std::string& agent_socket,
      const std::string& name, const std::string& device,
      const std::string& log_file);

  // Closes its stdin, which ends it; kills it if that takes 5 seconds.
  ~WorkerProcess();
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  const std::string& name() const { return name_; }
  const local_cluster::Process& process() const { return process_; }

  // Errors: UNAVAILABLE - it has ended.
  absl::Status Send(const nlohmann::json& command);
  // Errors: DEADLINE_EXCEEDED; UNAVAILABLE - it has ended; INTERNAL - it says
  // why it could not.
  absl::StatusOr<nlohmann::json> Answer(absl::Duration timeout);

 private:
  WorkerProcess() = default;

  std::string name_;
  local_cluster::Process process_;
  agent::UniqueFd to_, from_;
  std::string received_;  // after the last answer
};

}  // namespace sluice::quickstart

#endif  // SLUICE_TOOLS_QUICKSTART_WORKER_PROCESS_H_
