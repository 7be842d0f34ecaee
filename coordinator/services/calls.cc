#include "coordinator/services/calls.h"

#include <algorithm>
#include <utility>

#include "coordinator/convert_operation.h"
#include "coordinator/services/convert_status.h"

namespace sluice::coordinator {

// --- OperationCall -----------------------------------------------------------

void OperationCall::Update(const OperationUpdate& update) {
  v1::OperationUpdate proto = ToProto(update);
  {
    MutexLock lock(mutex_);
    if (writing_) {
      next_ = std::move(proto);
      return;
    }
    writing_ = true;
    current_ = std::move(proto);
  }
  StartWrite(&current_);
}

void OperationCall::End(const absl::Status& status) {
  {
    MutexLock lock(mutex_);
    end_ = ToGrpcStatus(status);
    if (writing_) return;
  }
  Finish(ToGrpcStatus(status));
}

void OperationCall::OnWriteDone(bool ok) {
  std::optional<grpc::Status> end;
  {
    MutexLock lock(mutex_);
    // A caller that is gone takes no more; the core is told by OnCancel.
    if (!ok) next_.reset();
    if (next_.has_value()) {
      current_ = *std::exchange(next_, std::nullopt);
    } else {
      writing_ = false;
      end = end_;
      if (!end.has_value()) return;
    }
  }
  if (end.has_value()) {
    Finish(*end);
  } else {
    StartWrite(&current_);
  }
}

// --- EventsCall --------------------------------------------------------------

EventsCall::EventsCall(Host& host, uint64_t after_revision)
    : host_(host), last_revision_(after_revision) {
  Ask(after_revision);
}

void EventsCall::Ask(uint64_t after_revision) {
  CallHandlers handlers;
  handlers.reply = [this](const absl::Status& status, const ReplyBody& body) {
    OnReply(status, body);
  };
  const CallId id = host_.Call(WatchEventsRequest{CallId(), after_revision},
                               std::move(handlers));
  bool cancelled = false;
  {
    MutexLock lock(mutex_);
    // The answer may have come, and the next question been asked, already.
    call_ = std::max(call_, id);
    cancelled = cancelled_;
  }
  if (cancelled) host_.CallerGone(id);
}

void EventsCall::OnReply(const absl::Status& status, const ReplyBody& body) {
  if (!status.ok()) {
    Finish(ToGrpcStatus(status));
    return;
  }
  for (const StatusEvent& event : std::get<WatchEventsReply>(body).events) {
    events_.push_back(ToProto(event));
  }
  WriteNext();
}

void EventsCall::WriteNext() {
  if (events_.empty()) {
    Ask(last_revision_);
    return;
  }
  last_revision_ = events_.front().revision();
  StartWrite(&events_.front());
}

void EventsCall::OnWriteDone(bool ok) {
  if (!ok) {
    Finish(grpc::Status(grpc::StatusCode::CANCELLED, "the watcher is gone"));
    return;
  }
  events_.pop_front();
  WriteNext();
}

void EventsCall::OnCancel() {
  CallId call;
  {
    MutexLock lock(mutex_);
    cancelled_ = true;
    call = call_;
  }
  host_.CallerGone(call);
}

}  // namespace sluice::coordinator
