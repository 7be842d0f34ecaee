#ifndef SLUICE_AGENT_GRPC_COORDINATOR_CLIENT_H_
#define SLUICE_AGENT_GRPC_COORDINATOR_CLIENT_H_

// MembershipService over gRPC, from a thread and a channel of its own: a lease
// must not wait behind anything else the agent does.

#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/coordinator_client.h"
#include "common/ids.h"
#include "common/mutex.h"
#include "common/reduce_report.h"
#include "proto/sluice/v1/membership_service.grpc.pb.h"

namespace sluice::agent {

class GrpcCoordinatorClient final : public CoordinatorClient {
 public:
  struct Options {
    std::string address;  // host:port
    // How long one RPC may take.
    absl::Duration rpc_deadline = absl::Seconds(3);
    // First and longest wait after a failure; doubled in between, and varied by
    // half, so that a thousand agents do not come back in one instant.
    absl::Duration first_backoff = absl::Milliseconds(100);
    absl::Duration max_backoff = absl::Seconds(1);
  };

  explicit GrpcCoordinatorClient(Options options);
  ~GrpcCoordinatorClient() override;
  GrpcCoordinatorClient(const GrpcCoordinatorClient&) = delete;
  GrpcCoordinatorClient& operator=(const GrpcCoordinatorClient&) = delete;

  void Start(Registration self,
             std::function<void(const RegisteredEvent&)> on_registered,
             std::function<BeatReport()> report) override;
  absl::Status Drain(absl::Duration timeout) override;
  void Stop() override;

 private:
  // What a registration promised.
  struct Lease {
    Epoch epoch;
    absl::Duration interval;
  };

  void Run();
  absl::StatusOr<Lease> Register();
  // Errors: NOT_FOUND, ABORTED - register again; others - beat again.
  absl::Status Beat(const Lease& lease);
  // Returns false if Stop was called meanwhile.
  bool Sleep(absl::Duration duration);
  absl::Duration NextBackoff();

  const Options options_;
  const std::unique_ptr<v1::MembershipService::Stub> stub_;
  // Set by Start, before the thread.
  Registration self_;
  std::function<void(const RegisteredEvent&)> on_registered_;
  std::function<BeatReport()> report_;

  // Of the thread alone.
  std::string cluster_id_;
  absl::Duration backoff_;
  std::minstd_rand random_;

  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_GRPC_COORDINATOR_CLIENT_H_
