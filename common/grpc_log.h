#ifndef SLUICE_COMMON_GRPC_LOG_H_
#define SLUICE_COMMON_GRPC_LOG_H_

namespace sluice {

// Makes gRPC's own messages lines of the daemon's log instead of text on
// stderr. Which ones there are is set by GRPC_VERBOSITY; errors by default.
void RouteGrpcLogs();

}  // namespace sluice

#endif  // SLUICE_COMMON_GRPC_LOG_H_
