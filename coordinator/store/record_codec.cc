#include "coordinator/store/record_codec.h"

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "common/convert_command.h"
#include "common/convert_layout.h"
#include "common/convert_tensor.h"
#include "common/convert_time.h"
#include "common/status_macros.h"
#include "coordinator/convert_operation.h"
#include "proto/sluice/v1/state.pb.h"

namespace sluice::coordinator {
namespace {

constexpr absl::string_view kCluster = "cluster";
constexpr absl::string_view kAgent = "agent";
constexpr absl::string_view kModel = "model";
constexpr absl::string_view kPlacement = "placement";
constexpr absl::string_view kVersion = "version";
constexpr absl::string_view kDecision = "decision";
constexpr absl::string_view kOutcome = "outcome";

// Names hold no control character: two parts never read as two others.
std::string JoinKey(absl::string_view a, absl::string_view b) {
  return absl::StrCat(a, "\t", b);
}

// Numbers sort by value.
std::string NumberKey(uint64_t number) {
  return absl::StrFormat("%020d", number);
}

template <typename Proto>
StoreWrite Put(absl::string_view kind, std::string key, const Proto& proto) {
  return {std::string(kind), std::move(key), proto.SerializeAsString(), false};
}

StoreWrite Erase(absl::string_view kind, std::string key) {
  return {std::string(kind), std::move(key), "", true};
}

StoreWrite Encode(const ClusterRecord& record) {
  v1::ClusterRecord proto;
  proto.set_cluster_id(record.cluster_id);
  proto.set_epoch(record.epoch.value());
  proto.set_last_operation(record.last_operation.value());
  return Put(kCluster, "", proto);
}

StoreWrite Encode(const AgentRecord& record) {
  v1::AgentRecord proto;
  proto.set_name(record.name);
  proto.set_rank(record.rank.value());
  proto.set_node(record.node);
  proto.set_gone(record.gone);
  return Put(kAgent, record.name, proto);
}

StoreWrite Encode(const ModelRecord& record) {
  v1::ModelRecord proto;
  *proto.mutable_spec() = ToProto(record.spec);
  proto.set_last_version(record.last_version.value());
  return Put(kModel, record.spec.name, proto);
}

StoreWrite Encode(const PlacementRecord& record) {
  std::string key = JoinKey(record.ref.model, record.ref.placement);
  if (record.removed) return Erase(kPlacement, std::move(key));
  v1::PlacementRecord proto;
  *proto.mutable_ref() = ToProto(record.ref);
  *proto.mutable_mesh() = ToProto(record.mesh, record.agents);
  for (const Rank rank : record.mesh.ranks) proto.add_ranks(rank.value());
  *proto.mutable_layout() = ToProto(record.layout);
  proto.set_storage(ToProto(record.storage));
  return Put(kPlacement, std::move(key), proto);
}

StoreWrite Encode(const VersionRecord& record) {
  v1::VersionRecord proto;
  proto.set_model(record.model);
  proto.set_version(record.version.value());
  proto.set_placement(record.placement);
  proto.set_step(record.step);
  return Put(kVersion, JoinKey(record.model, NumberKey(record.version.value())),
             proto);
}

StoreWrite Encode(const DecisionRecord& record) {
  std::string key = NumberKey(record.operation.value());
  if (record.removed) return Erase(kDecision, std::move(key));
  v1::DecisionRecord proto;
  proto.set_operation(record.operation.value());
  proto.set_version(record.version.value());
  for (const PlacementRef& ref : record.placements) {
    *proto.add_placements() = ToProto(ref);
  }
  proto.mutable_agents()->Add(record.agents.begin(), record.agents.end());
  return Put(kDecision, std::move(key), proto);
}

StoreWrite Encode(const OutcomeRecord& record) {
  if (record.removed) return Erase(kOutcome, record.request_id);
  v1::OutcomeRecord proto;
  proto.set_request_id(record.request_id);
  *proto.mutable_status() = ToOutcome(record.status);
  proto.set_fingerprint(record.fingerprint);
  proto.set_operation(record.operation.value());
  *proto.mutable_result() = ToProto(record.result);
  *proto.mutable_expires() = sluice::ToProto(record.expires);
  proto.set_dropped(record.dropped);
  return Put(kOutcome, record.request_id, proto);
}

absl::StatusOr<Record> Decode(const v1::ClusterRecord& proto) {
  return ClusterRecord{proto.cluster_id(), Epoch(proto.epoch()),
                       OperationId(proto.last_operation())};
}

absl::StatusOr<Record> Decode(const v1::AgentRecord& proto) {
  AgentRecord record;
  record.name = proto.name();
  record.rank = Rank(proto.rank());
  record.node = proto.node();
  record.gone = proto.gone();
  return record;
}

absl::StatusOr<Record> Decode(const v1::ModelRecord& proto) {
  ModelRecord record;
  SLUICE_ASSIGN_OR_RETURN(record.spec, FromProto(proto.spec()));
  record.last_version = Version(proto.last_version());
  return record;
}

absl::StatusOr<Record> Decode(const v1::PlacementRecord& proto) {
  PlacementRecord record;
  SLUICE_ASSIGN_OR_RETURN(record.ref, FromProto(proto.ref()));
  SLUICE_ASSIGN_OR_RETURN(NamedMesh mesh, FromProto(proto.mesh()));
  record.agents = std::move(mesh.agents);
  record.mesh.axes = std::move(mesh.axes);
  for (const int32_t rank : proto.ranks()) {
    record.mesh.ranks.push_back(Rank(rank));
  }
  SLUICE_RETURN_IF_ERROR(record.mesh.Validate());
  SLUICE_ASSIGN_OR_RETURN(record.layout, FromProto(proto.layout()));
  SLUICE_ASSIGN_OR_RETURN(record.storage, FromProto(proto.storage()));
  return record;
}

absl::StatusOr<Record> Decode(const v1::VersionRecord& proto) {
  return VersionRecord{proto.model(), Version(proto.version()),
                       proto.placement(), proto.step()};
}

absl::StatusOr<Record> Decode(const v1::DecisionRecord& proto) {
  DecisionRecord record;
  record.operation = OperationId(proto.operation());
  record.version = Version(proto.version());
  for (const v1::PlacementRef& ref : proto.placements()) {
    SLUICE_ASSIGN_OR_RETURN(PlacementRef parsed, FromProto(ref));
    record.placements.push_back(std::move(parsed));
  }
  record.agents.assign(proto.agents().begin(), proto.agents().end());
  return record;
}

absl::StatusOr<Record> Decode(const v1::OutcomeRecord& proto) {
  OutcomeRecord record;
  record.request_id = proto.request_id();
  SLUICE_RETURN_IF_ERROR(ParseOutcome(proto.status(), record.status));
  record.fingerprint = proto.fingerprint();
  record.operation = OperationId(proto.operation());
  SLUICE_ASSIGN_OR_RETURN(record.result, FromProto(proto.result()));
  SLUICE_ASSIGN_OR_RETURN(record.expires,
                          TimeFromProto("expires", proto.expires()));
  record.dropped = proto.dropped();
  return record;
}

template <typename Proto>
absl::StatusOr<Record> ParseAndDecode(const StoredRecord& stored) {
  Proto proto;
  if (!proto.ParseFromString(stored.value)) {
    return absl::InvalidArgumentError("the value does not parse");
  }
  return Decode(proto);
}

using Decoder = absl::StatusOr<Record> (*)(const StoredRecord&);
struct Kind {
  absl::string_view name;
  Decoder decode;
};
// In the order of DecodeRecords.
constexpr std::array<Kind, 7> kKinds = {{
    {kCluster, &ParseAndDecode<v1::ClusterRecord>},
    {kAgent, &ParseAndDecode<v1::AgentRecord>},
    {kModel, &ParseAndDecode<v1::ModelRecord>},
    {kPlacement, &ParseAndDecode<v1::PlacementRecord>},
    {kVersion, &ParseAndDecode<v1::VersionRecord>},
    {kDecision, &ParseAndDecode<v1::DecisionRecord>},
    {kOutcome, &ParseAndDecode<v1::OutcomeRecord>},
}};
static_assert(kKinds.size() == std::variant_size_v<Record>);

}  // namespace

StoreWrite EncodeRecord(const Record& record) {
  return std::visit([](const auto& r) { return Encode(r); }, record);
}

absl::StatusOr<Record> DecodeRecord(const StoredRecord& stored) {
  for (const Kind& kind : kKinds) {
    if (kind.name != stored.kind) continue;
    absl::StatusOr<Record> record = kind.decode(stored);
    if (record.ok()) return record;
    return absl::DataLossError(absl::StrCat("stored ", stored.kind, " \"",
                                            absl::CHexEscape(stored.key),
                                            "\": ", record.status().message()));
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "the store holds records of the unknown kind \"",
      absl::CHexEscape(stored.kind), "\": it was written by a later version"));
}

absl::StatusOr<std::vector<Record>> DecodeRecords(
    absl::Span<const StoredRecord> stored) {
  std::array<std::vector<Record>, kKinds.size()> by_kind;
  for (const StoredRecord& one : stored) {
    SLUICE_ASSIGN_OR_RETURN(Record record, DecodeRecord(one));
    by_kind[record.index()].push_back(std::move(record));
  }
  std::vector<Record> records;
  for (std::vector<Record>& of_kind : by_kind) {
    for (Record& record : of_kind) records.push_back(std::move(record));
  }
  return records;
}

}  // namespace sluice::coordinator
