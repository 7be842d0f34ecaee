#include "common/convert_reduce_report.h"

#include <catch2/catch.hpp>
#include <string>

#include "absl/status/status.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using testing::StatusIs;
using Code = absl::StatusCode;

ReduceGroupReport Sample() {
  ReduceGroupReport report;
  report.name = "gradients";
  report.agents = {"a", "b"};
  report.ranks = {Rank(3), Rank(1)};
  report.average = true;
  report.state = ReduceGroupState::kEnding;
  report.requests_waiting = 1;
  report.collectives_sent = 3;
  report.collectives_done = 2;
  report.bytes_reduced = 4;
  report.bucket_bytes = 5;
  report.error = "a is lost";
  return report;
}

TEST_CASE("a report is the same after the wire", "[convert]") {
  REQUIRE_OK_AND_ASSIGN(const ReduceGroupReport back,
                        FromProto(ToProto(Sample())));
  CHECK(back == Sample());
}

TEST_CASE("an error in a report that is no text is made one", "[convert]") {
  ReduceGroupReport report = Sample();
  report.error = "a\xff" + std::string(10'000, 'x');
  REQUIRE_OK_AND_ASSIGN(const ReduceGroupReport back,
                        FromProto(ToProto(report)));
  CHECK(back.error.substr(0, 3) == "a?x");
  CHECK(back.error.size() <= 8192);
}

TEST_CASE("what a report cannot be is refused by name", "[convert]") {
  v1::ReduceGroupReport proto = ToProto(Sample());
  proto.set_name("");
  CHECK_THAT(FromProto(proto), StatusIs(Code::kInvalidArgument, "name"));
  proto = ToProto(Sample());
  proto.set_agents(1, "");
  CHECK_THAT(FromProto(proto), StatusIs(Code::kInvalidArgument, "agents[1]"));
  proto = ToProto(Sample());
  proto.set_state(v1::REDUCE_GROUP_STATE_UNSPECIFIED);
  CHECK_THAT(FromProto(proto), StatusIs(Code::kInvalidArgument, "state"));
  proto = ToProto(Sample());
  proto.set_state(static_cast<v1::ReduceGroupState>(5));
  CHECK_THAT(FromProto(proto), StatusIs(Code::kInvalidArgument, "found 5"));
  for (const auto& set : {&v1::ReduceGroupReport::set_requests_waiting,
                          &v1::ReduceGroupReport::set_collectives_sent,
                          &v1::ReduceGroupReport::set_collectives_done,
                          &v1::ReduceGroupReport::set_bytes_reduced,
                          &v1::ReduceGroupReport::set_bucket_bytes}) {
    proto = ToProto(Sample());
    (proto.*set)(-7);
    CHECK_THAT(FromProto(proto), StatusIs(Code::kInvalidArgument, "-7"));
  }
}

}  // namespace
}  // namespace sluice
