// The half of convert_command.h that an agent sends.

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "common/command.h"
#include "common/convert_command.h"
#include "common/convert_limits.h"
#include "common/convert_plan.h"
#include "common/convert_repeated.h"
#include "common/convert_tensor.h"
#include "common/status_macros.h"

namespace sluice {
namespace {

constexpr auto kParse = [](const auto& proto) { return FromProto(proto); };

// --- event bodies to proto ---------------------------------------------------

void Fill(const CommandResult& body, v1::AgentEvent& proto) {
  proto.mutable_result()->set_command_id(body.command.value());
  *proto.mutable_result()->mutable_outcome() = ToOutcome(body.outcome);
}
void Fill(const InventoryEvent& body, v1::AgentEvent& proto) {
  v1::InventoryEvent& inventory = *proto.mutable_inventory();
  AppendProtos(body.placements, *inventory.mutable_placements());
  AppendProtos(body.samples, *inventory.mutable_samples());
  inventory.mutable_owned()->Add(body.owned.begin(), body.owned.end());
  inventory.set_more(body.more);
  for (const OperationId id : body.operations) {
    inventory.add_operations(id.value());
  }
  for (const OperationId id : body.undecided) {
    inventory.add_undecided(id.value());
  }
  inventory.mutable_workers()->Add(body.workers.begin(), body.workers.end());
}
void Fill(const ProgressEvent& body, v1::AgentEvent& proto) {
  proto.mutable_progress()->set_operation(body.operation.value());
  proto.mutable_progress()->set_bytes_done(body.bytes_done);
}
void Fill(const VoteEvent& body, v1::AgentEvent& proto) {
  v1::VoteEvent& vote = *proto.mutable_vote();
  vote.set_operation(body.operation.value());
  *vote.mutable_outcome() = ToOutcome(body.outcome);
  *vote.mutable_stats() = ToProto(body.stats);
  vote.set_blamed(body.blamed.value());
}
void Fill(const StoppedEvent& body, v1::AgentEvent& proto) {
  proto.mutable_stopped()->set_operation(body.operation.value());
}
void Fill(const SamplesAddedEvent& body, v1::AgentEvent& proto) {
  AppendProtos(body.entries, *proto.mutable_samples_added()->mutable_entries());
}
void Fill(const WriteEvent& body, v1::AgentEvent& proto) {
  v1::WriteEvent& write = *proto.mutable_write();
  *write.mutable_placement() = ToProto(body.placement);
  write.set_kind(static_cast<v1::WriteEvent::Kind>(body.kind));
  write.set_step(body.step);
  write.set_version(body.version.value());
  write.set_worker(body.worker);
}
void Fill(const DigestsEvent& body, v1::AgentEvent& proto) {
  proto.mutable_digests()->set_operation(body.operation.value());
  AppendProtos(body.digests, *proto.mutable_digests()->mutable_digests());
}

void Fill(const WorkersEvent& body, v1::AgentEvent& proto) {
  *proto.mutable_workers()->mutable_workers() = {body.workers.begin(),
                                                 body.workers.end()};
}

// --- event bodies from proto -------------------------------------------------

absl::StatusOr<AgentEventBody> Parse(const v1::CommandResult& proto) {
  CommandResult body;
  body.command = CommandId(proto.command_id());
  SLUICE_RETURN_IF_ERROR(ParseOutcome(proto.outcome(), body.outcome));
  return body;
}

template <typename Repeated>
absl::Status ParseOperations(absl::string_view field, const Repeated& repeated,
                             std::vector<OperationId>& operations) {
  SLUICE_RETURN_IF_ERROR(CheckCount(field, repeated.size(), kMaxPlacements));
  for (const uint64_t id : repeated) operations.push_back(OperationId(id));
  return absl::OkStatus();
}

absl::StatusOr<AgentEventBody> Parse(const v1::InventoryEvent& proto) {
  InventoryEvent body;
  SLUICE_RETURN_IF_ERROR(ParseRepeated("placements", proto.placements(),
                                       kMaxPlacements, kParse,
                                       body.placements));
  SLUICE_RETURN_IF_ERROR(ParseRepeated(
      "samples", proto.samples(), kMaxSampleEntries, kParse, body.samples));
  if (proto.owned_size() != proto.samples_size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("owned: expected one per sample (", proto.samples_size(),
                     "), found ", proto.owned_size()));
  }
  body.owned.assign(proto.owned().begin(), proto.owned().end());
  body.more = proto.more();
  SLUICE_RETURN_IF_ERROR(
      ParseOperations("operations", proto.operations(), body.operations));
  SLUICE_RETURN_IF_ERROR(
      ParseOperations("undecided", proto.undecided(), body.undecided));
  SLUICE_RETURN_IF_ERROR(ParseNames("workers", proto.workers(), kMaxPeers,
                                    kMaxWorkerNameBytes, body.workers));
  return body;
}

absl::StatusOr<AgentEventBody> Parse(const v1::ProgressEvent& proto) {
  SLUICE_RETURN_IF_ERROR(CheckNotNegative("bytes_done", proto.bytes_done()));
  return ProgressEvent{OperationId(proto.operation()), proto.bytes_done()};
}

absl::StatusOr<AgentEventBody> Parse(const v1::VoteEvent& proto) {
  VoteEvent body;
  body.operation = OperationId(proto.operation());
  SLUICE_RETURN_IF_ERROR(ParseOutcome(proto.outcome(), body.outcome));
  SLUICE_ASSIGN_OR_RETURN(body.stats, FromProto(proto.stats()));
  SLUICE_RETURN_IF_ERROR(
      CheckRange("blamed", proto.blamed(), kNoRank.value(), kMaxPeers - 1));
  body.blamed = Rank(proto.blamed());
  return body;
}

absl::StatusOr<AgentEventBody> Parse(const v1::StoppedEvent& proto) {
  return StoppedEvent{OperationId(proto.operation())};
}

absl::StatusOr<AgentEventBody> Parse(const v1::SamplesAddedEvent& proto) {
  SamplesAddedEvent body;
  SLUICE_RETURN_IF_ERROR(ParseRepeated(
      "entries", proto.entries(), kMaxSampleEntries, kParse, body.entries));
  return body;
}

absl::StatusOr<AgentEventBody> Parse(const v1::WriteEvent& proto) {
  WriteEvent body;
  SLUICE_ASSIGN_OR_RETURN(body.placement, FromProto(proto.placement()));
  if (!v1::WriteEvent::Kind_IsValid(proto.kind()) ||
      proto.kind() == v1::WriteEvent::KIND_UNSPECIFIED) {
    return absl::InvalidArgumentError(absl::StrCat(
        "kind: expected a known kind, found ", static_cast<int>(proto.kind())));
  }
  body.kind = static_cast<WriteEvent::Kind>(proto.kind());
  SLUICE_RETURN_IF_ERROR(CheckNotNegative("step", proto.step()));
  body.step = proto.step();
  body.version = Version(proto.version());
  SLUICE_RETURN_IF_ERROR(
      CheckText("worker", proto.worker(), kMaxWorkerNameBytes));
  body.worker = proto.worker();
  return body;
}

absl::StatusOr<AgentEventBody> Parse(const v1::DigestsEvent& proto) {
  DigestsEvent body;
  body.operation = OperationId(proto.operation());
  SLUICE_RETURN_IF_ERROR(ParseRepeated("digests", proto.digests(), kMaxViews,
                                       kParse, body.digests));
  return body;
}

absl::StatusOr<AgentEventBody> Parse(const v1::WorkersEvent& proto) {
  WorkersEvent body;
  SLUICE_RETURN_IF_ERROR(ParseNames("workers", proto.workers(), kMaxPeers,
                                    kMaxWorkerNameBytes, body.workers));
  return body;
}

absl::StatusOr<AgentEventBody> ParseBody(const v1::AgentEvent& proto) {
  switch (proto.body_case()) {
    case v1::AgentEvent::kResult:
      return Parse(proto.result());
    case v1::AgentEvent::kInventory:
      return Parse(proto.inventory());
    case v1::AgentEvent::kProgress:
      return Parse(proto.progress());
    case v1::AgentEvent::kVote:
      return Parse(proto.vote());
    case v1::AgentEvent::kStopped:
      return Parse(proto.stopped());
    case v1::AgentEvent::kSamplesAdded:
      return Parse(proto.samples_added());
    case v1::AgentEvent::kWrite:
      return Parse(proto.write());
    case v1::AgentEvent::kDigests:
      return Parse(proto.digests());
    case v1::AgentEvent::kWorkers:
      return Parse(proto.workers());
    case v1::AgentEvent::BODY_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("body: expected a known event, found none");
}

}  // namespace

v1::CopyInventory ToProto(const CopyInventory& copy) {
  v1::CopyInventory proto;
  proto.set_state(static_cast<v1::CopyState>(copy.state));
  proto.set_version(copy.version.value());
  proto.set_operation(copy.operation.value());
  proto.set_step(copy.step);
  return proto;
}

v1::PlacementInventory ToProto(const PlacementInventory& placement) {
  v1::PlacementInventory proto;
  *proto.mutable_placement() = ToProto(placement.placement);
  AppendProtos(placement.copies, *proto.mutable_copies());
  proto.set_bytes(placement.bytes);
  proto.set_lent(placement.lent);
  return proto;
}

v1::PartStats ToProto(const PartStats& stats) {
  v1::PartStats proto;
  *proto.mutable_bytes() = ToProto(stats.bytes);
  proto.mutable_seconds()->Add(stats.seconds.begin(), stats.seconds.end());
  proto.set_digest_bytes(stats.digest_bytes);
  proto.set_digests_compared(stats.digests_compared);
  proto.set_peak_staging_bytes(stats.peak_staging_bytes);
  return proto;
}

v1::BoxDigest ToProto(const BoxDigest& digest) {
  v1::BoxDigest proto;
  proto.set_tensor(digest.tensor.value());
  *proto.mutable_box() = ToProto(digest.box);
  proto.set_lane0(digest.digest.lane0);
  proto.set_lane1(digest.digest.lane1);
  return proto;
}

v1::AgentEvent ToProto(const AgentEvent& event) {
  v1::AgentEvent proto;
  proto.set_event_id(event.event_id);
  proto.set_incarnation(event.incarnation.value());
  std::visit([&proto](const auto& body) { Fill(body, proto); }, event.body);
  return proto;
}

absl::StatusOr<CopyInventory> FromProto(const v1::CopyInventory& proto) {
  if (!v1::CopyState_IsValid(proto.state())) {
    return absl::InvalidArgumentError(
        absl::StrCat("state: expected a known state, found ",
                     static_cast<int>(proto.state())));
  }
  SLUICE_RETURN_IF_ERROR(CheckNotNegative("step", proto.step()));
  return CopyInventory{static_cast<CopyState>(proto.state()),
                       Version(proto.version()), OperationId(proto.operation()),
                       proto.step()};
}

absl::StatusOr<PlacementInventory> FromProto(
    const v1::PlacementInventory& proto) {
  PlacementInventory placement;
  SLUICE_ASSIGN_OR_RETURN(placement.placement, FromProto(proto.placement()));
  SLUICE_RETURN_IF_ERROR(ParseRepeated("copies", proto.copies(), kMaxCopies,
                                       kParse, placement.copies));
  SLUICE_RETURN_IF_ERROR(CheckNotNegative("bytes", proto.bytes()));
  placement.bytes = proto.bytes();
  placement.lent = proto.lent();
  return placement;
}

absl::StatusOr<PartStats> FromProto(const v1::PartStats& proto) {
  PartStats stats;
  SLUICE_ASSIGN_OR_RETURN(stats.bytes, FromProto(proto.bytes()));
  const int count = proto.seconds_size();
  if (count != 0 && count != kNumLinkClasses) {
    return absl::InvalidArgumentError(absl::StrCat(
        "seconds: expected ", kNumLinkClasses, " or none, found ", count));
  }
  for (int i = 0; i < count; ++i) {
    const double seconds = proto.seconds(i);
    if (!std::isfinite(seconds) || seconds < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("seconds: expected 0 or more, found ", seconds));
    }
    stats.seconds[static_cast<size_t>(i)] = seconds;
  }
  SLUICE_RETURN_IF_ERROR(
      CheckNotNegative("digest_bytes", proto.digest_bytes()));
  stats.digest_bytes = proto.digest_bytes();
  SLUICE_RETURN_IF_ERROR(
      CheckNotNegative("digests_compared", proto.digests_compared()));
  stats.digests_compared = proto.digests_compared();
  SLUICE_RETURN_IF_ERROR(
      CheckNotNegative("peak_staging_bytes", proto.peak_staging_bytes()));
  stats.peak_staging_bytes = proto.peak_staging_bytes();
  return stats;
}

absl::StatusOr<BoxDigest> FromProto(const v1::BoxDigest& proto) {
  BoxDigest digest;
  SLUICE_RETURN_IF_ERROR(
      CheckRange("tensor", proto.tensor(), 0, kMaxTensors - 1));
  digest.tensor = TensorIndex(proto.tensor());
  SLUICE_ASSIGN_OR_RETURN(digest.box, FromProto(proto.box()));
  digest.digest = {proto.lane0(), proto.lane1()};
  return digest;
}

absl::StatusOr<AgentEvent> FromProto(const v1::AgentEvent& proto) {
  absl::StatusOr<AgentEventBody> body = ParseBody(proto);
  if (!body.ok()) {
    return Annotate(body.status(), absl::StrCat("event ", proto.event_id()));
  }
  return AgentEvent{proto.event_id(), Incarnation(proto.incarnation()),
                    *std::move(body)};
}

}  // namespace sluice
