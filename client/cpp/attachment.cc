#include "client/cpp/attachment.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_grpc.h"

namespace sluice {
namespace {

constexpr absl::Duration kFirstBackoff = absl::Milliseconds(20);
constexpr absl::Duration kLargestBackoff = absl::Milliseconds(500);

// Whether the agent said no, so that trying again cannot help.
bool IsRefusal(const absl::Status& status) {
  return status.code() == absl::StatusCode::kAlreadyExists ||
         status.code() == absl::StatusCode::kInvalidArgument ||
         status.code() == absl::StatusCode::kPermissionDenied ||
         status.code() == absl::StatusCode::kUnimplemented;
}

}  // namespace

Attachment::Attachment(Options options, OnNews on_news, OnAttached on_attached)
    : options_(std::move(options)),
      on_news_(std::move(on_news)),
      on_attached_(std::move(on_attached)) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);
  // In truth the time one attempt may take: a busy machine needs its while.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 2000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetMaxReceiveMessageSize(64 << 20);
  stub_ = v1::WorkerService::NewStub(
      grpc::CreateCustomChannel(absl::StrCat("unix:", options_.agent_socket),
                                grpc::InsecureChannelCredentials(), arguments));
  thread_ = std::thread([this] { Run(); });
}

Attachment::~Attachment() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    if (context_ != nullptr) context_->TryCancel();
    changed_.SignalAll();
  }
  thread_.join();
}

void Attachment::Run() {
  absl::Duration backoff = kFirstBackoff;
  for (;;) {
    const absl::Status ended = RunSession();
    MutexLock lock(mutex_);
    const bool was_attached = std::exchange(is_attached_, false);
    if (current_.generation == 0 && IsRefusal(ended)) refused_ = ended;
    changed_.SignalAll();
    backoff =
        was_attached ? kFirstBackoff : std::min(backoff * 2, kLargestBackoff);
    const absl::Time wake = absl::Now() + backoff;
    while (!stopping_ && absl::Now() < wake) {
      changed_.WaitFor(mutex_, wake - absl::Now());
    }
    if (stopping_) return;
  }
}

absl::Status Attachment::RunSession() {
  grpc::ClientContext context;
  {
    MutexLock lock(mutex_);
    if (stopping_) return absl::CancelledError("detached");
    context_ = &context;
  }
  v1::SessionRequest request;
  request.set_worker(options_.worker);
  request.set_pid(::getpid());
  auto reader = stub_->Session(&context, request);
  v1::SessionEvent event;
  while (reader->Read(&event)) {
    if (event.has_version()) on_news_(event.version());
    if (!event.has_attached()) continue;
    Current next;
    {
      MutexLock lock(mutex_);
      next = {current_.generation + 1, event.attached()};
    }
    on_attached_(next);
    MutexLock lock(mutex_);
    current_ = std::move(next);
    is_attached_ = true;
    refused_ = absl::OkStatus();
    changed_.SignalAll();
  }
  const absl::Status ended = FromGrpcStatus(reader->Finish());
  MutexLock lock(mutex_);
  context_ = nullptr;
  return ended;
}

absl::StatusOr<Attachment::Current> Attachment::Await(absl::Time deadline,
                                                      uint64_t after) {
  MutexLock lock(mutex_);
  while (!is_attached_ || current_.generation <= after) {
    if (!refused_.ok()) return refused_;
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) {
      return absl::UnavailableError(
          absl::StrCat("no agent answers at ", options_.agent_socket));
    }
    changed_.WaitFor(mutex_, left);
  }
  return current_;
}

bool Attachment::AwaitEnd(uint64_t generation, absl::Time deadline) {
  MutexLock lock(mutex_);
  while (is_attached_ && current_.generation == generation) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) return false;
    changed_.WaitFor(mutex_, left);
  }
  return true;
}

}  // namespace sluice
