#ifndef SLUICE_COMMON_GRPC_SETUP_H_
#define SLUICE_COMMON_GRPC_SETUP_H_

namespace sluice {

// Sets gRPC up for a daemon, once, before its first use:
//   - its own messages become lines of the daemon's log instead of text on
//     stderr; which ones there are is set by GRPC_VERBOSITY, errors by default;
//   - its mutexes (Abseil's) do not record the order they are taken in. Debian
//     builds Abseil with that check on, and each lock pays for it.
void SetUpGrpc();

}  // namespace sluice

#endif  // SLUICE_COMMON_GRPC_SETUP_H_
