#include "common/grpc_setup.h"

#include <grpc/support/log.h>

#include "absl/synchronization/mutex.h"
#include "common/logging.h"

namespace sluice {
namespace {

void Log(gpr_log_func_args* args) {
  const LogFields fields = {
      {"message", args->message}, {"file", args->file}, {"line", args->line}};
  switch (args->severity) {
    case GPR_LOG_SEVERITY_DEBUG:
      return LogDebug("grpc", fields);
    case GPR_LOG_SEVERITY_INFO:
      return LogInfo("grpc", fields);
    case GPR_LOG_SEVERITY_ERROR:
      // Errors of single connections; what fails as a whole is said elsewhere.
      return LogWarn("grpc", fields);
  }
}

}  // namespace

void SetUpGrpc() {
  gpr_set_log_function(&Log);
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
}

}  // namespace sluice
