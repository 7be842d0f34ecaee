#include "common/convert_reduce_report.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/convert_limits.h"
#include "common/convert_repeated.h"
#include "common/ids.h"
#include "common/status_macros.h"

namespace sluice {
namespace {

absl::Status ParseState(v1::ReduceGroupState proto, ReduceGroupState& state) {
  if (proto < v1::REDUCE_GROUP_STATE_JOINING ||
      proto > v1::REDUCE_GROUP_STATE_ENDED) {
    return absl::InvalidArgumentError(absl::StrCat(
        "state: expected JOINING to ENDED, found ", static_cast<int>(proto)));
  }
  state = static_cast<ReduceGroupState>(proto);
  return absl::OkStatus();
}

absl::Status ParseCounts(const v1::ReduceGroupReport& proto,
                         ReduceGroupReport& report) {
  SLUICE_RETURN_IF_ERROR(
      CheckNotNegative("requests_waiting", proto.requests_waiting()));
  report.requests_waiting = proto.requests_waiting();
  SLUICE_RETURN_IF_ERROR(
      CheckNotNegative("collectives_sent", proto.collectives_sent()));
  report.collectives_sent = proto.collectives_sent();
  SLUICE_RETURN_IF_ERROR(
      CheckNotNegative("collectives_done", proto.collectives_done()));
  report.collectives_done = proto.collectives_done();
  SLUICE_RETURN_IF_ERROR(
      CheckNotNegative("bytes_reduced", proto.bytes_reduced()));
  report.bytes_reduced = proto.bytes_reduced();
  SLUICE_RETURN_IF_ERROR(
      CheckNotNegative("bucket_bytes", proto.bucket_bytes()));
  report.bucket_bytes = proto.bucket_bytes();
  return absl::OkStatus();
}

}  // namespace

v1::ReduceGroupReport ToProto(const ReduceGroupReport& report) {
  v1::ReduceGroupReport proto;
  proto.set_name(report.name);
  proto.mutable_agents()->Add(report.agents.begin(), report.agents.end());
  for (const Rank rank : report.ranks) proto.add_ranks(rank.value());
  proto.set_average(report.average);
  proto.set_state(static_cast<v1::ReduceGroupState>(report.state));
  proto.set_requests_waiting(report.requests_waiting);
  proto.set_collectives_sent(report.collectives_sent);
  proto.set_collectives_done(report.collectives_done);
  proto.set_bytes_reduced(report.bytes_reduced);
  proto.set_bucket_bytes(report.bucket_bytes);
  proto.set_error(SafeText(report.error, kMaxOutcomeMessageBytes));
  return proto;
}

absl::StatusOr<ReduceGroupReport> FromProto(
    const v1::ReduceGroupReport& proto) {
  ReduceGroupReport report;
  SLUICE_RETURN_IF_ERROR(
      CheckName("name", proto.name(), kMaxReduceGroupNameBytes));
  report.name = proto.name();
  SLUICE_RETURN_IF_ERROR(ParseNames("agents", proto.agents(), kMaxMeshSize,
                                    kMaxAgentNameBytes, report.agents));
  SLUICE_RETURN_IF_ERROR(CheckCount("ranks", proto.ranks_size(), kMaxMeshSize));
  for (const int32_t rank : proto.ranks()) report.ranks.push_back(Rank(rank));
  report.average = proto.average();
  SLUICE_RETURN_IF_ERROR(ParseState(proto.state(), report.state));
  SLUICE_RETURN_IF_ERROR(ParseCounts(proto, report));
  report.error = SafeText(proto.error(), kMaxOutcomeMessageBytes);
  return report;
}

}  // namespace sluice
