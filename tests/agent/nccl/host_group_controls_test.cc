// What members of a GPU group tell each other, over groups of host memory.

#include "agent/nccl/host_group_controls.h"

#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/device/host_device.h"
#include "common/clock.h"
#include "common/mutex.h"
#include "tests/agent/collective/local_directory.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::IsOk;
using testing::StatusIs;
using Result = absl::StatusOr<std::vector<std::string>>;

// What callbacks of one member said.
class Notes {
 public:
  GroupControl::Done Done() {
    return [this](Result result) {
      MutexLock lock(mutex_);
      results_.push_back(std::move(result));
      changed_.SignalAll();
    };
  }
  GroupControls::OnFailed OnFailed() {
    return [this](absl::Status reason) {
      MutexLock lock(mutex_);
      ends_.push_back(std::move(reason));
      changed_.SignalAll();
    };
  }
  std::vector<Result> AwaitResults(size_t count) {
    MutexLock lock(mutex_);
    while (results_.size() < count) changed_.Wait(mutex_);
    return results_;
  }
  absl::Status AwaitEnd() {
    MutexLock lock(mutex_);
    while (ends_.empty()) changed_.Wait(mutex_);
    return ends_.front();
  }
  size_t ends() {
    MutexLock lock(mutex_);
    return ends_.size();
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::vector<Result> results_ ABSL_GUARDED_BY(mutex_);
  std::vector<absl::Status> ends_ ABSL_GUARDED_BY(mutex_);
};

constexpr int kMembers = 3;

class Rig {
 public:
  Rig() : notes_(kMembers), controls_(kMembers) {
    for (int m = 0; m < kMembers; ++m) Join(m);
  }
  ~Rig() {
    for (int m = 0; m < kMembers; ++m) Leave(m);
  }

  static CollectiveMembers Members(int self) {
    CollectiveMembers members;
    members.name = "g";
    members.self = self;
    for (int m = 0; m < kMembers; ++m) {
      Peer& peer = members.peers.emplace_back();
      peer.rank = Rank(m);
      peer.name = absl::StrCat("agent-", m);
      peer.node = "node";
      peer.incarnation = Incarnation(10 + static_cast<uint64_t>(m));
    }
    return members;
  }

  void Join(int m) {
    notes_[m] = std::make_unique<Notes>();
    auto joined = factory_.Join(Members(m), notes_[m]->OnFailed());
    REQUIRE_OK(joined);
    controls_[m] = *std::move(joined);
  }
  void Leave(int m) {
    if (controls_[m] != nullptr) controls_[m]->Leave();
    controls_[m].reset();
  }
  // Until all have found each other: who ends before that is waited for by who
  // has not met it.
  void Meet() {
    for (int m = 0; m < kMembers; ++m) at(m).Exchange("hello", notes(m).Done());
    for (int m = 0; m < kMembers; ++m) {
      CHECK_OK(notes(m).AwaitResults(1)[0]);
    }
  }
  GroupControl& at(int m) { return *controls_[m]; }
  Notes& notes(int m) { return *notes_[m]; }
  LocalDirectory& directory() { return directory_; }

 private:
  SystemClock clock_;
  HostDevice device_;
  LocalDirectory directory_;
  HostGroupControls factory_{
      device_, [this](CollectiveMembers members, HostGroupOptions options) {
        return MakeHostGroup(std::move(members), {directory_, nullptr, clock_},
                             std::move(options));
      }};
  std::vector<std::unique_ptr<Notes>> notes_;
  std::vector<std::shared_ptr<GroupControl>> controls_;
};

TEST_CASE("the n-th exchanges of all members meet, in order",
          "[nccl][control]") {
  Rig rig;
  constexpr int kRounds = 20;
  // Lengths differ, and members are at different rounds.
  const auto word = [](int member, int round) {
    return std::string(static_cast<size_t>(round * 37),
                       static_cast<char>('a' + member));
  };
  for (int m = 0; m < kMembers; ++m) {
    for (int round = 0; round < kRounds; ++round) {
      rig.at(m).Exchange(word(m, round), rig.notes(m).Done());
    }
  }
  for (int m = 0; m < kMembers; ++m) {
    const std::vector<Result> results = rig.notes(m).AwaitResults(kRounds);
    for (int round = 0; round < kRounds; ++round) {
      REQUIRE_OK(results[round]);
      CHECK(*results[round] == std::vector<std::string>{word(0, round),
                                                        word(1, round),
                                                        word(2, round)});
    }
    CHECK(rig.at(m).Missing().empty());
  }
}

TEST_CASE(
    "a failure reaches all with its reason, also those who wait for "
    "nothing; the group is made anew",
    "[nccl][control]") {
  Rig rig;
  rig.Meet();
  rig.at(1).Exchange("waits", rig.notes(1).Done());
  rig.at(2).Fail(absl::DataLossError("the GPU melted"));
  for (int m = 0; m < kMembers; ++m) {
    CHECK_THAT(rig.notes(m).AwaitEnd(),
               StatusIs(absl::StatusCode::kDataLoss, "melted"));
  }
  CHECK_THAT(rig.notes(1).AwaitResults(2)[1],
             StatusIs(absl::StatusCode::kDataLoss, "melted"));
  // The first reason counts, and is told once.
  rig.at(0).Fail(absl::InternalError("later"));
  for (int m = 0; m < kMembers; ++m) {
    rig.Leave(m);
    CHECK(rig.notes(m).ends() == 1);
  }
  for (int m = 0; m < kMembers; ++m) rig.Join(m);
  for (int m = 0; m < kMembers; ++m) {
    rig.at(m).Exchange(absl::StrCat(m), rig.notes(m).Done());
  }
  for (int m = 0; m < kMembers; ++m) {
    const std::vector<Result> results = rig.notes(m).AwaitResults(1);
    REQUIRE_OK(results[0]);
    CHECK(*results[0] == std::vector<std::string>{"0", "1", "2"});
  }
}

TEST_CASE("who has not come is known while others wait", "[nccl][control]") {
  Rig rig;
  for (const int m : {0, 2}) rig.at(m).Exchange("here", rig.notes(m).Done());
  while (rig.at(0).Missing() != std::vector<int>{1}) std::this_thread::yield();
  rig.at(1).Exchange("late", rig.notes(1).Done());
  for (int m = 0; m < kMembers; ++m) {
    CHECK_OK(rig.notes(m).AwaitResults(1)[0]);
  }
  CHECK(rig.at(0).Missing().empty());
}

TEST_CASE("a member that is gone is named to who waits for nothing",
          "[nccl][control]") {
  Rig rig;
  rig.Meet();
  rig.directory().SetGone(Rank(1));
  for (const int m : {0, 2}) {
    CHECK_THAT(rig.notes(m).AwaitEnd(),
               StatusIs(absl::StatusCode::kUnavailable, "agent-1"));
  }
}

TEST_CASE("what is too long ends the group", "[nccl][control]") {
  Rig rig;
  rig.Meet();
  rig.at(0).Exchange(std::string(100'000, 'x'), rig.notes(0).Done());
  for (int m = 0; m < kMembers; ++m) {
    CHECK_THAT(rig.notes(m).AwaitEnd(),
               StatusIs(absl::StatusCode::kInvalidArgument, "100000"));
  }
}

TEST_CASE("who has left hears nothing any more", "[nccl][control]") {
  Rig rig;
  rig.Meet();
  rig.at(0).Exchange("waits", rig.notes(0).Done());
  rig.Leave(0);
  CHECK(rig.notes(0).ends() == 0);
  CHECK_THAT(rig.notes(1).AwaitEnd(), StatusIs(absl::StatusCode::kCancelled));
}

}  // namespace
}  // namespace sluice::agent
