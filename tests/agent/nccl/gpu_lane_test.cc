// Lanes of several operations on the same agents, in one process, over the fake
// library.

#include "agent/nccl/gpu_lane.h"

#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/nccl/segment_turns.h"
#include "common/ids.h"
#include "common/mutex.h"
#include "tests/agent/nccl/communicator_rig.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::CommunicatorRig;
using testing::RigMembers;
using testing::StatusIs;

constexpr int64_t kBytes = 1024;  // of a message

// The agents and their order of segments.
struct Rig {
  explicit Rig(int agents) : communicators(agents) {
    for (int a = 0; a < agents; ++a) {
      turns.push_back(std::make_unique<SegmentTurns>());
    }
  }
  CommunicatorRig communicators;
  std::vector<std::unique_ptr<SegmentTurns>> turns;
};

// Waits for messages.
class Arrivals {
 public:
  MessageLane::Done Done() {
    return [this](absl::Status status) {
      MutexLock lock(mutex_);
      statuses_.push_back(std::move(status));
      changed_.SignalAll();
    };
  }
  // The first error of `count` messages.
  absl::Status Await(size_t count) {
    MutexLock lock(mutex_);
    while (statuses_.size() < count) changed_.Wait(mutex_);
    for (const absl::Status& status : statuses_) {
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::vector<absl::Status> statuses_ ABSL_GUARDED_BY(mutex_);
};

// An operation that sends `messages` messages from the first of two agents to
// the second one.
class Operation {
 public:
  Operation(Rig& rig, uint64_t id, std::vector<int> agents, int messages,
            int64_t segment_bytes = int64_t{64} << 20)
      : agents_(std::move(agents)), messages_(messages) {
    for (int i = 0; i < messages; ++i) {
      sent_.emplace_back(static_cast<size_t>(kBytes),
                         static_cast<char>(id * 16 + static_cast<uint64_t>(i)));
      received_.emplace_back(static_cast<size_t>(kBytes), '\0');
    }
    for (int m = 0; m < 2; ++m) {
      const auto members = RigMembers(absl::StrCat("op-", id), agents_, m);
      const int agent = agents_[static_cast<size_t>(m)];
      Communicators& communicators = rig.communicators.agent(agent);
      lanes_.push_back(std::make_unique<GpuLane>(
          GpuLane::Deps{.operation = OperationId(id),
                        .communicators = communicators,
                        .communicator = rig.communicators.Find(agent, members),
                        .turns = *rig.turns[static_cast<size_t>(agent)],
                        .clock = rig.communicators.clock(),
                        .patience = absl::Minutes(1),
                        .segment_bytes = segment_bytes}));
    }
  }
  ~Operation() {
    for (auto& lane : lanes_) lane->Leave();
  }

  // Member `m` of the two starts.
  void Begin(int m) {
    const MessageLane::Counts counts{.sends = m == 0 ? messages_ : 0,
                                     .receives = m == 0 ? 0 : messages_};
    lane(m).Begin({{Rank(agents_[static_cast<size_t>(1 - m)]), counts}});
  }

  // Both sides of messages [from, to).
  void Post(int from, int to) {
    for (int i = from; i < to; ++i) {
      const auto at = static_cast<size_t>(i);
      lane(0).Send(Rank(agents_[1]), i, Bytes(sent_[at]), kBytes,
                   arrivals_.Done());
      lane(1).Receive(Rank(agents_[0]), i, Bytes(received_[at]), kBytes,
                      arrivals_.Done());
    }
    posted_ += 2 * static_cast<size_t>(to - from);
  }
  // What was posted has moved, right.
  void CheckMoved() {
    REQUIRE_OK(arrivals_.Await(posted_));
    for (size_t i = 0; i < posted_ / 2; ++i) CHECK(received_[i] == sent_[i]);
  }
  void AwaitOver() {
    for (auto& lane : lanes_) lane->AwaitOver();
  }
  GpuLane& lane(int m) { return *lanes_[static_cast<size_t>(m)]; }

 private:
  static std::byte* Bytes(std::string& text) {
    return reinterpret_cast<std::byte*>(text.data());
  }

  const std::vector<int> agents_;
  const int messages_;
  std::vector<std::string> sent_, received_;
  Arrivals arrivals_;
  size_t posted_ = 0;
  std::vector<std::unique_ptr<GpuLane>> lanes_;
};

TEST_CASE("a small operation goes between the segments of a long one",
          "[nccl]") {
  Rig rig(2);
  Operation large(rig, 1, {0, 1}, 4);
  for (const int m : {0, 1}) large.Begin(m);
  large.Post(0, 2);
  large.CheckMoved();
  {
    // It has messages left, and its next segment is being agreed upon.
    Operation small(rig, 2, {1, 0}, 1);
    for (const int m : {0, 1}) small.Begin(m);
    small.Post(0, 1);
    small.CheckMoved();
    small.AwaitOver();
  }
  large.Post(2, 4);
  large.CheckMoved();
  large.AwaitOver();
}

TEST_CASE("the first message finds its connection", "[nccl]") {
  Rig rig(2);
  rig.communicators.SetFaults("late_connect");
  Operation operation(rig, 1, {0, 1}, 1);
  for (const int m : {0, 1}) operation.Begin(m);
  operation.Post(0, 1);
  operation.CheckMoved();
  operation.AwaitOver();
}

TEST_CASE("what lies ready is cut into segments", "[nccl]") {
  Rig rig(2);
  Operation operation(rig, 1, {0, 1}, 8, 2 * kBytes);
  operation.Post(0, 8);
  for (const int m : {0, 1}) operation.Begin(m);
  operation.CheckMoved();
  operation.AwaitOver();
  // Four with two messages each, and the one that finds that nothing is left.
  rig.turns[0]->Enter(OperationId(2));
  CHECK(rig.turns[0]->Propose(OperationId(2), false).count == 5);
}

TEST_CASE("a message larger than a segment moves by itself", "[nccl]") {
  Rig rig(2);
  Operation operation(rig, 1, {0, 1}, 3, 1);
  operation.Post(0, 3);
  for (const int m : {0, 1}) operation.Begin(m);
  operation.CheckMoved();
  operation.AwaitOver();
}

TEST_CASE("operations in a ring of agents, begun in opposite orders, all end",
          "[nccl]") {
  constexpr int kAgents = 3;
  constexpr int kOperations = 6;
  Rig rig(kAgents);
  std::vector<std::unique_ptr<Operation>> operations;
  for (int o = 0; o < kOperations; ++o) {
    operations.push_back(std::make_unique<Operation>(
        rig, static_cast<uint64_t>(o + 1),
        std::vector<int>{o % kAgents, (o + 1) % kAgents}, 8, kBytes));
    operations.back()->Post(0, 8);
  }
  // Senders from the first to the last, receivers the other way round.
  std::thread senders([&] {
    for (int o = 0; o < kOperations; ++o) operations[o]->Begin(0);
  });
  for (int o = kOperations - 1; o >= 0; --o) operations[o]->Begin(1);
  senders.join();
  for (auto& operation : operations) {
    operation->CheckMoved();
    operation->AwaitOver();
  }
}

TEST_CASE("who waits for another operation says so, and goes on after it",
          "[nccl]") {
  Rig rig(2);
  Operation one(rig, 9, {0, 1}, 2);
  CHECK(one.lane(0).Waiting());
  for (const int m : {0, 1}) one.Begin(m);
  one.Post(0, 1);
  one.CheckMoved();
  CHECK_FALSE(one.lane(0).Waiting());
  // Another operation's segment, which agent 0 has yet to hear the number of.
  SegmentTurns& turns = *rig.turns[0];
  const OperationId other(3);
  turns.Enter(other);
  turns.Propose(other, /*may_move=*/true);
  one.Post(1, 2);
  // So does who waits for it, outside of NCCL and of any deadline.
  for (const int m : {0, 1}) {
    while (!one.lane(m).Waiting()) std::this_thread::yield();
  }
  rig.communicators.clock().Advance(absl::Hours(1));
  turns.Leave(other);
  one.CheckMoved();
  one.AwaitOver();
}

TEST_CASE("an operation that is ended leaves the others in turn", "[nccl]") {
  Rig rig(2);
  Operation ended(rig, 1, {0, 1}, 2);
  Operation other(rig, 2, {0, 1}, 2);
  for (const int m : {0, 1}) {
    ended.Begin(m);
    other.Begin(m);
  }
  ended.Post(0, 1);
  ended.CheckMoved();
  Arrivals over;
  ended.lane(0).Cancel(absl::AbortedError("enough"), over.Done());
  CHECK_OK(over.Await(1));
  ended.AwaitOver();
  other.Post(0, 2);
  other.CheckMoved();
  other.AwaitOver();
}

}  // namespace
}  // namespace sluice::agent
