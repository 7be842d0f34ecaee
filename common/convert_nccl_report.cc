#include "common/convert_nccl_report.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/convert_limits.h"
#include "common/convert_repeated.h"
#include "common/status_macros.h"

namespace sluice {
namespace {

v1::CommunicatorReport ToProto(const CommunicatorReport& report) {
  v1::CommunicatorReport proto;
  proto.set_name(report.name);
  proto.set_members(report.members);
  proto.set_state(static_cast<v1::CommunicatorState>(report.state));
  proto.set_error(SafeText(report.error, kMaxCommunicatorErrorBytes));
  return proto;
}

absl::StatusOr<CommunicatorReport> ParseCommunicator(
    const v1::CommunicatorReport& proto) {
  CommunicatorReport report;
  SLUICE_RETURN_IF_ERROR(
      CheckName("name", proto.name(), kMaxReduceGroupNameBytes));
  report.name = proto.name();
  SLUICE_RETURN_IF_ERROR(
      CheckRange("members", proto.members(), 1, kMaxMeshSize));
  report.members = proto.members();
  if (proto.state() < v1::COMMUNICATOR_STATE_CONNECTING ||
      proto.state() > v1::COMMUNICATOR_STATE_ENDED) {
    return absl::InvalidArgumentError(
        absl::StrCat("state: expected CONNECTING to ENDED, found ",
                     static_cast<int>(proto.state())));
  }
  report.state = static_cast<CommunicatorState>(proto.state());
  report.error = SafeText(proto.error(), kMaxCommunicatorErrorBytes);
  return report;
}

}  // namespace

v1::NcclReport ToProto(const NcclReport& report) {
  v1::NcclReport proto;
  for (const CommunicatorReport& communicator : report.communicators) {
    *proto.add_communicators() = ToProto(communicator);
  }
  proto.set_num_communicators(report.num_communicators);
  return proto;
}

absl::StatusOr<NcclReport> FromProto(const v1::NcclReport& proto) {
  NcclReport report;
  SLUICE_RETURN_IF_ERROR(ParseRepeated(
      "communicators", proto.communicators(), kMaxCommunicatorReports,
      &ParseCommunicator, report.communicators));
  if (proto.num_communicators() < proto.communicators_size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "num_communicators: expected at least the ", proto.communicators_size(),
        " listed, found ", proto.num_communicators()));
  }
  report.num_communicators = proto.num_communicators();
  return report;
}

}  // namespace sluice
