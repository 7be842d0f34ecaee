#include "coordinator/dispatch/grpc_agent_client.h"

#include <grpcpp/alarm.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/check.h"
#include "common/convert_command.h"
#include "common/failpoint.h"
#include "common/logging.h"
#include "common/mutex.h"
#include "common/status_grpc.h"
#include "proto/sluice/v1/agent_service.grpc.pb.h"

namespace sluice::coordinator {
namespace {

constexpr char kHealthCheck[] = "/grpc.health.v1.Health/Check";
// Cancelled calls end at once; longer means that a callback hangs.
constexpr absl::Duration kEndTimeout = absl::Seconds(30);

int Milliseconds(absl::Duration duration) {
  return static_cast<int>(absl::ToInt64Milliseconds(duration));
}

std::shared_ptr<grpc::Channel> MakeChannel(
    const std::string& address, const GrpcAgentClientOptions& options) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS,
                   Milliseconds(options.keepalive_time));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                   Milliseconds(options.keepalive_timeout));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetMaxReceiveMessageSize(
      static_cast<int>(options.max_message_bytes));
  arguments.SetMaxSendMessageSize(static_cast<int>(options.max_message_bytes));
  // Retries are ours: a channel shared with an earlier attempt would make this
  // one wait for its backoff.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(),
                                   arguments);
}

}  // namespace

// Counts connections whose callbacks may still run.
class GrpcAgentClientFactory::Tracker {
 public:
  void Add() {
    MutexLock lock(mutex_);
    ++live_;
  }
  void Remove() {
    MutexLock lock(mutex_);
    --live_;
    changed_.SignalAll();
  }
  // Returns whether all have ended.
  bool Wait(absl::Duration timeout) {
    MutexLock lock(mutex_);
    while (live_ > 0) {
      if (!changed_.WaitFor(mutex_, timeout)) return live_ == 0;
    }
    return true;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  int live_ ABSL_GUARDED_BY(mutex_) = 0;
};

// One attempt's stream. Owns itself from Start until OnDone.
class GrpcAgentClientFactory::Stream final
    : public grpc::ClientBidiReactor<v1::Command, v1::AgentEvent>,
      public std::enable_shared_from_this<Stream> {
 public:
  Stream(std::shared_ptr<Connection> connection,
         std::shared_ptr<grpc::Channel> channel);

  void Start();
  void Write(v1::Command command);
  void Cancel() { context_.TryCancel(); }

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

 private:
  const std::shared_ptr<Connection> connection_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::AgentService::Stub> stub_;
  grpc::ClientContext context_;
  v1::AgentEvent incoming_;
  std::shared_ptr<Stream> self_;

  Mutex mutex_;
  std::deque<v1::Command> queue_ ABSL_GUARDED_BY(mutex_);
  int64_t queued_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  // The front of the queue is being written.
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  // Nothing is written any more. The hold that keeps the call open for writes
  // is given up when this is set and no write runs.
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

// One client's attempts, one after the other. Lives until its last callback.
class GrpcAgentClientFactory::Connection
    : public std::enable_shared_from_this<Connection> {
 public:
  Connection(const GrpcAgentClientOptions& options, AgentTarget target,
             AgentStreamCallbacks callbacks, std::shared_ptr<Tracker> tracker)
      : options_(options),
        target_(std::move(target)),
        callbacks_(std::move(callbacks)),
        tracker_(std::move(tracker)),
        random_(static_cast<uint32_t>(target_.incarnation.value())) {
    tracker_->Add();
  }
  ~Connection() { tracker_->Remove(); }

  void Attempt();
  void Close();
  void Send(const Command& command);

  const GrpcAgentClientOptions& options() const { return options_; }
  void OnEvent(v1::AgentEvent proto, Stream& stream);
  void OnStreamEnd(const Stream& stream, const absl::Status& status);

 private:
  struct Probe {
    explicit Probe(std::shared_ptr<grpc::Channel> c)
        : channel(std::move(c)), stub(channel) {}
    const std::shared_ptr<grpc::Channel> channel;
    grpc::GenericStub stub;
    grpc::ClientContext context;
    // A HealthCheckRequest without fields: a message of no bytes.
    const grpc::Slice no_bytes;
    const grpc::ByteBuffer request{&no_bytes, 1};
    grpc::ByteBuffer response;
  };

  void OnProbe(const std::shared_ptr<Probe>& probe, const grpc::Status& status);
  void Retry();

  const GrpcAgentClientOptions options_;
  const AgentTarget target_;
  const AgentStreamCallbacks callbacks_;
  const std::shared_ptr<Tracker> tracker_;

  Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  // At most one of the next three runs.
  std::shared_ptr<Probe> probe_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<Stream> stream_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<grpc::Alarm> alarm_ ABSL_GUARDED_BY(mutex_);
  // Attempts since the agent was last heard of.
  int attempts_ ABSL_GUARDED_BY(mutex_) = 0;
  std::minstd_rand random_ ABSL_GUARDED_BY(mutex_);
};

// --- Stream ------------------------------------------------------------------

GrpcAgentClientFactory::Stream::Stream(std::shared_ptr<Connection> connection,
                                       std::shared_ptr<grpc::Channel> channel)
    : connection_(std::move(connection)),
      channel_(std::move(channel)),
      stub_(v1::AgentService::NewStub(channel_)) {
  // No deadline: the stream lives as long as both ends. Keepalive and the
  // agent's lease find a peer that is gone.
  stub_->async()->CommandStream(&context_, this);
  AddHold();
}

void GrpcAgentClientFactory::Stream::Start() {
  self_ = shared_from_this();
  StartRead(&incoming_);
  StartCall();
}

void GrpcAgentClientFactory::Stream::Write(v1::Command command) {
  const auto bytes = static_cast<int64_t>(command.ByteSizeLong());
  const v1::Command* front = nullptr;
  bool full = false;
  {
    MutexLock lock(mutex_);
    if (ended_) return;
    const GrpcAgentClientOptions& options = connection_->options();
    full =
        static_cast<int64_t>(queue_.size()) >= options.max_queued_commands ||
        (!queue_.empty() && queued_bytes_ + bytes > options.max_queued_bytes);
    if (!full) {
      queue_.push_back(std::move(command));
      queued_bytes_ += bytes;
      if (!writing_) {
        writing_ = true;
        front = &queue_.front();
      }
    }
  }
  if (full) Cancel();
  // Safe outside the lock: while writing_ is set the hold is kept.
  if (front != nullptr) StartWrite(front);
}

void GrpcAgentClientFactory::Stream::OnReadDone(bool ok) {
  if (ok) {
    connection_->OnEvent(std::exchange(incoming_, {}), *this);
    StartRead(&incoming_);
    return;
  }
  bool idle = false;
  {
    MutexLock lock(mutex_);
    if (ended_) return;
    ended_ = true;
    idle = !writing_;
  }
  // An agent that ended the stream in order still waits for our end.
  Cancel();
  if (idle) RemoveHold();
}

void GrpcAgentClientFactory::Stream::OnWriteDone(bool ok) {
  const v1::Command* next = nullptr;
  bool failed = false;
  {
    MutexLock lock(mutex_);
    if (queue_.front().has_commit()) Failpoint("coordinator.commit_sent");
    queued_bytes_ -= static_cast<int64_t>(queue_.front().ByteSizeLong());
    queue_.pop_front();
    // Whoever finds "ended and no write runs" first gives up the hold: the
    // reader above, or this.
    if (!ok && !ended_) {
      ended_ = true;
      failed = true;
    }
    if (ended_) {
      writing_ = false;
    } else if (queue_.empty()) {
      writing_ = false;
      return;
    } else {
      next = &queue_.front();
    }
  }
  if (next != nullptr) {
    StartWrite(next);
    return;
  }
  if (failed) Cancel();
  RemoveHold();
}

void GrpcAgentClientFactory::Stream::OnDone(const grpc::Status& status) {
  connection_->OnStreamEnd(*this, FromGrpcStatus(status));
  // The last reference may be this one.
  const std::shared_ptr<Stream> self = std::move(self_);
}

// --- Connection --------------------------------------------------------------

void GrpcAgentClientFactory::Connection::Attempt() {
  auto probe = std::make_shared<Probe>(MakeChannel(target_.address, options_));
  probe->context.set_deadline(
      absl::ToChronoTime(absl::Now() + options_.connect_timeout));
  std::shared_ptr<grpc::Alarm> fired;
  {
    MutexLock lock(mutex_);
    if (closed_) return;
    fired = std::move(alarm_);
    probe_ = probe;
    ++attempts_;
  }
  probe->stub.UnaryCall(
      &probe->context, kHealthCheck, grpc::StubOptions(), &probe->request,
      &probe->response,
      [self = shared_from_this(), probe](const grpc::Status& status) {
        self->OnProbe(probe, status);
      });
}

void GrpcAgentClientFactory::Connection::OnProbe(
    const std::shared_ptr<Probe>& probe, const grpc::Status& status) {
  // Any answer of its own says that the agent is there, also "unimplemented".
  const bool answered =
      status.error_code() != grpc::StatusCode::UNAVAILABLE &&
      status.error_code() != grpc::StatusCode::DEADLINE_EXCEEDED &&
      status.error_code() != grpc::StatusCode::CANCELLED;
  std::shared_ptr<Stream> stream;
  {
    MutexLock lock(mutex_);
    probe_.reset();
    if (closed_) return;
    if (answered) {
      stream = std::make_shared<Stream>(shared_from_this(), probe->channel);
      stream_ = stream;
    }
  }
  if (stream == nullptr) {
    Retry();
    return;
  }
  // Before it starts, so that "down" cannot overtake it; what is sent from now
  // on is queued in the stream.
  callbacks_.up();
  stream->Start();
}

void GrpcAgentClientFactory::Connection::Retry() {
  auto alarm = std::make_shared<grpc::Alarm>();
  absl::Duration delay;
  {
    MutexLock lock(mutex_);
    if (closed_) return;
    const int doublings = std::clamp(attempts_ - 1, 0, 20);
    const absl::Duration most = std::min(
        options_.first_retry * (int64_t{1} << doublings), options_.max_retry);
    delay = most * std::uniform_real_distribution<double>(0.5, 1.0)(random_);
    alarm_ = alarm;
  }
  // The callback holds this connection, not the alarm, which keeps its callback
  // for life.
  alarm->Set(absl::ToChronoTime(absl::Now() + delay),
             [self = shared_from_this()](bool) { self->Attempt(); });
}

void GrpcAgentClientFactory::Connection::OnEvent(v1::AgentEvent proto,
                                                 Stream& stream) {
  absl::StatusOr<AgentEvent> event = FromProto(proto);
  if (!event.ok()) {
    LogError("agent sent a malformed event",
             {{"rank", target_.rank}, {"reason", event.status()}});
    stream.Cancel();
    return;
  }
  {
    MutexLock lock(mutex_);
    if (closed_ || stream_.get() != &stream) return;
    attempts_ = 0;
  }
  callbacks_.event(*std::move(event));
}

void GrpcAgentClientFactory::Connection::OnStreamEnd(
    const Stream& stream, const absl::Status& status) {
  std::shared_ptr<Stream> ended;
  {
    MutexLock lock(mutex_);
    if (stream_.get() == &stream) ended = std::move(stream_);
    stream_.reset();
    if (closed_) return;
  }
  callbacks_.down(status.ok() ? absl::UnavailableError("ended by the agent")
                              : status);
  Retry();
}

void GrpcAgentClientFactory::Connection::Send(const Command& command) {
  std::shared_ptr<Stream> stream;
  {
    MutexLock lock(mutex_);
    if (closed_) return;
    stream = stream_;
  }
  if (stream == nullptr) return;
  v1::Command proto = ToProto(command);
  const auto bytes = static_cast<int64_t>(proto.ByteSizeLong());
  if (bytes <= options_.max_message_bytes) {
    stream->Write(std::move(proto));
    return;
  }
  // Sent, it would break the stream, and be sent again for ever.
  callbacks_.event(AgentEvent{
      0, target_.incarnation,
      CommandResult{command.id,
                    absl::ResourceExhaustedError(absl::StrCat(
                        "a command of ", bytes, " bytes exceeds the limit of ",
                        options_.max_message_bytes))}});
}

void GrpcAgentClientFactory::Connection::Close() {
  std::shared_ptr<Probe> probe;
  std::shared_ptr<Stream> stream;
  std::shared_ptr<grpc::Alarm> alarm;
  {
    MutexLock lock(mutex_);
    closed_ = true;
    probe = std::move(probe_);
    stream = std::move(stream_);
    alarm = std::move(alarm_);
  }
  if (probe != nullptr) probe->context.TryCancel();
  if (stream != nullptr) stream->Cancel();
  if (alarm != nullptr) alarm->Cancel();
}

// --- Client, factory ---------------------------------------------------------

class GrpcAgentClientFactory::Client final : public AgentClient {
 public:
  explicit Client(std::shared_ptr<Connection> connection)
      : connection_(std::move(connection)) {
    connection_->Attempt();
  }
  ~Client() override { connection_->Close(); }

  void Send(const Command& command) override { connection_->Send(command); }

 private:
  const std::shared_ptr<Connection> connection_;
};

GrpcAgentClientFactory::GrpcAgentClientFactory(GrpcAgentClientOptions options)
    : options_(options), tracker_(std::make_shared<Tracker>()) {}

GrpcAgentClientFactory::~GrpcAgentClientFactory() {
  SLUICE_CHECK(tracker_->Wait(kEndTimeout)) << "a command stream did not end";
}

std::unique_ptr<AgentClient> GrpcAgentClientFactory::Connect(
    const AgentTarget& target, AgentStreamCallbacks callbacks) {
  return std::make_unique<Client>(std::make_shared<Connection>(
      options_, target, std::move(callbacks), tracker_));
}

}  // namespace sluice::coordinator
