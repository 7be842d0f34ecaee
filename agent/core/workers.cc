#include "agent/core/workers.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "agent/core/lookups.h"
#include "agent/core/news.h"
#include "agent/core/operations.h"
#include "agent/core/overwrites.h"
#include "agent/core/pins.h"
#include "agent/core/placements.h"
#include "agent/core/samples.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

constexpr size_t kMaxWorkerName = 128;
constexpr absl::Duration kDefaultBeginWait = absl::Seconds(10);

absl::StatusOr<SessionId> Attach(CoreState& state,
                                 const AttachRequest& request) {
  if (request.worker.empty() || request.worker.size() > kMaxWorkerName) {
    return absl::InvalidArgumentError(
        absl::StrCat("worker's name: expected 1 to ", kMaxWorkerName,
                     " bytes, got ", request.worker.size()));
  }
  for (const auto& [id, session] : state.sessions) {
    if (session.worker != request.worker) continue;
    return absl::AlreadyExistsError(
        absl::StrCat("worker ", request.worker, " is attached to agent ",
                     state.options.name, " already"));
  }
  const SessionId id(state.next_session++);
  state.sessions.emplace(id, Session{request.worker});
  return id;
}

// Errors: FAILED_PRECONDITION - not lent memory, or another worker's.
absl::Status CheckLender(const CoreState& state, const Placement& placement,
                         SessionId session) {
  if (!placement.lent()) {
    return absl::FailedPreconditionError(
        absl::StrCat("placement ", placement.Name(),
                     " is in the agent's own memory, not in lent memory"));
  }
  if (placement.lender != session) {
    return absl::FailedPreconditionError(absl::StrCat(
        "placement ", placement.Name(), " on agent ", state.options.name,
        placement.lender == SessionId()
            ? std::string(": no attached worker has lent its memory")
            : absl::StrCat(": the memory is lent by worker ",
                           placement.lender_name)));
  }
  return absl::OkStatus();
}

absl::StatusOr<PlacementPtr> CheckLend(const CoreState& state,
                                       const LendMemoryRequest& request) {
  SLUICE_RETURN_IF_ERROR(CheckSession(state, request.session));
  SLUICE_ASSIGN_OR_RETURN(
      const PlacementPtr placement,
      FindPlacement(state, request.model, request.placement));
  if (!placement->lent()) return CheckLender(state, *placement, SessionId());
  const int64_t needed = placement->layout->buffer_bytes;
  if (request.offset_bytes < 0 || request.buffer_bytes < needed) {
    return absl::InvalidArgumentError(absl::StrCat(
        "placement ", placement->Name(), " needs ", needed, " bytes on agent ",
        state.options.name, ", ", request.buffer_bytes,
        " were lent from offset ", request.offset_bytes));
  }
  if (request.step < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("step: expected at least 0, got ", request.step));
  }
  if (placement->lender != SessionId() &&
      placement->lender != request.session) {
    return CheckLender(state, *placement, request.session);
  }
  const std::string users = placement->copies.copy(0).Users();
  if (!users.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("placement ", placement->Name(), " on agent ",
                     state.options.name, ": the memory is used by ", users));
  }
  return placement;
}

absl::Status CheckBegin(CoreState& state, const BeginWriteRequest& request) {
  SLUICE_RETURN_IF_ERROR(CheckSession(state, request.session));
  SLUICE_ASSIGN_OR_RETURN(
      const PlacementPtr placement,
      FindPlacement(state, request.model, request.placement));
  SLUICE_RETURN_IF_ERROR(CheckLender(state, *placement, request.session));
  bool open = placement->bracket.has_value();
  for (const WaitingWriter& writer : state.writers) {
    open = open || writer.placement == placement;
  }
  if (open) {
    return absl::FailedPreconditionError(absl::StrCat(
        "placement ", placement->Name(), " on agent ", state.options.name,
        ": a write bracket is open or waits to be"));
  }
  const absl::Duration wait = request.deadline > absl::ZeroDuration()
                                  ? request.deadline
                                  : kDefaultBeginWait;
  state.writers.push_back({request, placement, state.now + wait});
  return absl::OkStatus();
}

void OpenBracket(CoreState& state, const WaitingWriter& writer) {
  Placement& placement = *writer.placement;
  const Version told = placement.copies.current_version();
  const Version content = placement.copies.copy(0).version;
  if (content != Version()) {
    state.out.Add(ForgetContent{placement.ContentKey(content)});
  }
  placement.copies.BeginWrite();
  ForgetOverwrite(placement);
  const SessionId session = writer.request.session;
  const std::string& worker = state.sessions.at(session).worker;
  placement.bracket = Bracket{session, worker};
  WriteEvent event;
  event.kind = WriteEvent::Kind::kBegun;
  event.worker = worker;
  TellWrite(state, writer.placement, std::move(event), std::nullopt);
  TellCurrentVersion(state, placement, told);
  state.out.Respond(writer.request.call, absl::OkStatus(), BeginWriteReply{});
}

// nullopt: waits on.
std::optional<absl::Status> TryOpen(CoreState& state,
                                    const WaitingWriter& writer) {
  const Placement& placement = *writer.placement;
  if (placement.removed) {
    return absl::NotFoundError(
        absl::StrCat("placement ", placement.Name(), " was removed"));
  }
  const std::string users = placement.copies.copy(0).Users();
  if (users.empty()) {
    OpenBracket(state, writer);
    return absl::OkStatus();
  }
  if (state.now < writer.until) return std::nullopt;
  return absl::DeadlineExceededError(
      absl::StrCat("placement ", placement.Name(), " on agent ",
                   state.options.name, " is still used by ", users));
}

// Repeats the answer of a bracket that was closed by an earlier call.
bool AnswerClosed(CoreState& state, const PlacementPtr& placement,
                  const EndWriteRequest& request) {
  const Copy& copy = placement->copies.copy(0);
  if (placement->lender != request.session ||
      copy.state != CopyState::kPublished || request.step == 0 ||
      copy.step != request.step) {
    return false;
  }
  if (copy.version == Version() &&
      AwaitEnded(state, placement, request.step, request.call)) {
    return true;
  }
  state.out.Respond(request.call, absl::OkStatus(),
                    EndWriteReply{copy.version});
  return true;
}

absl::Status EndWrite(CoreState& state, const EndWriteRequest& request) {
  SLUICE_RETURN_IF_ERROR(CheckSession(state, request.session));
  SLUICE_ASSIGN_OR_RETURN(
      const PlacementPtr placement,
      FindPlacement(state, request.model, request.placement));
  if (!placement->bracket.has_value() ||
      placement->bracket->session != request.session) {
    if (AnswerClosed(state, placement, request)) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(
        "placement ", placement->Name(), " on agent ", state.options.name,
        ": worker ", state.sessions.at(request.session).worker,
        " has no open write bracket"));
  }
  if (request.step <= placement->last_step) {
    return absl::InvalidArgumentError(absl::StrCat(
        "placement ", placement->Name(), ": step: expected more than ",
        placement->last_step, ", got ", request.step));
  }
  placement->last_step = request.step;
  WriteEvent event;
  event.kind = WriteEvent::Kind::kEnded;
  event.step = request.step;
  event.worker = placement->bracket->worker;
  placement->copies.EndWrite(request.step);
  placement->bracket.reset();
  TellWrite(state, placement, std::move(event), request.call);
  return absl::OkStatus();
}

void TearBrackets(CoreState& state, SessionId session) {
  for (const PlacementPtr& placement : state.placements.All()) {
    if (placement->lender == session) {
      placement->lender = SessionId();
      ForgetOverwrite(*placement);
    }
    if (!placement->bracket.has_value() ||
        placement->bracket->session != session) {
      continue;
    }
    placement->copies.Tear();
    WriteEvent event;
    event.kind = WriteEvent::Kind::kTorn;
    event.worker = placement->bracket->worker;
    placement->bracket.reset();
    TellWrite(state, placement, std::move(event), std::nullopt);
  }
}

void EndMemory(CoreState& state, SessionId session) {
  for (const PlacementPtr& placement : state.placements.All()) {
    if (placement->lender != session || !placement->ends_with_worker ||
        placement->copies.copy(0).buffer == BufferId()) {
      continue;
    }
    StopUsersOf(state, *placement);
    state.ended_memory.push_back(placement);
  }
}

// What still reads it holds the buffer.
void LoseMemory(CoreState& state, const PlacementPtr& placement) {
  const Copy& copy = placement->copies.copy(0);
  const Version told = placement->copies.current_version();
  const bool had_content = copy.state == CopyState::kPublished;
  if (copy.version != Version()) {
    state.out.Add(ForgetContent{placement->ContentKey(copy.version)});
  }
  state.buffers.Doom(copy.buffer);
  placement->copies.Lose();
  if (had_content) {
    WriteEvent event;
    event.kind = WriteEvent::Kind::kTorn;
    event.worker = placement->lender_name;
    TellWrite(state, placement, std::move(event), std::nullopt);
  }
  TellCurrentVersion(state, *placement, told);
}

template <typename Matches>
void DropWriters(CoreState& state, Matches matches) {
  for (auto it = state.writers.begin(); it != state.writers.end();) {
    it = matches(*it) ? state.writers.erase(it) : it + 1;
  }
}

void TellWorkers(CoreState& state) {
  WorkersEvent event;
  for (const auto& [id, session] : state.sessions) {
    event.workers.push_back(session.worker);
  }
  state.out.Tell(std::move(event));
}

}  // namespace

void OnAttach(CoreState& state, const AttachRequest& request) {
  const absl::StatusOr<SessionId> session = Attach(state, request);
  if (session.ok()) TellWorkers(state);
  state.out.Respond(request.call, session.status(),
                    AttachReply{session.value_or(SessionId())});
}

void OnSessionGone(CoreState& state, const SessionGoneEvent& event) {
  if (state.sessions.erase(event.session) == 0) return;
  TellWorkers(state);
  DropWriters(state, [&](const WaitingWriter& writer) {
    if (writer.request.session != event.session) return false;
    state.out.Respond(writer.request.call,
                      absl::CancelledError("the session ended"),
                      BeginWriteReply{});
    return true;
  });
  EndMemory(state, event.session);
  TearBrackets(state, event.session);
  ReleasePins(state, event.session);
  DropReservations(state, event.session);
}

void OnCallerGone(CoreState& state, const CallerGoneEvent& event) {
  DropWriters(state, [&](const WaitingWriter& writer) {
    return writer.request.call == event.call;
  });
  ForgetPinCall(state, event.call);
  ForgetReserveCall(state, event.call);
  ForgetNewsCall(state, event.call);
}

void OnLendMemory(CoreState& state, const LendMemoryRequest& request) {
  const absl::StatusOr<PlacementPtr> checked = CheckLend(state, request);
  if (!checked.ok()) {
    state.out.Add(FreeBuffer{request.buffer});
    state.out.Respond(request.call, checked.status(), LendMemoryReply{});
    return;
  }
  const PlacementPtr& placement = *checked;
  const Version told = placement->copies.current_version();
  const BufferId before = placement->copies.copy(0).buffer;
  if (before != BufferId()) state.buffers.Doom(before);
  state.buffers.Adopt(request.buffer, request.buffer_bytes);
  if (request.version != Version()) {
    state.out.Add(ForgetContent{placement->ContentKey(request.version)});
  }
  placement->copies.Replace(request.buffer, request.offset_bytes,
                            request.version, request.step);
  placement->lender = request.session;
  placement->lender_name = state.sessions.at(request.session).worker;
  placement->ends_with_worker = request.ends_with_worker;
  placement->last_step = request.step;
  ForgetOverwrite(*placement);
  WriteEvent event;
  event.kind = WriteEvent::Kind::kLent;
  event.step = request.step;
  event.version = request.version;
  event.worker = placement->lender_name;
  TellWrite(state, placement, std::move(event), request.call);
  TellCurrentVersion(state, *placement, told);
}

void OnBeginWrite(CoreState& state, const BeginWriteRequest& request) {
  const absl::Status status = CheckBegin(state, request);
  if (!status.ok()) {
    state.out.Respond(request.call, status, BeginWriteReply{});
  }
}

void OnEndWrite(CoreState& state, const EndWriteRequest& request) {
  const absl::Status status = EndWrite(state, request);
  if (!status.ok()) {
    state.out.Respond(request.call, status, EndWriteReply{});
  }
}

bool DropEndedMemory(CoreState& state) {
  bool any = false;
  for (auto it = state.ended_memory.begin(); it != state.ended_memory.end();) {
    const PlacementPtr placement = *it;
    if (!placement->removed && placement->copies.copy(0).occupied()) {
      ++it;
      continue;
    }
    it = state.ended_memory.erase(it);
    if (placement->removed) continue;  // went with the placement
    LoseMemory(state, placement);
    any = true;
  }
  return any;
}

bool OpenBrackets(CoreState& state) {
  bool any = false;
  for (size_t i = 0; i < state.writers.size();) {
    const WaitingWriter writer = state.writers[i];
    const std::optional<absl::Status> outcome = TryOpen(state, writer);
    if (!outcome.has_value()) {
      ++i;
      continue;
    }
    state.writers.erase(state.writers.begin() + static_cast<ptrdiff_t>(i));
    if (!outcome->ok()) {
      state.out.Respond(writer.request.call, *outcome, BeginWriteReply{});
    }
    any = true;
  }
  return any;
}

}  // namespace sluice::agent
