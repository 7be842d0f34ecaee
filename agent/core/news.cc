#include "agent/core/news.h"

#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "agent/core/placements.h"

namespace sluice::agent {
namespace {

// Where nobody listens for long, only the last change of a placement is worth
// keeping: the inventory tells the state anyway.
void DropSuperseded(CoreState& state, const PlacementRef& ref) {
  for (auto it = state.news.begin(); it != state.news.end();) {
    const auto* write = std::get_if<WriteEvent>(&it->second.body);
    const bool superseded = write != nullptr && write->placement == ref &&
                            !it->second.call.has_value();
    it = superseded ? state.news.erase(it) : std::next(it);
  }
}

uint64_t Add(CoreState& state, News news) {
  const uint64_t id = state.next_event_id++;
  news.call_until = state.now + state.options.ack_deadline;
  state.out.Tell(news.body, id);
  state.news.emplace(id, std::move(news));
  return id;
}

void Finish(CoreState& state, const News& news, const absl::Status& status,
            ReplyBody body) {
  if (news.call.has_value()) {
    state.out.Respond(*news.call, status, std::move(body));
  }
}

// The coordinator does not take the claim: the memory was not lent.
void TakeBackLent(CoreState& state, const News& news) {
  Placement& placement = *news.placement;
  const Copy& copy = placement.copies.copy(0);
  if (placement.removed || copy.buffer != news.lent || !copy.Users().empty() ||
      placement.bracket.has_value()) {
    return;
  }
  const Version told = placement.copies.current_version();
  state.buffers.Doom(copy.buffer);
  placement.copies.Replace(BufferId(), 0, Version(), 0);
  placement.lender = SessionId();
  TellCurrentVersion(state, placement, told);
}

void FinishWrite(CoreState& state, const News& news, const WriteEvent& event,
                 const EventAck& ack) {
  switch (event.kind) {
    case WriteEvent::Kind::kUnspecified:
    case WriteEvent::Kind::kBegun:
    case WriteEvent::Kind::kTorn:
      return;
    case WriteEvent::Kind::kLent:
      if (!ack.outcome.ok()) TakeBackLent(state, news);
      Finish(state, news, ack.outcome, LendMemoryReply{});
      return;
    case WriteEvent::Kind::kEnded:
      if (ack.outcome.ok() && ack.version != Version()) {
        AssignVersion(state, *news.placement, event.step, ack.version);
      }
      Finish(state, news, ack.outcome, EndWriteReply{ack.version});
      return;
  }
}

}  // namespace

void TellWrite(CoreState& state, const PlacementPtr& placement,
               WriteEvent event, std::optional<CallId> call) {
  if (!state.out.connected()) DropSuperseded(state, placement->ref());
  event.placement = placement->ref();
  News news;
  if (event.kind == WriteEvent::Kind::kLent) {
    news.lent = placement->copies.copy(0).buffer;
  }
  news.body = std::move(event);
  news.call = call;
  news.placement = placement;
  Add(state, std::move(news));
}

void TellSamples(CoreState& state, ReservationId id, CallId call) {
  Reservation& reservation = *state.samples.FindReservation(id);
  SamplesAddedEvent event;
  for (const SampleTensorPtr& tensor : reservation.tensors) {
    event.entries.push_back(tensor->entry);
  }
  News news;
  news.body = std::move(event);
  news.call = call;
  news.reservation = id;
  reservation.event_id = Add(state, std::move(news));
}

bool AwaitEnded(CoreState& state, const PlacementPtr& placement, int64_t step,
                CallId call) {
  for (auto& [id, news] : state.news) {
    const auto* write = std::get_if<WriteEvent>(&news.body);
    if (write == nullptr || news.placement != placement ||
        write->kind != WriteEvent::Kind::kEnded || write->step != step) {
      continue;
    }
    if (news.call.has_value()) {
      Finish(state, news,
             absl::CancelledError("another call waits for the same step"),
             EndWriteReply{});
    }
    news.call = call;
    news.call_until = state.now + state.options.ack_deadline;
    return true;
  }
  return false;
}

void OnEventAck(CoreState& state, const EventAck& ack) {
  const auto it = state.news.find(ack.event_id);
  if (it == state.news.end()) return;
  const News news = std::move(it->second);
  state.news.erase(it);
  if (const auto* write = std::get_if<WriteEvent>(&news.body)) {
    FinishWrite(state, news, *write, ack);
  } else {
    state.samples.EndReservation(news.reservation, ack.outcome.ok());
    Finish(state, news, ack.outcome, CommitSamplesReply{});
  }
}

bool ExpireNews(CoreState& state) {
  bool any = false;
  for (auto& [id, news] : state.news) {
    if (!news.call.has_value() || state.now < news.call_until) continue;
    Finish(state, news,
           absl::UnavailableError(
               absl::StrCat("agent ", state.options.name,
                            ": the coordinator has not answered within ",
                            absl::FormatDuration(state.options.ack_deadline),
                            "; the change is kept, repeat the call")),
           EndWriteReply{});
    news.call.reset();
    any = true;
  }
  return any;
}

void ForgetNewsCall(CoreState& state, CallId call) {
  for (auto& [id, news] : state.news) {
    if (news.call == call) news.call.reset();
  }
}

}  // namespace sluice::agent
