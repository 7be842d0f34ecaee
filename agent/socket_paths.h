#ifndef SLUICE_AGENT_SOCKET_PATHS_H_
#define SLUICE_AGENT_SOCKET_PATHS_H_

// An agent's two Unix sockets: NAME.grpc.sock for workers' RPCs, which is the
// path that the coordinator and its status tell, and NAME.sock beside it, over
// which descriptors pass.

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace sluice::agent {

inline std::string GrpcSocketPath(absl::string_view directory,
                                  absl::string_view name) {
  return absl::StrCat(directory, "/", name, ".grpc.sock");
}

// Returns the descriptor socket beside a gRPC socket.
inline std::string DescriptorSocketPath(absl::string_view grpc_socket) {
  return absl::StrCat(absl::StripSuffix(grpc_socket, ".grpc.sock"), ".sock");
}

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_SOCKET_PATHS_H_
