#include "common/convert_plan.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/convert_limits.h"
#include "common/convert_repeated.h"
#include "common/convert_tensor.h"
#include "common/status_macros.h"

namespace sluice {
namespace {

constexpr auto kParse = [](const auto& proto) { return FromProto(proto); };
constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();
constexpr int64_t kMaxInt64 = std::numeric_limits<int64_t>::max();

bool IsZero(const LinkBytes& bytes) {
  return std::all_of(bytes.begin(), bytes.end(),
                     [](int64_t b) { return b == 0; });
}

LinkBytes At(const std::vector<LinkBytes>& bytes, size_t rank) {
  return rank < bytes.size() ? bytes[rank] : LinkBytes{};
}

// What a transfer moves: tensors with a box, or samples.
absl::Status ParseContent(const v1::Transfer& proto, Transfer& transfer) {
  const bool tensors = proto.tensors_size() > 0;
  if (tensors == (proto.samples_size() > 0)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "expected tensors or samples, found ", proto.tensors_size(),
        " runs of tensors and ", proto.samples_size(), " samples"));
  }
  if (!tensors) {
    if (proto.wire_dtype() != v1::DTYPE_UNSPECIFIED) {
      return absl::InvalidArgumentError(
          absl::StrCat("wire_dtype: expected none for samples, found ",
                       static_cast<int>(proto.wire_dtype())));
    }
    SLUICE_RETURN_IF_ERROR(
        CheckCount("samples", proto.samples_size(), kMaxSampleEntries));
    transfer.samples.assign(proto.samples().begin(), proto.samples().end());
    return absl::OkStatus();
  }
  const absl::StatusOr<DType> wire = FromProto(proto.wire_dtype());
  if (!wire.ok()) return Annotate(wire.status(), "wire_dtype");
  transfer.wire_dtype = *wire;
  SLUICE_ASSIGN_OR_RETURN(transfer.params.box, FromProto(proto.box()));
  SLUICE_RETURN_IF_ERROR(ParseRepeated("tensors", proto.tensors(), kMaxTensors,
                                       kParse, transfer.params.tensors));
  int64_t total = 0;
  for (const TensorRun& run : transfer.params.tensors) total += run.count;
  return CheckCount("tensors", total, kMaxTensors);
}

absl::Status CheckPart(const PlanPart& part) {
  for (size_t i = 0; i < part.transfers.size(); ++i) {
    const Transfer& transfer = part.transfers[i];
    const std::string where = absl::StrCat("transfers[", i, "]: ");
    const int64_t last = int64_t{part.num_plan_transfers} - 1;
    SLUICE_RETURN_IF_ERROR(
        CheckRange(absl::StrCat(where, "id"), transfer.id, 0, last));
    if (transfer.reads_after.has_value()) {
      SLUICE_RETURN_IF_ERROR(CheckRange(absl::StrCat(where, "reads_after"),
                                        *transfer.reads_after, 0, last));
    }
    for (const uint32_t sample : transfer.samples) {
      SLUICE_RETURN_IF_ERROR(
          CheckRange(absl::StrCat(where, "samples"), sample, 0,
                     static_cast<int64_t>(part.entries.size()) - 1));
    }
  }
  return absl::OkStatus();
}

}  // namespace

v1::TransferKind ToProto(TransferKind kind) {
  return static_cast<v1::TransferKind>(kind);
}

v1::LinkClass ToProto(LinkClass link) {
  return static_cast<v1::LinkClass>(link);
}

v1::LinkBytes ToProto(const LinkBytes& bytes) {
  v1::LinkBytes proto;
  proto.set_same_device(bytes[0]);
  proto.set_same_node(bytes[1]);
  proto.set_between_nodes(bytes[2]);
  return proto;
}

v1::TensorRun ToProto(const TensorRun& run) {
  v1::TensorRun proto;
  proto.set_first(run.first);
  proto.set_count(run.count);
  proto.set_step(run.step);
  return proto;
}

v1::Transfer ToProto(const Transfer& transfer) {
  v1::Transfer proto;
  proto.set_id(transfer.id);
  proto.set_round(transfer.round);
  proto.set_kind(ToProto(transfer.kind));
  proto.set_collective(transfer.collective);
  proto.set_source(transfer.source.value());
  proto.set_destination(transfer.destination.value());
  proto.set_link(ToProto(transfer.link));
  proto.set_destination_placement(transfer.destination_placement);
  if (transfer.reads_after.has_value()) {
    proto.set_reads_after(*transfer.reads_after);
  }
  proto.set_bytes(transfer.bytes);
  proto.set_wire_dtype(ToProto(transfer.wire_dtype));
  if (!transfer.params.tensors.empty()) {
    *proto.mutable_box() = ToProto(transfer.params.box);
    AppendProtos(transfer.params.tensors, *proto.mutable_tensors());
  }
  proto.mutable_samples()->Add(transfer.samples.begin(),
                               transfer.samples.end());
  return proto;
}

v1::PlanPart ToProto(const PlanPart& part) {
  v1::PlanPart proto;
  proto.set_digest(part.digest);
  proto.set_num_plan_transfers(part.num_plan_transfers);
  AppendProtos(part.transfers, *proto.mutable_transfers());
  AppendProtos(part.entries, *proto.mutable_entries());
  return proto;
}

v1::Certificate ToProto(const Certificate& certificate,
                        absl::Span<const std::string> agent_of_rank) {
  v1::Certificate proto;
  *proto.mutable_bytes() = ToProto(certificate.bytes);
  const size_t ranks =
      std::max(certificate.bytes_in.size(), certificate.bytes_out.size());
  for (size_t r = 0; r < ranks; ++r) {
    const LinkBytes in = At(certificate.bytes_in, r);
    const LinkBytes out = At(certificate.bytes_out, r);
    if (IsZero(in) && IsZero(out)) continue;
    v1::RankBytes& rank = *proto.add_ranks();
    rank.set_rank(static_cast<int32_t>(r));
    if (r < agent_of_rank.size()) rank.set_agent(agent_of_rank[r]);
    *rank.mutable_in() = ToProto(in);
    *rank.mutable_out() = ToProto(out);
  }
  proto.set_wasted_bytes(certificate.wasted_bytes);
  proto.set_peak_staging_bytes(certificate.peak_staging_bytes);
  proto.set_rounds(certificate.rounds);
  proto.set_transfers(certificate.num_transfers);
  proto.set_lower_bound_bytes(certificate.lower_bound_bytes);
  proto.set_max_link_bytes(certificate.max_link_bytes);
  proto.set_bound_ratio(certificate.bound_ratio);
  return proto;
}

absl::StatusOr<TransferKind> FromProto(v1::TransferKind proto) {
  if (!v1::TransferKind_IsValid(proto) ||
      proto == v1::TRANSFER_KIND_UNSPECIFIED) {
    return absl::InvalidArgumentError(absl::StrCat(
        "kind: expected a known kind, found ", static_cast<int>(proto)));
  }
  return static_cast<TransferKind>(proto);
}

absl::StatusOr<LinkClass> FromProto(v1::LinkClass proto) {
  if (!v1::LinkClass_IsValid(proto)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "link: expected a known class, found ", static_cast<int>(proto)));
  }
  return static_cast<LinkClass>(proto);
}

absl::StatusOr<LinkBytes> FromProto(const v1::LinkBytes& proto) {
  const LinkBytes bytes = {proto.same_device(), proto.same_node(),
                           proto.between_nodes()};
  int64_t sum = 0;
  for (const int64_t b : bytes) {
    SLUICE_RETURN_IF_ERROR(CheckNotNegative("bytes", b));
    if (__builtin_add_overflow(sum, b, &sum)) {
      return absl::InvalidArgumentError(
          "bytes: expected a sum below 2^63, found more");
    }
  }
  return bytes;
}

absl::StatusOr<TensorRun> FromProto(const v1::TensorRun& proto) {
  SLUICE_RETURN_IF_ERROR(
      CheckRange("first", proto.first(), 0, kMaxTensors - 1));
  SLUICE_RETURN_IF_ERROR(CheckRange("count", proto.count(), 1, kMaxTensors));
  SLUICE_RETURN_IF_ERROR(CheckRange("step", proto.step(), 1, kMaxTensors));
  // No overflow: each factor is below 2^21.
  const int64_t last =
      proto.first() + int64_t{proto.count() - 1} * proto.step();
  SLUICE_RETURN_IF_ERROR(CheckRange("last tensor", last, 0, kMaxTensors - 1));
  return TensorRun{proto.first(), proto.count(), proto.step()};
}

absl::StatusOr<Transfer> FromProto(const v1::Transfer& proto) {
  Transfer transfer;
  transfer.id = proto.id();
  SLUICE_RETURN_IF_ERROR(CheckNotNegative("round", proto.round()));
  transfer.round = proto.round();
  SLUICE_ASSIGN_OR_RETURN(transfer.kind, FromProto(proto.kind()));
  transfer.collective = proto.collective();
  SLUICE_RETURN_IF_ERROR(CheckNotNegative("source", proto.source()));
  transfer.source = Rank(proto.source());
  SLUICE_RETURN_IF_ERROR(CheckNotNegative("destination", proto.destination()));
  transfer.destination = Rank(proto.destination());
  SLUICE_ASSIGN_OR_RETURN(transfer.link, FromProto(proto.link()));
  SLUICE_RETURN_IF_ERROR(CheckRange("destination_placement",
                                    proto.destination_placement(), 0,
                                    kMaxDestinations - 1));
  transfer.destination_placement = proto.destination_placement();
  if (proto.has_reads_after()) transfer.reads_after = proto.reads_after();
  SLUICE_RETURN_IF_ERROR(CheckNotNegative("bytes", proto.bytes()));
  transfer.bytes = proto.bytes();
  SLUICE_RETURN_IF_ERROR(ParseContent(proto, transfer));
  return transfer;
}

absl::StatusOr<PlanPart> FromProto(const v1::PlanPart& proto) {
  PlanPart part;
  part.digest = proto.digest();
  SLUICE_RETURN_IF_ERROR(CheckCount("num_plan_transfers",
                                    proto.num_plan_transfers(), kMaxTransfers));
  part.num_plan_transfers = proto.num_plan_transfers();
  SLUICE_RETURN_IF_ERROR(ParseRepeated("transfers", proto.transfers(),
                                       kMaxTransfers, kParse, part.transfers));
  SLUICE_RETURN_IF_ERROR(ParseRepeated(
      "entries", proto.entries(), kMaxSampleEntries, kParse, part.entries));
  SLUICE_RETURN_IF_ERROR(CheckPart(part));
  return part;
}

absl::StatusOr<Certificate> FromProto(const v1::Certificate& proto) {
  Certificate certificate;
  SLUICE_ASSIGN_OR_RETURN(certificate.bytes, FromProto(proto.bytes()));
  SLUICE_RETURN_IF_ERROR(CheckCount("ranks", proto.ranks_size(), kMaxPeers));
  for (const v1::RankBytes& rank : proto.ranks()) {
    SLUICE_RETURN_IF_ERROR(CheckRange("rank", rank.rank(), 0, kMaxPeers - 1));
    const auto r = static_cast<size_t>(rank.rank());
    if (r >= certificate.bytes_in.size()) {
      certificate.bytes_in.resize(r + 1);
      certificate.bytes_out.resize(r + 1);
    }
    SLUICE_ASSIGN_OR_RETURN(certificate.bytes_in[r], FromProto(rank.in()));
    SLUICE_ASSIGN_OR_RETURN(certificate.bytes_out[r], FromProto(rank.out()));
  }
  const auto read = [](absl::string_view field, int64_t value, int64_t max,
                       auto& to) {
    to = static_cast<std::remove_reference_t<decltype(to)>>(value);
    return CheckRange(field, value, 0, max);
  };
  SLUICE_RETURN_IF_ERROR(read("wasted_bytes", proto.wasted_bytes(), kMaxInt64,
                              certificate.wasted_bytes));
  SLUICE_RETURN_IF_ERROR(read("peak_staging_bytes", proto.peak_staging_bytes(),
                              kMaxInt64, certificate.peak_staging_bytes));
  SLUICE_RETURN_IF_ERROR(
      read("rounds", proto.rounds(), kMaxInt32, certificate.rounds));
  SLUICE_RETURN_IF_ERROR(read("transfers", proto.transfers(), kMaxTransfers,
                              certificate.num_transfers));
  SLUICE_RETURN_IF_ERROR(read("lower_bound_bytes", proto.lower_bound_bytes(),
                              kMaxInt64, certificate.lower_bound_bytes));
  SLUICE_RETURN_IF_ERROR(read("max_link_bytes", proto.max_link_bytes(),
                              kMaxInt64, certificate.max_link_bytes));
  if (!std::isfinite(proto.bound_ratio()) || proto.bound_ratio() < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "bound_ratio: expected 0 or more, found ", proto.bound_ratio()));
  }
  certificate.bound_ratio = proto.bound_ratio();
  return certificate;
}

}  // namespace sluice
