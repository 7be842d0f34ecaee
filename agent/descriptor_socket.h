#ifndef SLUICE_AGENT_DESCRIPTOR_SOCKET_H_
#define SLUICE_AGENT_DESCRIPTOR_SOCKET_H_

// The agent's descriptor socket: workers give and fetch memory, peers of the
// node open what they pull. The protocol is
// proto/sluice/v1/descriptor_socket.proto. Only processes of the same user are
// answered.

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/collective/group_table.h"
#include "agent/descriptor_table.h"
#include "agent/device/descriptor_passing.h"
#include "agent/device/unique_fd.h"
#include "agent/executor_interface.h"
#include "agent/source_table.h"

namespace sluice::v1 {
class PassReply;
class PassRequest;
}  // namespace sluice::v1

namespace sluice::agent {

class DescriptorSocket {
 public:
  // Largest request; replies (sources of a whole part) may be larger.
  static constexpr int64_t kMaxRequestBytes = 64 << 10;
  static constexpr int64_t kMaxReplyBytes = int64_t{1} << 30;
  static constexpr int kMaxConnections = 1024;

  struct Deps {
    DescriptorTable& table;
    const SourceTable& sources;
    TransferExecutor& executor;  // for the boards
    // Members of collective groups here; null where there are none.
    const GroupTable* groups = nullptr;
  };

  // Listens at `path`, replacing a socket that lies there, and serves from a
  // thread of its own until destruction, which removes the path.
  // Errors: INVALID_ARGUMENT - a path above 107 bytes; UNAVAILABLE - cannot be
  // bound (why is said).
  static absl::StatusOr<std::unique_ptr<DescriptorSocket>> Start(
      std::string path, Deps deps);
  ~DescriptorSocket();
  DescriptorSocket(const DescriptorSocket&) = delete;
  DescriptorSocket& operator=(const DescriptorSocket&) = delete;

  const std::string& path() const { return path_; }

 private:
  DescriptorSocket(std::string path, Deps deps);
  absl::Status Listen();

  // Answers one request. `given` came with it; `out` goes with the reply.
  v1::PassReply Answer(const v1::PassRequest& request,
                       std::vector<UniqueFd> given, std::vector<UniqueFd>& out);
  absl::Status Give(const v1::PassRequest& request,
                    std::vector<UniqueFd> given);
  absl::Status Fetch(const v1::PassRequest& request, v1::PassReply& reply,
                     std::vector<UniqueFd>& out);
  absl::Status OpenSource(const v1::PassRequest& request, v1::PassReply& reply,
                          std::vector<UniqueFd>& out);
  absl::Status AskGroup(const v1::PassRequest& request,
                        std::vector<UniqueFd> given, v1::PassReply& reply,
                        std::vector<UniqueFd>& out);

  const std::string path_;
  const Deps deps_;
  UniqueFd listener_;
  UniqueFd stop_;  // an eventfd
  std::thread thread_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_DESCRIPTOR_SOCKET_H_
