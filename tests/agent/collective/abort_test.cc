// Groups that are ended at random times: nothing touches memory afterwards. A
// group has the only reference to the memory of a call, which is unmapped when
// the call has ended: who touched it later would be ended by the system.

#include <cstdlib>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/time/time.h"
#include "agent/collective/host_group.h"
#include "common/clock.h"
#include "tests/agent/collective/all_kinds.h"
#include "tests/agent/collective/group_rig.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

// GROUP_ABORTS asks for more, to look for what is rare.
int Rounds(int usual) {
  const char* more = std::getenv("GROUP_ABORTS");
  return more != nullptr ? std::atoi(more) : usual;
}

void PassRandomTime(std::mt19937_64& random) {
  const uint64_t turns = random() % (uint64_t{1} << random() % 13);
  for (uint64_t i = 0; i < turns; ++i) std::this_thread::yield();
}

void EndAtRandom(const std::vector<int>& nodes, int rounds,
                 int64_t max_elements) {
  const SystemClock clock;
  HostGroupOptions options;
  // One that ends before it has met anybody is one that did not come.
  options.meet_timeout = absl::Seconds(1);
  GroupRig rig(nodes, 51, clock, options);
  auto& random = rig.random();
  int failed = 0;
  for (int round = 0; round < rounds; ++round) {
    CAPTURE(round);
    for (const int m : rig.everybody()) rig.Destroy(m);
    rig.MakeAll();
    RigOutcome first, second;
    for (RigOutcome* outcome : {&first, &second}) {
      const CollectiveKind kind = kKinds[random() % 6];
      const bool reduces = kind == CollectiveKind::kReduceScatter;
      RigCall call = rig.MakeCall(kind, DType::kF32,
                                  reduces ? ReduceOp::kSum : ReduceOp::kNone,
                                  max_elements);
      call.expected.clear();
      rig.Start(std::move(call), *outcome);
    }
    PassRandomTime(random);
    const auto who = static_cast<int>(random() % nodes.size());
    if (random() % 2 == 0) {
      rig.Destroy(who);
    } else {
      rig.group(who).Abort(absl::AbortedError("enough"), [] {});
    }
    REQUIRE(rig.Wait(rig.everybody(), first));
    REQUIRE(rig.Wait(rig.everybody(), second));
    for (const auto& status : second.statuses) {
      const bool as_told =
          status->ok() || absl::IsAborted(*status) ||
          absl::IsCancelled(*status) ||
          absl::StrContains(status->message(), "to make the group");
      INFO(status->ToString());
      REQUIRE(as_told);
      failed += status->ok() ? 0 : 1;
    }
  }
  // Random times that all came too late would show nothing.
  CHECK(failed > 0);
}

TEST_CASE("groups of one node that end at random times", "[host_group]") {
  EndAtRandom({0, 0, 0, 0}, Rounds(300), 60'000);
}

TEST_CASE("groups of several nodes that end at random times",
          "[host_group][ucx]") {
  EndAtRandom({0, 0, 1, 2}, Rounds(200), 60'000);
}

}  // namespace
}  // namespace sluice::agent
