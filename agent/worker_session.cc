// WorkerService.Session: an attached worker and the news it gets.

#include <memory>
#include <utility>
#include <variant>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "agent/stream_writer.h"
#include "agent/worker_service.h"
#include "common/convert_limits.h"
#include "common/logging.h"
#include "common/mutex.h"
#include "common/status_grpc.h"

namespace sluice::agent {
namespace {

// News waiting for a worker that does not read.
constexpr size_t kMaxQueuedNews = 10'000;

using Writer = StreamWriter<v1::SessionEvent>;

void SendNews(Writer& writer, SessionId session, const TellVersion& news) {
  v1::SessionEvent event;
  event.mutable_version()->set_model(news.model);
  event.mutable_version()->set_placement(news.placement);
  event.mutable_version()->set_version(news.version.value());
  if (news.lender == session) {
    event.mutable_version()->set_lent(true);
    event.mutable_version()->set_overwrite(news.overwrite);
  }
  writer.Send(std::move(event));
}

class SessionReactor final : public grpc::ServerWriteReactor<v1::SessionEvent> {
 public:
  SessionReactor(WorkerServiceImpl::Deps deps,
                 const WorkerServiceImpl::Identity& identity,
                 const v1::SessionRequest& request)
      : deps_(deps),
        identity_(identity),
        worker_(request.worker()),
        writer_(std::make_shared<Writer>(
            Writer::Calls{
                [this](const v1::SessionEvent* event) { StartWrite(event); },
                [this](grpc::Status status) { Finish(std::move(status)); }},
            kMaxQueuedNews)) {
    const absl::Status valid =
        CheckName("worker", worker_, kMaxWorkerNameBytes);
    if (!valid.ok()) {
      writer_->Finish(ToGrpcStatus(valid));
      return;
    }
    call_ = deps_.host.Call(
        [worker = worker_, pid = request.pid()](CallId call) -> Event {
          return AttachRequest{call, worker, pid};
        },
        [this](const absl::Status& status, const ReplyBody& body) {
          OnAttached(status, body);
        });
  }

  void OnWriteDone(bool ok) override { writer_->OnWriteDone(ok); }

  void OnCancel() override {
    SessionId session;
    bool answered;
    {
      MutexLock lock(mutex_);
      gone_ = true;
      answered = answered_;
      session = session_;
    }
    if (!answered) {
      deps_.host.Abandon(call_);  // answers, which finishes
      return;
    }
    Leave(session);
    writer_->Finish(grpc::Status::CANCELLED);
  }

  void OnDone() override {
    SessionId session;
    {
      MutexLock lock(mutex_);
      session = session_;
    }
    // Ended by the agent, not by the worker.
    Leave(session);
    delete this;
  }

 private:
  // On the host's thread.
  void OnAttached(const absl::Status& status, const ReplyBody& body) {
    if (!status.ok()) {
      {
        MutexLock lock(mutex_);
        answered_ = true;
      }
      writer_->Finish(ToGrpcStatus(status));
      return;
    }
    const SessionId session = std::get<AttachReply>(body).session;
    deps_.descriptors.AddSession(Wire(session));
    // The callbacks may outlive the reactor: they hold its writer alone.
    deps_.host.AddSession(
        session, {[writer = writer_, session](const TellVersion& news) {
                    SendNews(*writer, session, news);
                  },
                  [writer = writer_](const absl::Status& reason) {
                    writer->Finish(ToGrpcStatus(reason));
                  }});
    v1::SessionEvent event;
    v1::Attached* attached = event.mutable_attached();
    attached->set_session(Wire(session).value());
    attached->set_agent(identity_.name);
    attached->set_rank(deps_.host.rank().value());
    attached->set_incarnation(identity_.incarnation.value());
    attached->set_descriptor_socket(identity_.descriptor_socket);
    writer_->Send(std::move(event));
    LogInfo("worker attached", {{"worker", worker_}, {"session", session}});
    bool gone;
    {
      MutexLock lock(mutex_);
      answered_ = true;
      session_ = session;
      gone = gone_;
    }
    // Cancelled while the host answered: OnCancel has abandoned a call that was
    // answered, so the end is ours.
    if (gone) {
      Leave(session);
      writer_->Finish(grpc::Status::CANCELLED);
    }
  }

  // Ends the session here; once.
  void Leave(SessionId session) {
    {
      MutexLock lock(mutex_);
      if (session == SessionId() || left_) return;
      left_ = true;
    }
    LogInfo("worker detached", {{"worker", worker_}, {"session", session}});
    deps_.descriptors.RemoveSession(Wire(session));
    deps_.reduce_groups.EndSession(
        Wire(session).value(),
        absl::UnavailableError(absl::StrCat("worker ", worker_, " of ",
                                            identity_.name, " has gone")));
    deps_.host.RemoveSession(session);
  }

  SessionId Wire(SessionId session) const {
    return SessionId(session.value() ^ identity_.incarnation.value());
  }

  const WorkerServiceImpl::Deps deps_;
  const WorkerServiceImpl::Identity& identity_;  // the service's
  const std::string worker_;
  const std::shared_ptr<Writer> writer_;
  // Set before the method returns, so before any reaction.
  CallId call_;
  Mutex mutex_;
  bool answered_ ABSL_GUARDED_BY(mutex_) = false;
  bool gone_ ABSL_GUARDED_BY(mutex_) = false;
  SessionId session_ ABSL_GUARDED_BY(mutex_);
  bool left_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

grpc::ServerWriteReactor<v1::SessionEvent>* WorkerServiceImpl::Session(
    grpc::CallbackServerContext*, const v1::SessionRequest* request) {
  return new SessionReactor(deps_, identity_, *request);
}

}  // namespace sluice::agent
