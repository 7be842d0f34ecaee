#include "coordinator/core/event_log.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace sluice::coordinator {

void EventLog::Add(absl::string_view kind, absl::string_view subject,
                   std::string message) {
  ring_.push_back(StatusEvent{++revision_, context_.now, std::string(kind),
                              std::string(subject), std::move(message)});
  while (static_cast<int64_t>(ring_.size()) >
         context_.options.max_kept_events) {
    ring_.pop_front();
  }
}

std::vector<StatusEvent> EventLog::Recent(int64_t max) const {
  const int64_t size = static_cast<int64_t>(ring_.size());
  const int64_t count = std::clamp<int64_t>(max, 0, size);
  return std::vector<StatusEvent>(ring_.end() - count, ring_.end());
}

std::vector<StatusEvent> EventLog::After(uint64_t revision) const {
  return Recent(static_cast<int64_t>(revision_ - revision));
}

void EventLog::Watch(const WatchEventsRequest& request) {
  // Zero means "from now on".
  const uint64_t after =
      request.after_revision == 0 ? revision_ : request.after_revision;
  const uint64_t oldest = revision_ - ring_.size();  // just before the ring
  if (after > revision_ || after < oldest) {
    context_.ReplyError(
        request.call,
        absl::OutOfRangeError(absl::StrCat(
            "events after revision ", after, " are not kept: expected ", oldest,
            " to ", revision_, "; start again from GetStatus")));
    return;
  }
  if (after < revision_) {
    context_.ReplyOk(request.call, WatchEventsReply{After(after)});
    return;
  }
  watches_.emplace_back(request.call, after);
}

void EventLog::CallerGone(CallId call) {
  std::erase_if(watches_, [call](const auto& w) { return w.first == call; });
}

void EventLog::Flush() {
  std::erase_if(watches_, [this](const auto& watch) {
    if (watch.second == revision_) return false;
    context_.ReplyOk(watch.first, WatchEventsReply{After(watch.second)});
    return true;
  });
}

}  // namespace sluice::coordinator
