#ifndef SLUICE_COMMON_CONVERT_COMMAND_H_
#define SLUICE_COMMON_CONVERT_COMMAND_H_

// proto/sluice/v1/command.proto <-> common/command.h: what travels on the
// command stream, both ways.
//
// Errors of every FromProto: INVALID_ARGUMENT - names the field by its path,
// what was expected and what was found.

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/command.h"
#include "proto/sluice/v1/command.pb.h"

namespace sluice {

// Code and message; the message is made valid UTF-8 of at most
// kMaxOutcomeMessageBytes. Payloads are not carried.
v1::Outcome ToOutcome(const absl::Status& status);
v1::Storage ToProto(Storage storage);
v1::PlacementRef ToProto(const PlacementRef& ref);
v1::PlacementDefinition ToProto(const PlacementDefinition& definition);
v1::Peer ToProto(const Peer& peer);
v1::Command ToProto(const Command& command);
v1::CopyInventory ToProto(const CopyInventory& copy);
v1::PlacementInventory ToProto(const PlacementInventory& placement);
v1::PartStats ToProto(const PartStats& stats);
v1::BoxDigest ToProto(const BoxDigest& digest);
v1::AgentEvent ToProto(const AgentEvent& event);

// Sets `outcome`. A code out of range is refused.
absl::Status ParseOutcome(const v1::Outcome& proto, absl::Status& outcome);
// Unspecified and unknown are refused.
absl::StatusOr<Storage> FromProto(v1::Storage proto);
// Model and placement are named.
absl::StatusOr<PlacementRef> FromProto(const v1::PlacementRef& proto);
// Model, layout and mesh are checked each by itself; mesh_index is in the mesh.
absl::StatusOr<PlacementDefinition> FromProto(
    const v1::PlacementDefinition& proto);
absl::StatusOr<Peer> FromProto(const v1::Peer& proto);
// A body that is unset or unknown is refused.
absl::StatusOr<Command> FromProto(const v1::Command& proto);
absl::StatusOr<CopyInventory> FromProto(const v1::CopyInventory& proto);
absl::StatusOr<PlacementInventory> FromProto(
    const v1::PlacementInventory& proto);
absl::StatusOr<PartStats> FromProto(const v1::PartStats& proto);
absl::StatusOr<BoxDigest> FromProto(const v1::BoxDigest& proto);
// A body that is unset or unknown is refused.
absl::StatusOr<AgentEvent> FromProto(const v1::AgentEvent& proto);

}  // namespace sluice

#endif  // SLUICE_COMMON_CONVERT_COMMAND_H_
