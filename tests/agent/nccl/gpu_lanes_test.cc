// Which lanes an agent opens, and what ends them.

#include "agent/nccl/gpu_lanes.h"

#include <catch2/catch.hpp>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/executor/piece_mover.h"
#include "agent/message_lane.h"
#include "common/command.h"
#include "common/ids.h"
#include "common/mutex.h"
#include "tests/agent/nccl/communicator_rig.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::CommunicatorRig;
using testing::RigPeer;
using testing::StatusIs;

constexpr OperationId kOperation{7};

MessageGroup Group() {
  return {"plans-1-1",
          {{Rank(0), Incarnation(10)}, {Rank(1), Incarnation(11)}}};
}

// How a message ended.
class End {
 public:
  MessageLane::Done Done() {
    return [this](absl::Status status) {
      MutexLock lock(mutex_);
      status_ = std::move(status);
      over_ = true;
      changed_.SignalAll();
    };
  }
  absl::Status Await() {
    MutexLock lock(mutex_);
    while (!over_) changed_.Wait(mutex_);
    return status_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool over_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

// Agent 0 of two that know each other.
class Rig {
 public:
  Rig() : lanes_(TheHostMover(), communicators_.clock()) {
    lanes_.SetPeers({RigPeer(0), RigPeer(1)});
    lanes_.Serve(communicators_.agent(0));
  }
  ~Rig() { lanes_.Shutdown(); }

  GpuLanes& lanes() { return lanes_; }
  absl::StatusOr<std::unique_ptr<MessageLane>> Open(
      const MessageGroup& group = Group()) {
    return lanes_.Open(kOperation, group, Rank(0), absl::Minutes(1));
  }

 private:
  CommunicatorRig communicators_{2};
  GpuLanes lanes_;
};

TEST_CASE("a coordinator of a later epoch ends the lanes there are", "[nccl]") {
  Rig rig;
  rig.lanes().Raise(Epoch(3));
  REQUIRE_OK_AND_ASSIGN(const std::unique_ptr<MessageLane> lane, rig.Open());
  lane->Begin({{Rank(1), {.sends = 1, .receives = 0}}});
  // Not by one that is known already.
  rig.lanes().Raise(Epoch(3));
  End message;
  std::byte data{};
  lane->Send(Rank(1), 0, &data, 1, message.Done());
  CHECK(lane->Waiting());
  rig.lanes().Raise(Epoch(4));
  CHECK_THAT(message.Await(), StatusIs(absl::StatusCode::kAborted, "epoch 4"));
  CHECK_FALSE(lane->Waiting());
}

TEST_CASE("a lane that cannot be is refused, saying why", "[nccl]") {
  Rig rig;
  SECTION("of a life that is not known") {
    MessageGroup group = Group();
    group.members[1].incarnation = Incarnation(99);
    CHECK_THAT(rig.Open(group),
               StatusIs(absl::StatusCode::kUnavailable, "incarnation 99"));
  }
  SECTION("a second one of an operation") {
    REQUIRE_OK_AND_ASSIGN(const std::unique_ptr<MessageLane> lane, rig.Open());
    CHECK_THAT(rig.Open(),
               StatusIs(absl::StatusCode::kAlreadyExists, "operation 7"));
  }
  SECTION("without NCCL") {
    rig.lanes().Refuse(absl::NotFoundError("no NCCL library"));
    CHECK_THAT(rig.Open(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                    "no NCCL library"));
  }
}

}  // namespace
}  // namespace sluice::agent
