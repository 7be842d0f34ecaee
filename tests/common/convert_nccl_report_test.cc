#include "common/convert_nccl_report.h"

#include <catch2/catch.hpp>
#include <string>

#include "absl/status/status.h"
#include "common/convert_limits.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using testing::StatusIs;
using Code = absl::StatusCode;

NcclReport Sample() {
  NcclReport report;
  report.communicators = {
      {"plans-1-7", 2, CommunicatorState::kConnecting, ""},
      {"g", 65536, CommunicatorState::kEnded, "agent-2 (rank 2) is gone"}};
  report.num_communicators = 9;
  return report;
}

TEST_CASE("a report of communicators is the same after the wire", "[convert]") {
  REQUIRE_OK_AND_ASSIGN(const NcclReport back, FromProto(ToProto(Sample())));
  CHECK(back == Sample());
  REQUIRE_OK_AND_ASSIGN(const NcclReport none, FromProto(v1::NcclReport()));
  CHECK(none == NcclReport());
}

TEST_CASE("why a communicator ends is short text after the wire", "[convert]") {
  NcclReport report = Sample();
  report.communicators[0].error = "a\xff" + std::string(10'000, 'x');
  REQUIRE_OK_AND_ASSIGN(const NcclReport back, FromProto(ToProto(report)));
  CHECK(back.communicators[0].error.substr(0, 3) == "a?x");
  CHECK(back.communicators[0].error.size() == kMaxCommunicatorErrorBytes);
}

TEST_CASE("what a report of communicators cannot be is refused by name",
          "[convert]") {
  const v1::NcclReport good = ToProto(Sample());
  v1::NcclReport proto = good;
  proto.mutable_communicators(1)->set_name("");
  CHECK_THAT(FromProto(proto),
             StatusIs(Code::kInvalidArgument, "communicators[1]: name"));
  proto = good;
  proto.mutable_communicators(0)->set_members(0);
  CHECK_THAT(FromProto(proto), StatusIs(Code::kInvalidArgument, "members"));
  for (const int state : {0, 5}) {
    proto = good;
    proto.mutable_communicators(0)->set_state(
        static_cast<v1::CommunicatorState>(state));
    CHECK_THAT(FromProto(proto), StatusIs(Code::kInvalidArgument, "state"));
  }
  proto = good;
  proto.set_num_communicators(1);
  CHECK_THAT(FromProto(proto),
             StatusIs(Code::kInvalidArgument, "num_communicators"));
  while (proto.communicators_size() <= kMaxCommunicatorReports) {
    *proto.add_communicators() = good.communicators(0);
  }
  CHECK_THAT(FromProto(proto),
             StatusIs(Code::kInvalidArgument, "at most 32, found 33"));
}

}  // namespace
}  // namespace sluice
