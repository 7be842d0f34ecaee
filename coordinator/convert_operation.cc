#include "coordinator/convert_operation.h"

#include <cmath>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/convert_limits.h"
#include "common/convert_time.h"
#include "common/status_macros.h"

namespace sluice::coordinator {
namespace {

absl::Status CheckSeconds(absl::string_view field, double seconds) {
  if (std::isfinite(seconds) && seconds >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": expected 0 or more, found ", seconds));
}

}  // namespace

v1::OperationKind ToProto(OperationKind kind) {
  return static_cast<v1::OperationKind>(kind);
}

v1::OperationPhase ToProto(OperationPhase phase) {
  return static_cast<v1::OperationPhase>(phase);
}

v1::OperationResult ToProto(const OperationResult& result) {
  v1::OperationResult proto;
  proto.set_version(result.version.value());
  *proto.mutable_bytes() = ToProto(result.bytes);
  proto.set_seconds(result.seconds);
  for (const auto& [phase, seconds] : result.phases) {
    v1::PhaseSeconds& entry = *proto.add_phases();
    entry.set_phase(ToProto(phase));
    entry.set_seconds(seconds);
  }
  proto.mutable_busy_seconds()->Add(result.busy_seconds.begin(),
                                    result.busy_seconds.end());
  proto.set_digest_bytes(result.digest_bytes);
  proto.set_digests_compared(result.digests_compared);
  *proto.mutable_certificate() =
      ToProto(result.certificate, result.agent_of_rank);
  proto.set_plan_reused(result.plan_reused);
  proto.set_peak_staging_bytes(result.peak_staging_bytes);
  return proto;
}

v1::OperationUpdate ToProto(const OperationUpdate& update) {
  v1::OperationUpdate proto;
  proto.set_operation(update.operation.value());
  proto.set_kind(ToProto(update.kind));
  proto.set_phase(ToProto(update.phase));
  proto.set_bytes_done(update.bytes_done);
  proto.set_bytes_total(update.bytes_total);
  proto.mutable_waiting_for()->Add(update.waiting_for.begin(),
                                   update.waiting_for.end());
  if (update.result.has_value()) {
    *proto.mutable_result() = ToProto(*update.result);
  }
  return proto;
}

v1::OperationInfo ToProto(const OperationInfo& info) {
  v1::OperationInfo proto;
  *proto.mutable_update() = ToProto(info.update);
  proto.set_description(SafeText(info.description, kMaxOutcomeMessageBytes));
  *proto.mutable_started() = sluice::ToProto(info.started);
  *proto.mutable_age() = sluice::ToProto(info.age);
  proto.set_error(SafeText(info.error, kMaxOutcomeMessageBytes));
  return proto;
}

absl::StatusOr<CallerLossPolicy> FromProto(v1::CallerLossPolicy proto) {
  if (!v1::CallerLossPolicy_IsValid(proto)) {
    return absl::InvalidArgumentError(
        absl::StrCat("on_caller_loss: expected CANCEL or DETACH, found ",
                     static_cast<int>(proto)));
  }
  return proto == v1::CALLER_LOSS_POLICY_DETACH ? CallerLossPolicy::kDetach
                                                : CallerLossPolicy::kCancel;
}

absl::StatusOr<Transport> FromProto(v1::Transport proto) {
  if (!v1::Transport_IsValid(proto)) {
    return absl::InvalidArgumentError(
        absl::StrCat("transport: expected AUTO, UCX or NCCL, found ",
                     static_cast<int>(proto)));
  }
  return proto == v1::TRANSPORT_UNSPECIFIED ? Transport::kAuto
                                            : static_cast<Transport>(proto);
}

absl::StatusOr<OperationResult> FromProto(const v1::OperationResult& proto) {
  OperationResult result;
  result.version = Version(proto.version());
  SLUICE_ASSIGN_OR_RETURN(result.bytes, FromProto(proto.bytes()));
  SLUICE_RETURN_IF_ERROR(CheckSeconds("seconds", proto.seconds()));
  result.seconds = proto.seconds();
  for (const v1::PhaseSeconds& entry : proto.phases()) {
    SLUICE_RETURN_IF_ERROR(CheckSeconds("phases", entry.seconds()));
    if (!v1::OperationPhase_IsValid(entry.phase())) {
      return absl::InvalidArgumentError(
          absl::StrCat("phases: expected a known phase, found ",
                       static_cast<int>(entry.phase())));
    }
    result.phases.emplace_back(static_cast<OperationPhase>(entry.phase()),
                               entry.seconds());
  }
  SLUICE_RETURN_IF_ERROR(
      CheckCount("busy_seconds", proto.busy_seconds_size(), kNumLinkClasses));
  for (int i = 0; i < proto.busy_seconds_size(); ++i) {
    SLUICE_RETURN_IF_ERROR(CheckSeconds("busy_seconds", proto.busy_seconds(i)));
    result.busy_seconds[static_cast<size_t>(i)] = proto.busy_seconds(i);
  }
  SLUICE_RETURN_IF_ERROR(
      CheckNotNegative("digest_bytes", proto.digest_bytes()));
  result.digest_bytes = proto.digest_bytes();
  SLUICE_RETURN_IF_ERROR(
      CheckNotNegative("digests_compared", proto.digests_compared()));
  result.digests_compared = proto.digests_compared();
  SLUICE_ASSIGN_OR_RETURN(result.certificate, FromProto(proto.certificate()));
  result.plan_reused = proto.plan_reused();
  SLUICE_RETURN_IF_ERROR(
      CheckNotNegative("peak_staging_bytes", proto.peak_staging_bytes()));
  result.peak_staging_bytes = proto.peak_staging_bytes();
  return result;
}

}  // namespace sluice::coordinator
