#include "agent/agent_service.h"

#include <memory>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "agent/stream_writer.h"
#include "common/convert_command.h"
#include "common/logging.h"
#include "common/status_grpc.h"

namespace sluice::agent {
namespace {

// Events waiting for a coordinator that does not read; an inventory of a
// million samples has about a hundred.
constexpr size_t kMaxQueuedEvents = 100'000;

using Writer = StreamWriter<v1::AgentEvent>;

// The host's end; outlives the reactor where the host still holds it.
class Sink final : public EventSink {
 public:
  explicit Sink(std::shared_ptr<Writer> writer) : writer_(std::move(writer)) {}

  void Send(const AgentEvent& event) override { writer_->Send(ToProto(event)); }
  void Close(const absl::Status& reason) override {
    writer_->Finish(ToGrpcStatus(reason));
  }

 private:
  const std::shared_ptr<Writer> writer_;
};

class CommandReactor final
    : public grpc::ServerBidiReactor<v1::Command, v1::AgentEvent> {
 public:
  explicit CommandReactor(AgentHost& host)
      : host_(host),
        writer_(std::make_shared<Writer>(
            Writer::Calls{
                [this](const v1::AgentEvent* event) { StartWrite(event); },
                [this](grpc::Status status) { Finish(std::move(status)); }},
            kMaxQueuedEvents)),
        sink_(std::make_shared<Sink>(writer_)) {
    StartRead(&command_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      End(grpc::Status::OK);
      return;
    }
    if (!writer_->Enter()) return;
    absl::Status status = Handle();
    if (status.ok()) {
      StartRead(&command_);
    } else {
      LogError("bad command", {{"status", status}});
    }
    writer_->Leave();
    if (!status.ok()) End(ToGrpcStatus(status));
  }

  void OnWriteDone(bool ok) override { writer_->OnWriteDone(ok); }
  void OnCancel() override { End(grpc::Status::CANCELLED); }
  void OnDone() override { delete this; }

 private:
  absl::Status Handle() {
    absl::StatusOr<Command> command = FromProto(command_);
    if (!command.ok()) return command.status();
    if (opened_) {
      host_.CommandFrom(sink_.get(), *std::move(command));
      return absl::OkStatus();
    }
    if (!std::holds_alternative<WelcomeCommand>(command->body)) {
      return absl::FailedPreconditionError(
          "the first command of a stream: expected a Welcome");
    }
    opened_ = true;
    host_.OpenStream(sink_, *std::move(command));
    return absl::OkStatus();
  }

  void End(grpc::Status status) {
    host_.CloseStream(sink_.get());
    writer_->Finish(std::move(status));
  }

  AgentHost& host_;
  const std::shared_ptr<Writer> writer_;
  const std::shared_ptr<Sink> sink_;
  v1::Command command_;
  bool opened_ = false;  // by the read reactions alone
};

}  // namespace

grpc::ServerBidiReactor<v1::Command, v1::AgentEvent>*
AgentServiceImpl::CommandStream(grpc::CallbackServerContext*) {
  return new CommandReactor(host_);
}

}  // namespace sluice::agent
