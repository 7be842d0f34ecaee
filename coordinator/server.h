#ifndef SLUICE_COORDINATOR_SERVER_H_
#define SLUICE_COORDINATOR_SERVER_H_

// The coordinator as a gRPC server: wiring only.
//
//   Server::Options options;
//   options.listen = "127.0.0.1:0";
//   SLUICE_ASSIGN_OR_RETURN(auto server,
//                           Server::Start(options, std::move(parts)));
//   ... server->address() ...
//   server->Shutdown();

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/convert_limits.h"
#include "common/plan.h"
#include "coordinator/dispatch/agent_client.h"
#include "coordinator/host.h"
#include "coordinator/store/state_store.h"

namespace grpc {
class Server;
}  // namespace grpc

namespace sluice::coordinator {

// Thread-safe, but Shutdown from one thread.
class Server {
 public:
  struct Options {
    // HOST:PORT; port 0 takes a free one.
    std::string listen = "127.0.0.1:7070";
    // Allows addresses that other machines can reach.
    bool insecure = false;
    // Largest message in either direction.
    int64_t max_message_bytes = kMaxControlMessageBytes;
    // Memory that gRPC may use for what it reads.
    int64_t max_buffer_bytes = int64_t{128} << 20;
    absl::Duration tick_interval = absl::Milliseconds(100);
    // At Shutdown: how long running operations may take to finish, and then to
    // be aborted. Together with the rest below 10 s.
    absl::Duration drain_finish = absl::Seconds(6);
    absl::Duration drain_abort = absl::Seconds(2);
  };

  // What the server runs; all are set.
  struct Parts {
    std::unique_ptr<Clock> clock;
    std::unique_ptr<StateStore> store;
    std::unique_ptr<AgentClientFactory> agents;
    CoreFunctions core;
    std::function<absl::StatusOr<TransferPlan>(const PlanInput&)> plan;
    // See Host::Deps.
    std::function<void(const absl::Status&)> on_fatal;
  };

  // Errors: INVALID_ARGUMENT, FAILED_PRECONDITION - the address;
  // ALREADY_EXISTS - the port is in use; those of Host::Start.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const Options& options,
                                                       Parts parts);
  // As Shutdown, without waiting for operations.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  int port() const { return port_; }
  // HOST:PORT it listens on.
  std::string address() const;

  // Answers NOT_SERVING, refuses new work, lets running operations finish or
  // aborts them, then ends. Returns whether all had ended.
  bool Shutdown();

 private:
  struct Services;

  Server(const Options& options, Parts parts);
  absl::Status StartHost();
  absl::Status StartServing();
  void End();

  const Options options_;
  Parts parts_;
  int port_ = 0;
  // End() takes these down in the order that their use of one another needs.
  std::unique_ptr<Host> host_;
  std::unique_ptr<Services> services_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_SERVER_H_
