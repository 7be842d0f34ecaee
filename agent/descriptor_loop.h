#ifndef SLUICE_AGENT_DESCRIPTOR_LOOP_H_
#define SLUICE_AGENT_DESCRIPTOR_LOOP_H_

// Serves frames with descriptors to many connections from one thread: the event
// loop below DescriptorSocket. A connection's next request is read when its
// last reply is sent.

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "agent/device/descriptor_passing.h"
#include "agent/device/unique_fd.h"

namespace sluice::agent {

class DescriptorLoop {
 public:
  struct Limits {
    int64_t max_request_bytes = 0;  // a larger request ends its connection
    int max_connections = 0;        // more wait in the backlog
  };
  // Answers one request; called on the thread of Run.
  using Handler =
      std::function<Frame(absl::string_view body, std::vector<UniqueFd>)>;

  // `listener` (not blocking) and `stop` (an eventfd) are borrowed.
  // Errors: UNAVAILABLE.
  static absl::StatusOr<std::unique_ptr<DescriptorLoop>> Create(
      Limits limits, int listener, int stop, Handler handler);
  ~DescriptorLoop();
  DescriptorLoop(const DescriptorLoop&) = delete;
  DescriptorLoop& operator=(const DescriptorLoop&) = delete;

  // Serves until `stop` is written to. Peers of other users are hung up on.
  void Run();

 private:
  struct Connection;

  DescriptorLoop(Limits limits, int listener, int stop, Handler handler);
  void Accept();
  void Listen(bool on);
  // Returns false when the connection is to be closed.
  bool Serve(Connection& connection);
  bool Read(Connection& connection);
  bool Write(Connection& connection);
  void Watch(Connection& connection);

  const Limits limits_;
  const int listener_;
  const int stop_;
  const Handler handler_;
  UniqueFd epoll_;
  bool listening_ = false;
  absl::flat_hash_map<int, std::unique_ptr<Connection>> connections_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_DESCRIPTOR_LOOP_H_
