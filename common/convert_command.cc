#include "common/convert_command.h"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/convert_layout.h"
#include "common/convert_limits.h"
#include "common/convert_plan.h"
#include "common/convert_repeated.h"
#include "common/convert_tensor.h"
#include "common/convert_time.h"
#include "common/status_macros.h"

namespace sluice {
namespace {

constexpr auto kParse = [](const auto& proto) { return FromProto(proto); };
constexpr int kLastStatusCode = 16;

// --- command bodies to proto -------------------------------------------------

void Fill(const WelcomeCommand& body, Epoch epoch, v1::Command& proto) {
  v1::WelcomeCommand& welcome = *proto.mutable_welcome();
  welcome.set_epoch(epoch.value());
  welcome.set_cluster_id(body.cluster_id);
  welcome.set_rank(body.rank.value());
  welcome.set_incarnation(body.incarnation.value());
}
void Fill(const DefinePlacementCommand& body, Epoch, v1::Command& proto) {
  *proto.mutable_define_placement()->mutable_definition() =
      ToProto(body.definition);
}
void Fill(const RemovePlacementCommand& body, Epoch, v1::Command& proto) {
  *proto.mutable_remove_placement()->mutable_placement() =
      ToProto(body.placement);
}
void Fill(const SetPeersCommand& body, Epoch, v1::Command& proto) {
  AppendProtos(body.peers, *proto.mutable_set_peers()->mutable_peers());
}
void Fill(const LoadCommand& body, Epoch, v1::Command& proto) {
  v1::LoadCommand& load = *proto.mutable_load();
  load.set_operation(body.operation.value());
  *load.mutable_placement() = ToProto(body.placement);
  load.set_directory(body.directory);
  *load.mutable_deadline() = ToProto(body.deadline);
}
void Fill(const PrepareCommand& body, Epoch, v1::Command& proto) {
  v1::PrepareCommand& prepare = *proto.mutable_prepare();
  prepare.set_operation(body.operation.value());
  prepare.set_part_digest(body.part_digest);
  if (body.part != nullptr) *prepare.mutable_part() = ToProto(*body.part);
  if (!body.source.model.empty()) {
    *prepare.mutable_source() = ToProto(body.source);
  }
  prepare.set_version(body.version.value());
  AppendProtos(body.destinations, *prepare.mutable_destinations());
  prepare.set_digests(body.digests);
  prepare.set_staging_bytes(body.staging_bytes);
  *prepare.mutable_wait_deadline() = ToProto(body.wait_deadline);
  *prepare.mutable_progress_timeout() = ToProto(body.progress_timeout);
  *prepare.mutable_deadline() = ToProto(body.deadline);
  if (!body.group.members.empty()) {
    prepare.mutable_group()->set_name(body.group.name);
    for (const MessageGroup::Member& member : body.group.members) {
      auto* const added = prepare.mutable_group()->add_members();
      added->set_rank(member.rank.value());
      added->set_incarnation(member.incarnation.value());
    }
  }
}
void Fill(const ExecuteCommand& body, Epoch, v1::Command& proto) {
  proto.mutable_execute()->set_operation(body.operation.value());
}
void Fill(const CommitCommand& body, Epoch, v1::Command& proto) {
  proto.mutable_commit()->set_operation(body.operation.value());
  proto.mutable_commit()->set_version(body.version.value());
}
void Fill(const AbortCommand& body, Epoch, v1::Command& proto) {
  proto.mutable_abort()->set_operation(body.operation.value());
  *proto.mutable_abort()->mutable_reason() = ToOutcome(body.reason);
}
void Fill(const ReleaseCommand& body, Epoch, v1::Command& proto) {
  proto.mutable_release()->set_operation(body.operation.value());
}
void Fill(const ReadDigestsCommand& body, Epoch, v1::Command& proto) {
  v1::ReadDigestsCommand& read = *proto.mutable_read_digests();
  read.set_operation(body.operation.value());
  *read.mutable_placement() = ToProto(body.placement);
  read.set_version(body.version.value());
  for (const DType dtype : body.dtypes) read.add_dtypes(ToProto(dtype));
}
void Fill(const ClearSamplesCommand& body, Epoch, v1::Command& proto) {
  v1::ClearSamplesCommand& clear = *proto.mutable_clear_samples();
  clear.mutable_sample_ids()->Add(body.sample_ids.begin(),
                                  body.sample_ids.end());
  clear.mutable_keys()->Add(body.keys.begin(), body.keys.end());
}
void Fill(const EventAck& body, Epoch, v1::Command& proto) {
  v1::EventAck& ack = *proto.mutable_event_ack();
  ack.set_event_id(body.event_id);
  *ack.mutable_outcome() = ToOutcome(body.outcome);
  ack.set_version(body.version.value());
}
void Fill(const VersionAssignedCommand& body, Epoch, v1::Command& proto) {
  v1::VersionAssignedCommand& assigned = *proto.mutable_version_assigned();
  *assigned.mutable_placement() = ToProto(body.placement);
  assigned.set_step(body.step);
  assigned.set_version(body.version.value());
}

// --- command bodies from proto -----------------------------------------------

absl::StatusOr<CommandBody> Parse(const v1::WelcomeCommand& proto) {
  WelcomeCommand body;
  SLUICE_RETURN_IF_ERROR(
      CheckText("cluster_id", proto.cluster_id(), kMaxClusterIdBytes));
  body.cluster_id = proto.cluster_id();
  SLUICE_RETURN_IF_ERROR(CheckNotNegative("rank", proto.rank()));
  body.rank = Rank(proto.rank());
  body.incarnation = Incarnation(proto.incarnation());
  return body;
}
absl::StatusOr<CommandBody> Parse(const v1::DefinePlacementCommand& proto) {
  DefinePlacementCommand body;
  SLUICE_ASSIGN_OR_RETURN(body.definition, FromProto(proto.definition()));
  return body;
}
absl::StatusOr<CommandBody> Parse(const v1::RemovePlacementCommand& proto) {
  RemovePlacementCommand body;
  SLUICE_ASSIGN_OR_RETURN(body.placement, FromProto(proto.placement()));
  return body;
}
absl::StatusOr<CommandBody> Parse(const v1::SetPeersCommand& proto) {
  SetPeersCommand body;
  SLUICE_RETURN_IF_ERROR(
      ParseRepeated("peers", proto.peers(), kMaxPeers, kParse, body.peers));
  return body;
}
absl::StatusOr<CommandBody> Parse(const v1::LoadCommand& proto) {
  LoadCommand body;
  body.operation = OperationId(proto.operation());
  SLUICE_ASSIGN_OR_RETURN(body.placement, FromProto(proto.placement()));
  SLUICE_RETURN_IF_ERROR(
      CheckName("directory", proto.directory(), kMaxPathBytes));
  body.directory = proto.directory();
  SLUICE_ASSIGN_OR_RETURN(body.deadline,
                          DurationFromProto("deadline", proto.deadline()));
  return body;
}
absl::StatusOr<MessageGroup> ParseGroup(const v1::MessageGroup& proto) {
  MessageGroup group;
  if (proto.members().empty()) return group;
  SLUICE_RETURN_IF_ERROR(CheckName("group", proto.name(), kMaxAgentNameBytes));
  group.name = proto.name();
  if (proto.members_size() > kMaxPeers) {
    return absl::InvalidArgumentError(
        absl::StrCat("group: expected at most ", kMaxPeers, " members, found ",
                     proto.members_size()));
  }
  for (const auto& member : proto.members()) {
    group.members.push_back(
        {Rank(member.rank()), Incarnation(member.incarnation())});
    if (member.rank() >= 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("group: expected ranks from 0, found ", member.rank()));
  }
  return group;
}
absl::StatusOr<CommandBody> Parse(const v1::PrepareCommand& proto) {
  PrepareCommand body;
  body.operation = OperationId(proto.operation());
  body.part_digest = proto.part_digest();
  if (proto.has_part()) {
    absl::StatusOr<PlanPart> part = FromProto(proto.part());
    if (!part.ok()) return Annotate(part.status(), "part");
    body.part = std::make_shared<const PlanPart>(*std::move(part));
  }
  if (proto.has_source()) {
    SLUICE_ASSIGN_OR_RETURN(body.source, FromProto(proto.source()));
  }
  body.version = Version(proto.version());
  SLUICE_RETURN_IF_ERROR(ParseRepeated("destinations", proto.destinations(),
                                       kMaxDestinations, kParse,
                                       body.destinations));
  body.digests = proto.digests();
  SLUICE_RETURN_IF_ERROR(
      CheckNotNegative("staging_bytes", proto.staging_bytes()));
  body.staging_bytes = proto.staging_bytes();
  SLUICE_ASSIGN_OR_RETURN(
      body.wait_deadline,
      DurationFromProto("wait_deadline", proto.wait_deadline()));
  SLUICE_ASSIGN_OR_RETURN(
      body.progress_timeout,
      DurationFromProto("progress_timeout", proto.progress_timeout()));
  SLUICE_ASSIGN_OR_RETURN(body.deadline,
                          DurationFromProto("deadline", proto.deadline()));
  SLUICE_ASSIGN_OR_RETURN(body.group, ParseGroup(proto.group()));
  return body;
}
absl::StatusOr<CommandBody> Parse(const v1::ExecuteCommand& proto) {
  return ExecuteCommand{OperationId(proto.operation())};
}
absl::StatusOr<CommandBody> Parse(const v1::CommitCommand& proto) {
  return CommitCommand{OperationId(proto.operation()),
                       Version(proto.version())};
}
absl::StatusOr<CommandBody> Parse(const v1::AbortCommand& proto) {
  AbortCommand body;
  body.operation = OperationId(proto.operation());
  SLUICE_RETURN_IF_ERROR(ParseOutcome(proto.reason(), body.reason));
  return body;
}
absl::StatusOr<CommandBody> Parse(const v1::ReleaseCommand& proto) {
  return ReleaseCommand{OperationId(proto.operation())};
}
absl::StatusOr<CommandBody> Parse(const v1::ReadDigestsCommand& proto) {
  ReadDigestsCommand body;
  body.operation = OperationId(proto.operation());
  SLUICE_ASSIGN_OR_RETURN(body.placement, FromProto(proto.placement()));
  body.version = Version(proto.version());
  SLUICE_RETURN_IF_ERROR(ParseRepeated(
      "dtypes", proto.dtypes(), kMaxTensors,
      [](int dtype) { return FromProto(static_cast<v1::DType>(dtype)); },
      body.dtypes));
  return body;
}
absl::StatusOr<CommandBody> Parse(const v1::ClearSamplesCommand& proto) {
  ClearSamplesCommand body;
  SLUICE_RETURN_IF_ERROR(ParseNames("sample_ids", proto.sample_ids(),
                                    kMaxSampleEntries, kMaxSampleIdBytes,
                                    body.sample_ids));
  SLUICE_RETURN_IF_ERROR(
      ParseNames("keys", proto.keys(), kMaxSampleIds, kMaxKeyBytes, body.keys));
  return body;
}
absl::StatusOr<CommandBody> Parse(const v1::EventAck& proto) {
  EventAck body;
  body.event_id = proto.event_id();
  SLUICE_RETURN_IF_ERROR(ParseOutcome(proto.outcome(), body.outcome));
  body.version = Version(proto.version());
  return body;
}
absl::StatusOr<CommandBody> Parse(const v1::VersionAssignedCommand& proto) {
  VersionAssignedCommand body;
  SLUICE_ASSIGN_OR_RETURN(body.placement, FromProto(proto.placement()));
  SLUICE_RETURN_IF_ERROR(CheckNotNegative("step", proto.step()));
  body.step = proto.step();
  body.version = Version(proto.version());
  return body;
}

absl::StatusOr<CommandBody> ParseBody(const v1::Command& proto) {
  switch (proto.body_case()) {
    case v1::Command::kWelcome:
      return Parse(proto.welcome());
    case v1::Command::kDefinePlacement:
      return Parse(proto.define_placement());
    case v1::Command::kRemovePlacement:
      return Parse(proto.remove_placement());
    case v1::Command::kSetPeers:
      return Parse(proto.set_peers());
    case v1::Command::kLoad:
      return Parse(proto.load());
    case v1::Command::kPrepare:
      return Parse(proto.prepare());
    case v1::Command::kExecute:
      return Parse(proto.execute());
    case v1::Command::kCommit:
      return Parse(proto.commit());
    case v1::Command::kAbort:
      return Parse(proto.abort());
    case v1::Command::kRelease:
      return Parse(proto.release());
    case v1::Command::kReadDigests:
      return Parse(proto.read_digests());
    case v1::Command::kClearSamples:
      return Parse(proto.clear_samples());
    case v1::Command::kEventAck:
      return Parse(proto.event_ack());
    case v1::Command::kVersionAssigned:
      return Parse(proto.version_assigned());
    case v1::Command::BODY_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError(
      "body: expected a known command, found none");
}

}  // namespace

v1::Outcome ToOutcome(const absl::Status& status) {
  v1::Outcome proto;
  proto.set_code(static_cast<int32_t>(status.code()));
  proto.set_message(SafeText(status.message(), kMaxOutcomeMessageBytes));
  return proto;
}

v1::Storage ToProto(Storage storage) {
  return static_cast<v1::Storage>(storage);
}

v1::PlacementRef ToProto(const PlacementRef& ref) {
  v1::PlacementRef proto;
  proto.set_model(ref.model);
  proto.set_placement(ref.placement);
  proto.set_generation(ref.generation);
  return proto;
}

v1::PlacementDefinition ToProto(const PlacementDefinition& definition) {
  v1::PlacementDefinition proto;
  proto.set_model(definition.ref.model);
  proto.set_placement(definition.ref.placement);
  proto.set_generation(definition.ref.generation);
  *proto.mutable_mesh() = ToProto(definition.mesh, definition.agents);
  for (const Rank rank : definition.mesh.ranks) proto.add_ranks(rank.value());
  if (definition.layout != nullptr) {
    *proto.mutable_layout() = ToProto(*definition.layout);
  }
  proto.set_mesh_index(definition.mesh_index);
  proto.set_storage(ToProto(definition.storage));
  if (definition.spec != nullptr) {
    *proto.mutable_spec() = ToProto(*definition.spec);
  }
  return proto;
}

v1::Peer ToProto(const Peer& peer) {
  v1::Peer proto;
  proto.set_rank(peer.rank.value());
  proto.set_name(peer.name);
  proto.set_node(peer.node);
  proto.set_incarnation(peer.incarnation.value());
  proto.set_network_address(peer.network_address);
  proto.set_socket_path(peer.socket_path);
  proto.set_device(peer.device);
  return proto;
}

v1::Command ToProto(const Command& command) {
  v1::Command proto;
  proto.set_command_id(command.id.value());
  proto.set_epoch(command.epoch.value());
  std::visit([&](const auto& body) { Fill(body, command.epoch, proto); },
             command.body);
  return proto;
}

absl::Status ParseOutcome(const v1::Outcome& proto, absl::Status& outcome) {
  SLUICE_RETURN_IF_ERROR(CheckRange("code", proto.code(), 0, kLastStatusCode));
  SLUICE_RETURN_IF_ERROR(
      CheckCount("message bytes", static_cast<int64_t>(proto.message().size()),
                 kMaxOutcomeMessageBytes));
  outcome = absl::Status(static_cast<absl::StatusCode>(proto.code()),
                         proto.message());
  return absl::OkStatus();
}

absl::StatusOr<Storage> FromProto(v1::Storage proto) {
  if (!v1::Storage_IsValid(proto) || proto == v1::STORAGE_UNSPECIFIED) {
    return absl::InvalidArgumentError(
        absl::StrCat("storage: expected ARENA, HOST_ARENA or LENT, found ",
                     static_cast<int>(proto)));
  }
  return static_cast<Storage>(proto);
}

absl::StatusOr<PlacementRef> FromProto(const v1::PlacementRef& proto) {
  SLUICE_RETURN_IF_ERROR(CheckName("model", proto.model(), kMaxModelNameBytes));
  SLUICE_RETURN_IF_ERROR(
      CheckName("placement", proto.placement(), kMaxPlacementNameBytes));
  return PlacementRef{proto.model(), proto.placement(), proto.generation()};
}

absl::StatusOr<PlacementDefinition> FromProto(
    const v1::PlacementDefinition& proto) {
  PlacementDefinition definition;
  SLUICE_RETURN_IF_ERROR(CheckName("model", proto.model(), kMaxModelNameBytes));
  SLUICE_RETURN_IF_ERROR(
      CheckName("placement", proto.placement(), kMaxPlacementNameBytes));
  definition.ref = {proto.model(), proto.placement(), proto.generation()};
  absl::StatusOr<ModelSpec> spec = FromProto(proto.spec());
  if (!spec.ok()) return Annotate(spec.status(), "spec");
  definition.spec = std::make_shared<const ModelSpec>(*std::move(spec));
  absl::StatusOr<Layout> layout = FromProto(proto.layout());
  if (!layout.ok()) return Annotate(layout.status(), "layout");
  definition.layout = std::make_shared<const Layout>(*std::move(layout));
  absl::StatusOr<NamedMesh> mesh = FromProto(proto.mesh());
  if (!mesh.ok()) return Annotate(mesh.status(), "mesh");
  definition.agents = std::move(mesh->agents);
  definition.mesh.axes = std::move(mesh->axes);
  for (const int32_t rank : proto.ranks()) {
    definition.mesh.ranks.push_back(Rank(rank));
  }
  SLUICE_RETURN_IF_ERROR(Annotate(definition.mesh.Validate(), "ranks"));
  SLUICE_RETURN_IF_ERROR(CheckRange("mesh_index", proto.mesh_index(), 0,
                                    definition.mesh.size() - 1));
  definition.mesh_index = proto.mesh_index();
  SLUICE_ASSIGN_OR_RETURN(definition.storage, FromProto(proto.storage()));
  return definition;
}

absl::StatusOr<Peer> FromProto(const v1::Peer& proto) {
  Peer peer;
  SLUICE_RETURN_IF_ERROR(CheckNotNegative("rank", proto.rank()));
  peer.rank = Rank(proto.rank());
  SLUICE_RETURN_IF_ERROR(CheckName("name", proto.name(), kMaxAgentNameBytes));
  peer.name = proto.name();
  SLUICE_RETURN_IF_ERROR(CheckText("node", proto.node(), kMaxNodeNameBytes));
  peer.node = proto.node();
  peer.incarnation = Incarnation(proto.incarnation());
  // Opaque bytes: only their number is checked.
  SLUICE_RETURN_IF_ERROR(
      CheckCount("network_address bytes",
                 static_cast<int64_t>(proto.network_address().size()),
                 kMaxNetworkAddressBytes));
  peer.network_address = proto.network_address();
  SLUICE_RETURN_IF_ERROR(
      CheckText("socket_path", proto.socket_path(), kMaxPathBytes));
  peer.socket_path = proto.socket_path();
  SLUICE_RETURN_IF_ERROR(
      CheckText("device", proto.device(), kMaxAgentNameBytes));
  peer.device = proto.device();
  return peer;
}

absl::StatusOr<Command> FromProto(const v1::Command& proto) {
  absl::StatusOr<CommandBody> body = ParseBody(proto);
  if (!body.ok()) {
    return Annotate(body.status(),
                    absl::StrCat("command ", proto.command_id()));
  }
  return Command{CommandId(proto.command_id()), Epoch(proto.epoch()),
                 *std::move(body)};
}

}  // namespace sluice
