#include "agent/core/pins.h"

#include <optional>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "agent/core/lookups.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

constexpr absl::Duration kDefaultPinWait = absl::Seconds(2);

absl::Status NotHeld(const CoreState& state, const Placement& placement,
                     Version version, absl::string_view why) {
  const std::string what =
      version == Version()
          ? std::string("no version")
          : absl::StrCat("version ", version.value(), " is not held");
  return absl::NotFoundError(absl::StrCat("placement ", placement.Name(),
                                          " on agent ", state.options.name,
                                          ": ", what, why));
}

bool WriterWaits(const CoreState& state, const Placement& placement) {
  for (const WaitingWriter& writer : state.writers) {
    if (writer.placement.get() == &placement) return true;
  }
  return false;
}

PinReply Give(CoreState& state, const WaitingPin& waiting, int index) {
  const Placement& placement = *waiting.placement;
  Copy& copy = waiting.placement->copies.copy(index);
  const PinId id(state.next_pin++);
  const SessionId session = waiting.request.session;
  copy.pins.emplace(id, state.sessions.at(session).worker);
  state.buffers.Hold(copy.buffer);
  state.pins.emplace(id,
                     HeldPin{session, {waiting.placement, index}, copy.buffer});
  return {id, copy.version, copy.buffer, copy.offset_bytes,
          placement.layout->buffer_bytes};
}

// nullopt: waits on.
std::optional<absl::StatusOr<PinReply>> TryGive(CoreState& state,
                                                const WaitingPin& waiting) {
  const Placement& placement = *waiting.placement;
  const Version version = waiting.request.version;
  if (placement.removed) {
    return absl::StatusOr<PinReply>(
        NotHeld(state, placement, version, ": the placement was removed"));
  }
  const std::optional<int> index =
      version == Version() ? placement.copies.current()
                           : placement.copies.FindPublished(version);
  if (index.has_value()) {
    // A new pin may not hold up for ever whoever waits to overwrite the copy.
    if (!placement.copies.copy(*index).wanted_by.empty() ||
        WriterWaits(state, placement)) {
      return absl::StatusOr<PinReply>(NotHeld(
          state, placement, version, ": the copy is about to be overwritten"));
    }
    return absl::StatusOr<PinReply>(Give(state, waiting, *index));
  }
  if (!placement.copies.MayBecome(version)) {
    return absl::StatusOr<PinReply>(NotHeld(state, placement, version, ""));
  }
  if (state.now < waiting.until) return std::nullopt;
  return absl::StatusOr<PinReply>(absl::UnavailableError(absl::StrCat(
      "placement ", placement.Name(), " on agent ", state.options.name,
      ": version ", version.value(), " is staged and not decided yet")));
}

void Unpin(CoreState& state, std::map<PinId, HeldPin>::iterator it) {
  it->second.copy.copy().pins.erase(it->first);
  state.buffers.Unhold(it->second.buffer);
  state.pins.erase(it);
}

}  // namespace

void OnPin(CoreState& state, const PinRequest& request) {
  absl::Status status = CheckSession(state, request.session);
  if (status.ok()) {
    const absl::StatusOr<PlacementPtr> placement =
        FindPlacement(state, request.model, request.placement);
    status = placement.status();
    if (status.ok()) {
      const absl::Duration wait = request.deadline > absl::ZeroDuration()
                                      ? request.deadline
                                      : kDefaultPinWait;
      state.waiting_pins.push_back({request, *placement, state.now + wait});
      return;
    }
  }
  state.out.Respond(request.call, status, PinReply{});
}

void OnUnpin(CoreState& state, const UnpinRequest& request) {
  absl::Status status = CheckSession(state, request.session);
  if (status.ok()) {
    const auto it = state.pins.find(request.pin);
    if (it == state.pins.end() || it->second.session != request.session) {
      status = absl::NotFoundError(
          absl::StrCat("pin ", request.pin.value(), " is not held by worker ",
                       state.sessions.at(request.session).worker));
    } else {
      Unpin(state, it);
    }
  }
  state.out.Respond(request.call, status, UnpinReply{});
}

bool GivePins(CoreState& state) {
  bool any = false;
  for (size_t i = 0; i < state.waiting_pins.size();) {
    const WaitingPin waiting = state.waiting_pins[i];
    auto outcome = TryGive(state, waiting);
    if (!outcome.has_value()) {
      ++i;
      continue;
    }
    state.waiting_pins.erase(state.waiting_pins.begin() +
                             static_cast<ptrdiff_t>(i));
    state.out.Respond(waiting.request.call, outcome->status(),
                      outcome->ok() ? **outcome : PinReply{});
    any = true;
  }
  return any;
}

void ReleasePins(CoreState& state, SessionId session) {
  for (auto it = state.pins.begin(); it != state.pins.end();) {
    const auto next = std::next(it);
    if (it->second.session == session) Unpin(state, it);
    it = next;
  }
  for (size_t i = 0; i < state.waiting_pins.size();) {
    const WaitingPin& waiting = state.waiting_pins[i];
    if (waiting.request.session != session) {
      ++i;
      continue;
    }
    state.out.Respond(waiting.request.call,
                      absl::CancelledError("the session ended"), PinReply{});
    state.waiting_pins.erase(state.waiting_pins.begin() +
                             static_cast<ptrdiff_t>(i));
  }
}

void ForgetPinCall(CoreState& state, CallId call) {
  for (size_t i = 0; i < state.waiting_pins.size(); ++i) {
    if (state.waiting_pins[i].request.call != call) continue;
    state.waiting_pins.erase(state.waiting_pins.begin() +
                             static_cast<ptrdiff_t>(i));
    return;
  }
}

}  // namespace sluice::agent
