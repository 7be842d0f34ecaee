#ifndef SLUICE_TESTS_AGENT_FAKE_MEMBERSHIP_H_
#define SLUICE_TESTS_AGENT_FAKE_MEMBERSHIP_H_

// A coordinator's MembershipService, as far as an agent sees it, on a real
// port. Thread-safe.

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/convert_time.h"
#include "common/mutex.h"
#include "common/status_grpc.h"
#include "proto/sluice/v1/membership_service.grpc.pb.h"

namespace sluice::testing {

class FakeMembership final : public v1::MembershipService::Service {
 public:
  // Serves on 127.0.0.1:`port`; 0 takes a free one.
  explicit FakeMembership(uint64_t epoch = 1, int port = 0) : epoch_(epoch) {
    grpc::ServerBuilder builder;
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.AddListeningPort(absl::StrCat("127.0.0.1:", port),
                             grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~FakeMembership() override {
    server_->Shutdown(std::chrono::system_clock::now());
  }

  bool serving() const { return server_ != nullptr && port_ != 0; }
  int port() const { return port_; }
  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }

  // What the next beats are answered; the epoch in their answers.
  void AnswerBeats(const absl::Status& status) {
    MutexLock lock(mutex_);
    beat_ = status;
  }
  void set_epoch(uint64_t epoch) {
    MutexLock lock(mutex_);
    epoch_ = epoch;
  }

  // Waits for the n-th registration, beat or drain; false after 20 s.
  bool AwaitRegistrations(size_t n) {
    return Await([&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      return registrations_.size() >= n;
    });
  }
  bool AwaitBeats(int n) {
    return Await([&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return beats_ >= n; });
  }
  std::vector<v1::RegisterRequest> registrations() {
    MutexLock lock(mutex_);
    return registrations_;
  }
  int beats() {
    MutexLock lock(mutex_);
    return beats_;
  }
  v1::HeartbeatRequest last_beat() {
    MutexLock lock(mutex_);
    return last_beat_;
  }
  int drains() {
    MutexLock lock(mutex_);
    return drains_;
  }

  grpc::Status Register(grpc::ServerContext*,
                        const v1::RegisterRequest* request,
                        v1::RegisterResponse* response) override {
    MutexLock lock(mutex_);
    registrations_.push_back(*request);
    beat_ = absl::OkStatus();
    response->set_rank(3);
    response->set_epoch(epoch_);
    response->set_cluster_id("cluster");
    *response->mutable_lease() = ToProto(absl::Seconds(10));
    *response->mutable_heartbeat_interval() = ToProto(absl::Milliseconds(20));
    changed_.SignalAll();
    return grpc::Status::OK;
  }
  grpc::Status Heartbeat(grpc::ServerContext*,
                         const v1::HeartbeatRequest* request,
                         v1::HeartbeatResponse* response) override {
    MutexLock lock(mutex_);
    ++beats_;
    last_beat_ = *request;
    changed_.SignalAll();
    response->set_epoch(epoch_);
    return ToGrpcStatus(beat_);
  }
  grpc::Status Drain(grpc::ServerContext*, const v1::DrainRequest*,
                     v1::DrainResponse*) override {
    MutexLock lock(mutex_);
    ++drains_;
    return grpc::Status::OK;
  }

 private:
  template <typename Condition>
  bool Await(Condition condition) {
    MutexLock lock(mutex_);
    const auto until =
        std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > until) return false;
      changed_.WaitFor(mutex_, absl::Seconds(1));
    }
    return true;
  }

  Mutex mutex_;
  CondVar changed_;
  uint64_t epoch_ ABSL_GUARDED_BY(mutex_);
  absl::Status beat_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::RegisterRequest> registrations_ ABSL_GUARDED_BY(mutex_);
  int beats_ ABSL_GUARDED_BY(mutex_) = 0;
  int drains_ ABSL_GUARDED_BY(mutex_) = 0;
  v1::HeartbeatRequest last_beat_ ABSL_GUARDED_BY(mutex_);
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_AGENT_FAKE_MEMBERSHIP_H_
