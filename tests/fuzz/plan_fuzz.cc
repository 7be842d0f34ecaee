// Parts of plans from the wire, as an agent parses them. What parses goes out
// and comes back the same; and the validator, asked whether it is a plan for
// small work it was not made for, answers.

#include <utility>

#include "common/check.h"
#include "common/convert_plan.h"
#include "common/plan.h"
#include "coordinator/planner/planners.h"
#include "google/protobuf/stubs/logging.h"
#include "proto/sluice/v1/plan.pb.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/small_cluster.h"

namespace sluice {
namespace {

// A plan without a true certificate is refused at the end, after all else has
// been looked at.
void Validate(const PlanPart& part) {
  TransferPlan plan;
  plan.transfers = part.transfers;
  plan.entries = part.entries;
  static const auto* const reshard = [] {
    coordinator::PlacementGeometry to = testing::WholePlacement();
    to.name = "to";
    to.mesh.ranks = {Rank(0), Rank(7)};
    return new coordinator::ReshardInput(
        testing::SmallReshard(testing::WholePlacement(), std::move(to)));
  }();
  static const auto* const redistribution =
      new coordinator::RedistributionInput(testing::SmallRedistribution());
  // Something is to be moved: no plan is right that moves nothing.
  SLUICE_CHECK(!coordinator::ValidateReshard(*reshard, plan).ok());
  SLUICE_CHECK(
      !coordinator::ValidateRedistribution(*redistribution, plan).ok());
}

void Run(const uint8_t* data, size_t size) {
  // Text that is no UTF-8 is refused and logged each time.
  static const google::protobuf::LogSilencer silencer;
  v1::PlanPart proto;
  if (!proto.ParseFromArray(data, static_cast<int>(size))) return;
  const absl::StatusOr<PlanPart> part = FromProto(proto);
  if (!part.ok()) return;
  const absl::StatusOr<PlanPart> again = FromProto(ToProto(*part));
  SLUICE_CHECK_OK(again.status());
  SLUICE_CHECK(*again == *part);
  Validate(*part);
}

}  // namespace
}  // namespace sluice

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  sluice::Run(data, size);
  return 0;
}
