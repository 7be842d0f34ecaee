#include "agent/core/samples.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "agent/core/lookups.h"
#include "agent/core/news.h"
#include "agent/core/stream.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

absl::Status Reserve(CoreState& state, const ReserveSamplesRequest& request) {
  SLUICE_RETURN_IF_ERROR(CheckSession(state, request.session));
  SLUICE_RETURN_IF_ERROR(state.samples.CheckNew(request.entries));
  std::vector<int64_t> sizes;
  for (const SampleEntry& entry : request.entries) {
    sizes.push_back(entry.num_bytes());
  }
  absl::StatusOr<std::vector<SampleBlockPtr>> blocks =
      state.arena.Allocate(sizes, state.out);
  if (!blocks.ok()) {
    return Annotate(blocks.status(),
                    absl::StrCat("agent ", state.options.name));
  }
  Reservation reservation;
  reservation.session = request.session;
  reservation.call = request.call;
  for (size_t i = 0; i < request.entries.size(); ++i) {
    reservation.tensors.push_back(std::make_shared<const SampleTensor>(
        SampleTensor{request.entries[i], (*blocks)[i], /*owned=*/true}));
  }
  state.samples.Reserve(std::move(reservation));
  return absl::OkStatus();
}

// Ready when all are; failed with the first reason.
BufferTable::Readiness ReadinessOf(const CoreState& state,
                                   const Reservation& reservation,
                                   absl::Status* reason) {
  for (const SampleTensorPtr& tensor : reservation.tensors) {
    const BufferId buffer = tensor->block->buffer;
    const auto readiness = state.buffers.readiness(buffer);
    if (readiness == BufferTable::Readiness::kReady) continue;
    if (readiness == BufferTable::Readiness::kFailed) {
      *reason = state.buffers.failure(buffer);
    }
    return readiness;
  }
  return BufferTable::Readiness::kReady;
}

absl::Status CommitSamples(CoreState& state,
                           const CommitSamplesRequest& request) {
  SLUICE_RETURN_IF_ERROR(CheckSession(state, request.session));
  Reservation* reservation = state.samples.FindReservation(request.reservation);
  if (reservation == nullptr) {
    // A repeated call whose first answer got lost.
    if (state.samples.WasKept(request.reservation)) {
      state.out.Respond(request.call, absl::OkStatus(), CommitSamplesReply{});
      return absl::OkStatus();
    }
  } else if (reservation->session == request.session && reservation->placed) {
    if (reservation->event_id == 0) {
      TellSamples(state, request.reservation, request.call);
      return absl::OkStatus();
    }
    News& news = state.news.at(reservation->event_id);
    if (news.call.has_value()) {
      return absl::FailedPreconditionError(
          absl::StrCat("reservation ", request.reservation.value(),
                       " is being committed by another call"));
    }
    news.call = request.call;
    news.call_until = state.now + state.options.ack_deadline;
    return absl::OkStatus();
  }
  return absl::NotFoundError(
      absl::StrCat("reservation ", request.reservation.value(),
                   " is not known on agent ", state.options.name));
}

absl::StatusOr<GetSamplesReply> GetSamples(const CoreState& state,
                                           const GetSamplesRequest& request) {
  SLUICE_RETURN_IF_ERROR(CheckSession(state, request.session));
  GetSamplesReply reply;
  for (const std::string& id : request.sample_ids) {
    const std::vector<std::string> keys =
        request.keys.empty() ? state.samples.KeysOf(id) : request.keys;
    if (keys.empty()) {
      return absl::NotFoundError(absl::StrCat(
          "sample ", id, " is not held on agent ", state.options.name));
    }
    for (const std::string& key : keys) {
      const SampleTensorPtr tensor =
          state.samples.Find(id, key, /*with_committed=*/false);
      if (tensor == nullptr) {
        return absl::NotFoundError(absl::StrCat(
            SampleName(id, key), " is not held on agent ", state.options.name));
      }
      reply.places.push_back(tensor->Place());
    }
  }
  return reply;
}

}  // namespace

void OnReserveSamples(CoreState& state, const ReserveSamplesRequest& request) {
  const absl::Status status = Reserve(state, request);
  if (!status.ok()) {
    state.out.Respond(request.call, status, ReserveSamplesReply{});
  }
}

void OnCommitSamples(CoreState& state, const CommitSamplesRequest& request) {
  const absl::Status status = CommitSamples(state, request);
  if (!status.ok()) {
    state.out.Respond(request.call, status, CommitSamplesReply{});
  }
}

void OnGetSamples(CoreState& state, const GetSamplesRequest& request) {
  absl::StatusOr<GetSamplesReply> reply = GetSamples(state, request);
  state.out.Respond(request.call, reply.status(),
                    reply.ok() ? *std::move(reply) : GetSamplesReply{});
}

void OnClearSamples(CoreState& state, const Command& command,
                    const ClearSamplesCommand& clear) {
  for (const std::string& id : clear.sample_ids) {
    state.samples.Clear(id, clear.keys);
  }
  Answer(state, command.epoch, command.id, absl::OkStatus());
}

bool PlaceReservations(CoreState& state) {
  bool any = false;
  auto& reservations = state.samples.reservations();
  for (auto it = reservations.begin(); it != reservations.end();) {
    const ReservationId id = it->first;
    Reservation& reservation = it->second;
    ++it;
    if (reservation.placed) continue;
    absl::Status reason;
    const auto readiness = ReadinessOf(state, reservation, &reason);
    if (readiness == BufferTable::Readiness::kPending) continue;
    any = true;
    ReserveSamplesReply reply;
    if (reason.ok()) {
      reservation.placed = true;
      reply.reservation = id;
      for (const SampleTensorPtr& tensor : reservation.tensors) {
        reply.places.push_back(tensor->Place());
      }
    }
    state.out.Respond(*reservation.call, reason, std::move(reply));
    reservation.call.reset();
    if (!reason.ok()) state.samples.EndReservation(id, /*keep=*/false);
  }
  return any;
}

void DropReservations(CoreState& state, SessionId session) {
  auto& reservations = state.samples.reservations();
  for (auto it = reservations.begin(); it != reservations.end();) {
    const ReservationId id = it->first;
    const Reservation& reservation = it->second;
    ++it;
    // What was committed is whole: the coordinator's ack decides.
    if (reservation.session != session || reservation.event_id != 0) continue;
    if (reservation.call.has_value()) {
      state.out.Respond(*reservation.call,
                        absl::CancelledError("the session ended"),
                        ReserveSamplesReply{});
    }
    state.samples.EndReservation(id, /*keep=*/false);
  }
}

void ForgetReserveCall(CoreState& state, CallId call) {
  auto& reservations = state.samples.reservations();
  for (auto it = reservations.begin(); it != reservations.end();) {
    const ReservationId id = it->first;
    const bool gone = !it->second.placed && it->second.call == call;
    ++it;
    if (gone) state.samples.EndReservation(id, /*keep=*/false);
  }
}

}  // namespace sluice::agent
