#ifndef SLUICE_AGENT_CORE_SAMPLES_H_
#define SLUICE_AGENT_CORE_SAMPLES_H_

// Samples that local workers put and get, and what the coordinator clears.

#include "agent/core/core_state.h"
#include "agent/core/events.h"
#include "common/command.h"

namespace sluice::agent {

void OnReserveSamples(CoreState& state, const ReserveSamplesRequest& request);
void OnCommitSamples(CoreState& state, const CommitSamplesRequest& request);
void OnGetSamples(CoreState& state, const GetSamplesRequest& request);
void OnClearSamples(CoreState& state, const Command& command,
                    const ClearSamplesCommand& clear);

// Answers reservations whose segments are there or cannot be made; returns
// whether there were any.
bool PlaceReservations(CoreState& state);

// The session ended: what it reserved and did not commit is dropped.
void DropReservations(CoreState& state, SessionId session);
// The caller of a waiting ReserveSamples is gone: so is its reservation.
void ForgetReserveCall(CoreState& state, CallId call);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CORE_SAMPLES_H_
