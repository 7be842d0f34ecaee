#ifndef SLUICE_TOOLS_CONSOLE_EXIT_CODE_H_
#define SLUICE_TOOLS_CONSOLE_EXIT_CODE_H_

// Exit codes of command-line tools: scripts decide by them.

#include "absl/status/status.h"

namespace sluice::console {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitUnreachable = 3;
inline constexpr int kExitNotFound = 4;
inline constexpr int kExitConflict = 5;  // taken, stale, or the wrong state
inline constexpr int kExitDenied = 6;
inline constexpr int kExitTimeout = 7;
inline constexpr int kExitInterrupted = 130;

// The code for what a call returned. INVALID_ARGUMENT, what a server or a check
// behind the command line refused, is a usage error too.
int ExitCode(const absl::Status& status);

}  // namespace sluice::console

#endif  // SLUICE_TOOLS_CONSOLE_EXIT_CODE_H_
