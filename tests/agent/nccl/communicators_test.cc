// Communicators of two members in one process, by a clock that the test moves.

#include "agent/nccl/communicators.h"

#include <catch2/catch.hpp>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/nccl/nccl_api.h"
#include "agent/nccl/stream.h"
#include "common/convert_limits.h"
#include "common/nccl_report.h"
#include "tests/agent/nccl/communicator_rig.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::IsOk;
using testing::StatusIs;

CollectiveMembers Members(const std::string& name, int self,
                          uint64_t incarnation_of_1 = 11) {
  CollectiveMembers members = testing::RigMembers(name, {0, 1}, self);
  members.peers[1].incarnation = Incarnation(incarnation_of_1);
  return members;
}

class Rig : public testing::CommunicatorRig {
 public:
  explicit Rig(const CommunicatorOptions& options = {})
      : CommunicatorRig(2, options) {}

  // Both members' communicators of a group, connected.
  std::vector<Shared> Connect(const std::string& name) {
    std::vector<Shared> both;
    std::vector<std::future<absl::Status>> results;
    for (int m = 0; m < 2; ++m) both.push_back(Find(m, Members(name, m)));
    for (int m = 0; m < 2; ++m) {
      results.push_back(std::async(std::launch::async, [this, m, &both] {
        return agent(m).Connect(both[m]);
      }));
    }
    for (auto& result : results) REQUIRE_OK(result.get());
    return both;
  }
};

TEST_CASE("only declared groups have communicators", "[nccl]") {
  Rig rig;
  const CollectiveMembers members = Members("g", 0);
  CHECK_THAT(rig.agent(0).Find(members.Id()),
             StatusIs(absl::StatusCode::kNotFound));
  CHECK_THAT(rig.agent(0).Declare(Members("g", 2)),
             StatusIs(absl::StatusCode::kInvalidArgument, "2"));
  CHECK_OK(rig.agent(0).Declare(members));
  CHECK_OK(rig.agent(0).Find(members.Id()));
  // Another incarnation makes it another group.
  CHECK_THAT(rig.agent(0).Find(Members("g", 0, 12).Id()),
             StatusIs(absl::StatusCode::kNotFound));
}

TEST_CASE("a communicator is made once and used again", "[nccl]") {
  Rig rig;
  const auto both = rig.Connect("g");
  for (int m = 0; m < 2; ++m) {
    CHECK(both[m]->state() == Communicator::State::kReady);
    CHECK(rig.Find(m, Members("g", m)) == both[m]);
    CHECK_OK(rig.agent(m).Connect(both[m]));
    const NcclReport report = rig.agent(m).Report();
    CHECK(report.num_communicators == 1);
    CHECK(report.communicators == std::vector<CommunicatorReport>{
                                      {"g", 2, CommunicatorState::kReady, ""}});
  }
}

TEST_CASE("of what there is the newest is told, and how much there is",
          "[nccl]") {
  Rig rig;
  for (int i = 0; i < kMaxCommunicatorReports + 3; ++i) {
    rig.Find(0, Members(absl::StrCat("g", i), 0));
  }
  const NcclReport report = rig.agent(0).Report();
  CHECK(report.num_communicators == kMaxCommunicatorReports + 3);
  REQUIRE(static_cast<int64_t>(report.communicators.size()) ==
          kMaxCommunicatorReports);
  CHECK(report.communicators.front().name == "g34");
  CHECK(report.communicators.back().name == "g3");
  CHECK(report.communicators[0].state == CommunicatorState::kConnecting);
}

TEST_CASE("why one failed is told of for a while, behind those that live",
          "[nccl]") {
  Rig rig;
  const auto failed = rig.Find(0, Members("failed", 0));
  const auto dropped = rig.Find(0, Members("dropped", 0));
  rig.agent(0).Drop(dropped->members().Id());
  rig.agent(0).Abort(failed, absl::InternalError("it broke"));
  failed->AwaitEnded();
  dropped->AwaitEnded();
  rig.Find(0, Members("lives", 0));
  // Until the watchdog has looked, all three are there.
  NcclReport report = rig.agent(0).Report();
  while (report.num_communicators > 2) report = rig.agent(0).Report();
  CHECK(report.communicators ==
        std::vector<CommunicatorReport>{
            {"lives", 2, CommunicatorState::kConnecting, ""},
            {"failed", 2, CommunicatorState::kEnded,
             "INTERNAL: group failed: it broke"}});
  // The time runs from when the watchdog let go of it, which may be later.
  while (failed.use_count() > 1) std::this_thread::yield();
  rig.clock().Advance(absl::Minutes(10));
  CHECK(rig.agent(0).Report().num_communicators == 1);
}

TEST_CASE("a dropped group ends on both without an abort", "[nccl]") {
  Rig rig;
  const auto both = rig.Connect("g");
  // An abort would hang, and be told of.
  rig.SetFaults("abort_hang");
  for (int m = 0; m < 2; ++m) rig.agent(m).Drop(Members("g", m).Id());
  for (int m = 0; m < 2; ++m) {
    both[m]->AwaitEnded();
    CHECK_THAT(both[m]->status(), StatusIs(absl::StatusCode::kCancelled));
    CHECK_THAT(rig.agent(m).Find(Members("g", m).Id()),
               StatusIs(absl::StatusCode::kNotFound));
  }
}

absl::Status RunSmall(const testing::CommunicatorRig::Shared& communicator) {
  return communicator->Run(
      [](const NcclApi& nccl, NcclComm comm, NcclStream& stream) {
        return nccl.AllReduce(stream.scratch(), stream.scratch(), 1,
                              NcclDataType::kInt32, NcclRedOp::kSum, comm,
                              stream.handle());
      },
      absl::InfiniteFuture());
}

// The fake library ends the process that has two threads inside one
// communicator, and keeps who asks it for errors inside for a moment when a
// call has been accepted.
TEST_CASE("the watchdog is never in NCCL beside the group's own thread",
          "[nccl]") {
  CommunicatorOptions options;
  options.poll_interval = absl::Microseconds(50);
  Rig rig(options);
  const auto both = rig.Connect("g");
  std::vector<std::future<absl::Status>> results;
  for (int m = 0; m < 2; ++m) {
    results.push_back(std::async(std::launch::async, [&both, m] {
      absl::Status status;
      for (int i = 0; i < 300 && status.ok(); ++i) {
        status = RunSmall(both[m]);
      }
      return status;
    }));
  }
  for (auto& result : results) CHECK_OK(result.get());
}

TEST_CASE("a group that only one drops is aborted there", "[nccl]") {
  Rig rig;
  const auto both = rig.Connect("g");
  rig.agent(0).Drop(Members("g", 0).Id());
  while (both[0]->state() != Communicator::State::kEnded) {
    rig.clock().Advance(absl::Milliseconds(10));
    std::this_thread::yield();
  }
  CHECK(both[1]->state() == Communicator::State::kReady);
}

TEST_CASE("an aborted group ends on both and can be made anew", "[nccl]") {
  Rig rig;
  const auto both = rig.Connect("g");
  rig.agent(0).Abort(both[0], absl::CancelledError("enough"));
  for (int m = 0; m < 2; ++m) {
    both[m]->AwaitEnded();
    CHECK_THAT(both[m]->status(),
               StatusIs(absl::StatusCode::kCancelled, "enough"));
  }
  const auto again = rig.Connect("g");
  CHECK(again[0] != both[0]);
  CHECK(again[0]->state() == Communicator::State::kReady);
}

TEST_CASE("nobody waits longer than the deadline for a member", "[nccl]") {
  Rig rig;
  const auto alone = rig.Find(0, Members("g", 0));
  auto connected = std::async(std::launch::async,
                              [&] { return rig.agent(0).Connect(alone); });
  while (connected.wait_for(std::chrono::seconds(0)) !=
         std::future_status::ready) {
    rig.clock().Advance(absl::Seconds(1));
    std::this_thread::yield();
  }
  CHECK_THAT(connected.get(),
             StatusIs(absl::StatusCode::kDeadlineExceeded, "agent-1"));
}

TEST_CASE("whoever waits for another's making is told of its failure",
          "[nccl]") {
  Rig rig;
  const auto alone = rig.Find(0, Members("g", 0));
  auto first = std::async(std::launch::async,
                          [&] { return rig.agent(0).Connect(alone); });
  auto second = std::async(std::launch::async,
                           [&] { return rig.agent(0).Connect(alone); });
  rig.agent(0).Abort(alone, absl::CancelledError("enough"));
  CHECK_THAT(first.get(), StatusIs(absl::StatusCode::kCancelled));
  CHECK_THAT(second.get(), StatusIs(absl::StatusCode::kCancelled));
}

TEST_CASE("an abort that hangs is told of after its time", "[nccl]") {
  Rig rig;
  const auto both = rig.Connect("group-of-two");
  rig.SetFaults("abort_hang@0");
  rig.agent(0).Abort(both[0], absl::UnavailableError("lost"));
  both[1]->AwaitEnded();
  CHECK(both[0]->state() == Communicator::State::kEnding);
  // Ten seconds, and one for a call under way.
  rig.clock().Advance(absl::Seconds(12));
  CHECK_THAT(rig.AwaitStuck(), Catch::Contains("group-of-two"));
  rig.SetFaults("");
  both[0]->AwaitEnded();
}

// Waits until NCCL has told the communicator of an error, or `failed`.
void AwaitSymptom(const testing::CommunicatorRig::Shared& communicator,
                  const std::future<absl::Status>& failed) {
  while (communicator->symptom().ok() && failed.wait_for(std::chrono::seconds(
                                             0)) != std::future_status::ready) {
    std::this_thread::yield();
  }
}

TEST_CASE("an error of NCCL's waits for a reason, which wins", "[nccl]") {
  Rig rig;
  const auto both = rig.Connect("g");
  // Found by the group's own thread, or by the watchdog.
  rig.SetFaults(GENERATE("op_fail@0", "op_error@0"));
  auto failed =
      std::async(std::launch::async, [&] { return RunSmall(both[0]); });
  AwaitSymptom(both[0], failed);
  rig.clock().Advance(absl::Milliseconds(499));
  CHECK(both[0]->state() == Communicator::State::kReady);
  rig.agent(0).Retire(Rank(1), Incarnation(11), absl::UnavailableError("lost"));
  CHECK_THAT(failed.get(), StatusIs(absl::StatusCode::kUnavailable, "lost"));
  both[1]->AwaitEnded();
  CHECK_THAT(both[1]->status(),
             StatusIs(absl::StatusCode::kUnavailable, "lost"));
}

TEST_CASE("an error of NCCL's is the reason when no other comes", "[nccl]") {
  Rig rig;
  const auto both = rig.Connect("g");
  rig.SetFaults("op_error@0");
  auto failed =
      std::async(std::launch::async, [&] { return RunSmall(both[0]); });
  AwaitSymptom(both[0], failed);
  rig.clock().Advance(absl::Milliseconds(500));
  // As every caller of Run does.
  rig.agent(0).Abort(both[0], failed.get());
  for (int m = 0; m < 2; ++m) {
    both[m]->AwaitEnded();
    CHECK_THAT(both[m]->status(),
               StatusIs(absl::StatusCode::kUnavailable, "remote process"));
  }
}

TEST_CASE("what NCCL does not allow needs no other reason", "[nccl]") {
  Rig rig;
  const auto both = rig.Connect("g");
  const absl::Status refused =
      both[0]->Run([](const NcclApi&, NcclComm,
                      NcclStream&) { return NcclResult::kInvalidUsage; },
                   absl::InfiniteFuture());
  CHECK_THAT(refused, StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_CASE("a lost incarnation takes its groups with it", "[nccl]") {
  Rig rig;
  const auto both = rig.Connect("g");
  const CollectiveMembers members = Members("g", 0);
  rig.agent(0).Retire(Rank(1), Incarnation(11), absl::UnavailableError("lost"));
  both[0]->AwaitEnded();
  both[1]->AwaitEnded();
  CHECK_THAT(both[1]->status(),
             StatusIs(absl::StatusCode::kUnavailable, "lost"));
  CHECK_THAT(rig.agent(0).Find(members.Id()),
             StatusIs(absl::StatusCode::kNotFound));
  CHECK_THAT(rig.agent(0).Declare(members),
             StatusIs(absl::StatusCode::kAborted, "agent-1"));
  CHECK_OK(rig.agent(0).Declare(Members("g", 0, 12)));
}

TEST_CASE("options are checked", "[nccl]") {
  CHECK_OK(CommunicatorOptions().Validate());
  CommunicatorOptions options;
  options.abort_timeout = absl::ZeroDuration();
  CHECK_THAT(options.Validate(), StatusIs(absl::StatusCode::kInvalidArgument));
  options = {};
  options.max_sms = -1;
  CHECK_THAT(options.Validate(), StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace sluice::agent
