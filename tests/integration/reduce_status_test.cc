// Reduce groups as people see them while they wait.

#include <catch2/catch.hpp>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cpp/reduce_group.h"
#include "proto/sluice/v1/status_service.pb.h"
#include "tests/integration/reduce_ranks.h"
#include "tests/integration/reduce_rig.h"
#include "tests/integration/reduce_tensors.h"
#include "tests/integration/status_text.h"
#include "tests/integration/test_cluster.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {
namespace {

// Awaits that the status names whom group "g" waits for; returns the group.
v1::ReduceGroupStatus AwaitWaitsFor(TestCluster& cluster,
                                    const std::vector<std::string>& agents) {
  v1::ReduceGroupStatus found;
  CHECK_OK(cluster.AwaitStatus(
      absl::StrCat("g waits for [", absl::StrJoin(agents, ", "), "]"),
      [&](const v1::GetStatusResponse& status) {
        if (status.reduce_groups_size() != 1) return false;
        found = status.reduce_groups(0);
        return std::vector<std::string>(found.waits_for().begin(),
                                        found.waits_for().end()) == agents;
      }));
  return found;
}

TEST_CASE("a group that waits is in the status, with whom it waits for",
          "[integration][reduce]") {
  ReduceRig rig;
  REQUIRE_OK(rig.Start(/*nodes=*/1, /*agents_per_node=*/3));
  const auto agents = rig.cluster->AgentNames({0, 1, 2});
  absl::StatusOr<ReduceRanks> early = absl::UnknownError("not joined");
  std::thread join([&] { early = rig.JoinWith({0, 2}, {0, 1, 2}, "g"); });
  auto group = AwaitWaitsFor(*rig.cluster, {agents[1]});
  const std::string text = StatusText(*rig.cluster);
  auto late = rig.JoinWith({1}, {0, 1, 2}, "g");
  join.join();
  CHECK(group.name() == "g");
  REQUIRE(group.members_size() == 3);
  CHECK(group.members(0).state() == v1::REDUCE_GROUP_STATE_JOINING);
  CHECK(group.members(1).state() == v1::REDUCE_GROUP_STATE_UNSPECIFIED);
  CAPTURE(text);
  CHECK(text.find("g: sum of 3 members, waits for " + agents[1]) !=
        std::string::npos);
  CHECK(text.find("not joined") != std::string::npos);
  REQUIRE_OK(late);
  REQUIRE_OK(early);

  // One asks; the others are behind.
  std::vector<Heard> heard(3);
  std::vector<ReduceGroup*> ranks = {(*early)[0].get(), (*late)[0].get(),
                                     (*early)[1].get()};
  for (size_t r = 0; r < 3; ++r) {
    const Tensors tensors = Tensors::Make(*ranks[r], v1::DTYPE_F32, 10);
    ranks[r]->ReduceScatter(tensors.Inputs(), tensors.Output(),
                            heard[r].Done());
    ranks[r]->Flush([](const absl::Status&) {});
    if (r > 0) continue;
    group = AwaitWaitsFor(*rig.cluster, {agents[1], agents[2]});
    CHECK(group.members(0).requests_waiting() == 2);
    CHECK(group.members(0).bucket_bytes() > 0);
  }
  for (Heard& each : heard) CHECK_OK(each.Await(1).at(0));
  CHECK_OK(rig.cluster->AwaitStatus("all done", [](const auto& status) {
    for (const auto& member : status.reduce_groups(0).members()) {
      if (member.collectives_done() != 1) return false;
      if (member.bytes_reduced() != 3 * 10 * 4) return false;
    }
    return true;
  }));
}

}  // namespace
}  // namespace sluice::testing
