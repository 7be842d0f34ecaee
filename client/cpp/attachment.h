#ifndef SLUICE_CLIENT_CPP_ATTACHMENT_H_
#define SLUICE_CLIENT_CPP_ATTACHMENT_H_

// A worker's session with its agent, kept up by a thread: attaches, reads news,
// and attaches again when the agent went away, for as long as it lives.

#include <grpcpp/client_context.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/mutex.h"
#include "proto/sluice/v1/worker_service.grpc.pb.h"

namespace sluice {

class Attachment {
 public:
  struct Options {
    std::string agent_socket;
    std::string worker;
  };
  // Which attachment a call was made in; higher after each new one.
  struct Current {
    uint64_t generation = 0;
    v1::Attached attached;
  };
  using OnNews = std::function<void(const v1::VersionNews&)>;
  // Runs on the session's thread after each answer of an agent, before callers
  // see the attachment: it lends memory again.
  using OnAttached = std::function<void(const Current&)>;

  Attachment(Options options, OnNews on_news, OnAttached on_attached);
  // Ends the session.
  ~Attachment();
  Attachment(const Attachment&) = delete;
  Attachment& operator=(const Attachment&) = delete;

  v1::WorkerService::Stub& stub() { return *stub_; }

  // Waits until attached, or until attached anew after generation `after`.
  // Errors: UNAVAILABLE - not within the time; ALREADY_EXISTS and others - the
  // agent refused the first attachment.
  absl::StatusOr<Current> Await(absl::Time deadline, uint64_t after = 0);

  // Waits until the attachment of this generation has ended. Returns whether it
  // has within the time.
  bool AwaitEnd(uint64_t generation, absl::Time deadline);

 private:
  void Run();
  // One session from its opening to its end.
  absl::Status RunSession();

  const Options options_;
  const OnNews on_news_;
  const OnAttached on_attached_;
  std::unique_ptr<v1::WorkerService::Stub> stub_;

  mutable Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_attached_ ABSL_GUARDED_BY(mutex_) = false;
  Current current_ ABSL_GUARDED_BY(mutex_);
  absl::Status refused_ ABSL_GUARDED_BY(mutex_);
  grpc::ClientContext* context_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::thread thread_;
};

}  // namespace sluice

#endif  // SLUICE_CLIENT_CPP_ATTACHMENT_H_
