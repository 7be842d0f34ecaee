// Groups over the fake library, a process for each member: what collectives
// give, and how they end when something goes wrong.

#include <catch2/catch.hpp>
#include <csignal>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/agent/nccl/member_process.h"

namespace sluice::testing {
namespace {

constexpr int kStuckExit = 75;

// Matches when every answer begins with the first and contains all others.
void CheckAll(const std::vector<std::string>& answers, const std::string& start,
              const std::vector<std::string>& parts = {}) {
  for (const std::string& answer : answers) {
    CAPTURE(answer);
    CHECK(absl::StartsWith(answer, start));
    for (const std::string& part : parts) {
      CAPTURE(part);
      CHECK(absl::StrContains(answer, part));
    }
  }
}

void CheckVerifies(MemberCluster& cluster, const std::string& group, int seed) {
  cluster.SendAll(absl::StrCat("verify ", group, " ", seed));
  CheckAll(cluster.AwaitAll("verify " + group), "OK");
}

TEST_CASE("all kinds, types and sizes give what they should",
          "[nccl][process]") {
  const int members = GENERATE(1, 2, 4, 8);
  MemberCluster cluster(members);
  cluster.Start();
  cluster.OpenAll("g");
  CheckVerifies(cluster, "g", 1);
  CheckVerifies(cluster, "g", 100 + members);
}

TEST_CASE(
    "a killed member ends the others' calls, which name it; with its next "
    "incarnation they go on",
    "[nccl][process]") {
  // What NCCL says of it, at once, names nobody.
  const std::string faults = GENERATE("", "gone_internal");
  MemberCluster cluster(4);
  cluster.SetFaults(faults);
  cluster.Start();
  cluster.OpenAll("g");
  cluster.SendAll("loop g");
  CheckAll(cluster.AwaitAll("loop g"), "looping");
  cluster.member(2).Kill();
  CheckAll(cluster.AwaitAll("loop g", 2), "UNAVAILABLE", {"agent-2"});
  cluster.SendAll("close g", 2);
  cluster.AwaitAll("close g", 2);
  cluster.Restart(2);
  cluster.OpenAll("g");
  CheckVerifies(cluster, "g", 2);
}

TEST_CASE("what goes wrong on one member ends the call on all",
          "[nccl][process]") {
  struct Row {
    const char* fault;
    const char* status;
  };
  // The third group call: the first one warms the communicator.
  const Row row = GENERATE(Row{"op_hang@1:3", "DEADLINE_EXCEEDED"},
                           Row{"op_error@1:3", "UNAVAILABLE"},
                           Row{"op_fail@1:3", "INTERNAL"},
                           Row{"init_fail@1", "UNAVAILABLE"},
                           Row{"init_hang@1", "DEADLINE_EXCEEDED"},
                           Row{"init_duplicate@1", "FAILED_PRECONDITION"});
  CAPTURE(row.fault);
  MemberCluster cluster(3);
  // Only this one's patience ends, and that where it hangs.
  MemberLimits limits;
  if (absl::StrContains(row.fault, "op_hang")) limits.call_ms = 1500;
  if (absl::StrContains(row.fault, "init_hang")) limits.connect_ms = 1500;
  cluster.Limit(1, limits);
  cluster.SetFaults(row.fault);
  cluster.Start();
  cluster.OpenAll("g");
  cluster.SendAll("loop g");
  if (!absl::StrContains(row.fault, "init")) {
    CheckAll(cluster.AwaitAll("loop g"), "looping");
  }
  CheckAll(cluster.AwaitAll("loop g"), row.status, {"group g"});
  // And after it, everything works.
  cluster.SetFaults("");
  cluster.SendAll("close g");
  cluster.AwaitAll("close g");
  cluster.OpenAll("g");
  CheckVerifies(cluster, "g", 3);
}

TEST_CASE("the first reduce-scatter finds its connections", "[nccl][process]") {
  MemberLimits limits;
  limits.call_ms = 5'000;
  MemberCluster cluster(3, limits);
  cluster.SetFaults("late_connect");
  cluster.Start();
  cluster.OpenAll("g");
  cluster.SendAll("one g reduce-scatter F32 100 7 words");
  CheckAll(cluster.AwaitAll("one g"), "OK");
}

TEST_CASE("a call that is held up ends when it goes on", "[nccl][process]") {
  MemberCluster cluster(2);
  cluster.SetFaults("op_hold@1:2");
  cluster.Start();
  cluster.OpenAll("g");
  cluster.SendAll("one g all-gather F32 100 7 held");
  cluster.SetFaults("");
  CheckAll(cluster.AwaitAll("one g"), "OK");
}

TEST_CASE("an abort that hangs ends its process, which comes back",
          "[nccl][process]") {
  MemberCluster cluster(3);
  MemberLimits limits;
  limits.abort_ms = 300;
  cluster.Limit(1, limits);
  cluster.SetFaults("abort_hang@1,op_error@0:3");
  cluster.Start();
  cluster.OpenAll("g");
  cluster.SendAll("loop g");
  CheckAll(cluster.AwaitAll("loop g"), "looping");
  CheckAll(cluster.AwaitAll("loop g", 1), "UNAVAILABLE");
  CHECK(absl::StrContains(cluster.member(1).Await("stuck"), "group g"));
  CHECK(cluster.member(1).ExitCode() == kStuckExit);
  cluster.SetFaults("");
  cluster.SendAll("close g", 1);
  cluster.AwaitAll("close g", 1);
  cluster.Restart(1);
  cluster.OpenAll("g");
  CheckVerifies(cluster, "g", 4);
}

TEST_CASE("groups made and used in opposite orders both finish",
          "[nccl][process]") {
  MemberCluster cluster(4);
  cluster.Start();
  for (int m = 0; m < cluster.size(); ++m) {
    const std::vector<std::string> order =
        m % 2 == 0 ? std::vector<std::string>{"g", "h"}
                   : std::vector<std::string>{"h", "g"};
    for (const std::string& group : order) {
      cluster.member(m).Send("open " + cluster.Opening(group, m));
      cluster.member(m).Send("verify " + group + " 5");
    }
  }
  CheckAll(cluster.AwaitAll("verify g"), "OK");
  CheckAll(cluster.AwaitAll("verify h"), "OK");
}

TEST_CASE("with several communicators, none is freed before all are marked",
          "[nccl][process]") {
  MemberCluster cluster(3);
  cluster.Start();
  for (const std::string group : {"g", "h", "i"}) cluster.OpenAll(group);
  // Freeing one waits for what runs on the others, as cudaFree does.
  cluster.SetFaults("abort_waits,op_hang:5");
  for (const std::string group : {"g", "h", "i"}) {
    cluster.SendAll("loop " + group);
    CheckAll(cluster.AwaitAll("loop " + group), "looping");
  }
  cluster.member(0).Kill();
  for (const std::string group : {"g", "h", "i"}) {
    CheckAll(cluster.AwaitAll("loop " + group, 0), "UNAVAILABLE", {"agent-0"});
  }
}

TEST_CASE("members that differ learn of it before data moves, all of them",
          "[nccl][process]") {
  const std::string odd = GENERATE(
      "all-gather F32 100 7 words", "reduce-scatter BF16 100 7 words",
      "reduce-scatter F32 101 7 words", "reduce-scatter F32 100 8 words",
      "reduce-scatter F32 100 7 other-words");
  CAPTURE(odd);
  MemberCluster cluster(3);
  cluster.Start();
  cluster.OpenAll("g");
  const std::string even = "reduce-scatter F32 100 7 words";
  cluster.SendAll("one g " + even);
  CheckAll(cluster.AwaitAll("one g"), "OK");
  cluster.SendAll("one g " + even, 2);
  cluster.member(2).Send("one g " + odd);
  CheckAll(cluster.AwaitAll("one g"), "FAILED_PRECONDITION",
           {"agent-0", "agent-2", "call 1", "words"});
  // The group has failed.
  cluster.SendAll("one g " + even);
  CheckAll(cluster.AwaitAll("one g"), "FAILED_PRECONDITION", {"call 1"});
}

TEST_CASE("a call that is no call fails on all", "[nccl][process]") {
  MemberCluster cluster(2);
  cluster.Start();
  cluster.OpenAll("g");
  // U8 is not summed.
  cluster.member(0).Send("one g reduce-scatter U8 100 7 words");
  cluster.member(1).Send("one g reduce-scatter F32 100 7 words");
  CheckAll(cluster.AwaitAll("one g"), "INVALID_ARGUMENT", {"U8"});
}

TEST_CASE("a member that does not come to a call is named", "[nccl][process]") {
  MemberLimits limits;
  limits.call_ms = 1500;
  MemberCluster cluster(3, limits);
  cluster.Start();
  cluster.OpenAll("g");
  cluster.SendAll("one g all-gather F32 10 1 words");
  CheckAll(cluster.AwaitAll("one g"), "OK");
  cluster.SendAll("one g all-gather F32 10 1 words", 1);
  CheckAll(cluster.AwaitAll("one g", 1), "DEADLINE_EXCEEDED",
           {"agent-1", "call 1"});
}

TEST_CASE("a member that does not come to a group is named",
          "[nccl][process]") {
  MemberLimits limits;
  limits.connect_ms = 1500;
  MemberCluster cluster(2, limits);
  cluster.Start();
  cluster.member(0).Send("connect " + cluster.Opening("g", 0));
  CheckAll({cluster.member(0).Await("connect g")}, "DEADLINE_EXCEEDED",
           {"agent-1"});
}

TEST_CASE("a GPU of two members is refused; both are named",
          "[nccl][process]") {
  MemberCluster cluster(3);
  cluster.Set(0, "TEST_BUS_ID", "0000:1b:00.0");
  cluster.Set(2, "TEST_BUS_ID", "0000:1b:00.0");
  cluster.Start();
  for (int m = 0; m < cluster.size(); ++m) {
    cluster.member(m).Send("connect " + cluster.Opening("g", m));
  }
  CheckAll(cluster.AwaitAll("connect g"), "FAILED_PRECONDITION",
           {"agent-0", "agent-2", "0000:1b:00.0", "NCCL_HOSTID"});
  // Nor does NCCL wait for anybody.
  CHECK(cluster.IdsLeft() == 0);
}

TEST_CASE("a GPU of several members works with a host id for each",
          "[nccl][process]") {
  MemberCluster cluster(3);
  cluster.Set(-1, "TEST_BUS_ID", "0000:1b:00.0");
  cluster.Set(-1, "SLUICE_FAKE_NCCL_DEVICE", "0");
  for (int m = 0; m < 3; ++m) {
    cluster.Set(m, "NCCL_HOSTID", absl::StrCat("host-", m));
  }
  cluster.Start();
  cluster.OpenAll("g");
  CheckVerifies(cluster, "g", 6);
}

TEST_CASE("from 2.30 on, members share a GPU where each says so",
          "[nccl][process]") {
  const int sharing = GENERATE(0, 2, 3);
  MemberCluster cluster(3);
  cluster.Set(-1, "SLUICE_FAKE_NCCL_VERSION", "23000");
  cluster.Set(-1, "TEST_BUS_ID", "0000:1b:00.0");
  cluster.Set(-1, "SLUICE_FAKE_NCCL_DEVICE", "0");
  for (int m = 0; m < sharing; ++m) {
    cluster.Set(m, "NCCL_MULTI_RANK_GPU_ENABLE", "1");
  }
  cluster.Start();
  if (sharing == 3) {
    cluster.OpenAll("g");
    CheckVerifies(cluster, "g", 7);
    return;
  }
  for (int m = 0; m < cluster.size(); ++m) {
    cluster.member(m).Send("connect " + cluster.Opening("g", m));
  }
  CheckAll(cluster.AwaitAll("connect g"), "FAILED_PRECONDITION",
           {"agent-0", sharing == 0 ? "agent-1" : "agent-2", "0000:1b:00.0",
            "NCCL_MULTI_RANK_GPU_ENABLE"});
}

TEST_CASE("members with different versions of NCCL are named",
          "[nccl][process]") {
  MemberCluster cluster(2);
  cluster.Set(1, "SLUICE_FAKE_NCCL_VERSION", "22703");
  cluster.Start();
  for (int m = 0; m < cluster.size(); ++m) {
    cluster.member(m).Send("connect " + cluster.Opening("g", m));
  }
  CheckAll(cluster.AwaitAll("connect g"), "FAILED_PRECONDITION",
           {"agent-0", "2.28.9", "agent-1", "2.27.3"});
}

TEST_CASE("a retired incarnation is in no group any more", "[nccl][process]") {
  MemberCluster cluster(3);
  cluster.Start();
  cluster.OpenAll("g");
  cluster.SendAll("loop g");
  CheckAll(cluster.AwaitAll("loop g"), "looping");
  // Agent 1 is 1:11; the first to hear of it tells the others.
  cluster.SendAll("retire 1 11", 1);
  CheckAll(cluster.AwaitAll("loop g"), "UNAVAILABLE", {"retired"});
  cluster.member(0).Send("open " + cluster.Opening("again", 0));
  CheckAll({cluster.member(0).Await("open again")}, "ABORTED", {"agent-1"});
}

}  // namespace
}  // namespace sluice::testing
