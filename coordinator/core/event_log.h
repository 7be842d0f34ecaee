#ifndef SLUICE_COORDINATOR_CORE_EVENT_LOG_H_
#define SLUICE_COORDINATOR_CORE_EVENT_LOG_H_

// The ring of recent events that people and monitors see, with revisions and
// waiting watchers.

#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "coordinator/core/core_context.h"

namespace sluice::coordinator {

// Invariant: revisions of kept events are consecutive, the newest is the
// number of events ever added in this life.
class EventLog {
 public:
  explicit EventLog(CoreContext& context) : context_(context) {}

  void Add(absl::string_view kind, absl::string_view subject,
           std::string message);
  // Returns at most `max` newest events, oldest first.
  std::vector<StatusEvent> Recent(int64_t max) const;
  // Answers the call with all kept events after the revision, at once or when
  // there is one. Errors: OUT_OF_RANGE - events after it are gone, or the
  // revision is of another life of the coordinator.
  void Watch(const WatchEventsRequest& request);
  // The caller of a waiting watch is gone.
  void CallerGone(CallId call);
  // Answers waiting watches; at the end of each step.
  void Flush();

 private:
  std::vector<StatusEvent> After(uint64_t revision) const;

  CoreContext& context_;
  uint64_t revision_ = 0;
  std::deque<StatusEvent> ring_;
  std::vector<std::pair<CallId, uint64_t>> watches_;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_EVENT_LOG_H_
