// A member that cannot be in a group of GPUs, and how the others learn of it.

#include "agent/nccl/refused_group.h"

#include <catch2/catch.hpp>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/device/host_device.h"
#include "agent/nccl/host_group_controls.h"
#include "agent/nccl/join_card.h"
#include "common/clock.h"
#include "tests/agent/collective/local_directory.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::IsOk;
using testing::StatusIs;
using Code = absl::StatusCode;

CollectiveMembers Members(int count, int self) {
  CollectiveMembers members;
  members.name = "g";
  members.self = self;
  for (int m = 0; m < count; ++m) {
    Peer& peer = members.peers.emplace_back();
    peer.rank = Rank(m);
    peer.name = absl::StrCat("agent-", m);
    peer.node = "node";
    peer.incarnation = Incarnation(10 + static_cast<uint64_t>(m));
  }
  return members;
}

struct Rig {
  std::unique_ptr<CollectiveGroup> Refuse(
      const CollectiveMembers& members, const std::string& why,
      absl::Duration meet_timeout = absl::Hours(1)) {
    auto made = MakeRefusedGroup(members, absl::NotFoundError(why), device,
                                 make_group, {.meet_timeout = meet_timeout});
    REQUIRE_OK(made);
    return *std::move(made);
  }

  SystemClock clock;
  HostDevice device;
  LocalDirectory directory;
  HostGroupControls::MakeGroup make_group = [this](CollectiveMembers members,
                                                   HostGroupOptions options) {
    return MakeHostGroup(std::move(members), {directory, nullptr, clock},
                         std::move(options));
  };
};

// How a call on this member ends.
std::future<absl::Status> Call(CollectiveGroup& group) {
  auto ended = std::make_shared<std::promise<absl::Status>>();
  group.Run({}, [ended](absl::Status status) {
    ended->set_value(std::move(status));
  });
  return ended->get_future();
}

TEST_CASE("who makes a communicator learns who cannot, and why",
          "[nccl][refused]") {
  Rig rig;
  HostGroupControls controls(rig.device, rig.make_group);
  std::promise<absl::Status> end;
  auto control = controls.Join(Members(2, 0), [&end](absl::Status reason) {
    end.set_value(std::move(reason));
  });
  REQUIRE_OK(control);
  std::promise<absl::StatusOr<std::vector<std::string>>> met;
  (*control)->Exchange(JoinCard().Encode(), [&met](auto result) {
    met.set_value(std::move(result));
  });
  const auto refused = rig.Refuse(Members(2, 1), "no NCCL here");
  const auto is_refusal =
      StatusIs(Code::kFailedPrecondition,
               "\"agent-1\" (rank 1) cannot join: no NCCL here");
  CHECK_THAT(Call(*refused).get(), is_refusal);
  // By its end, whether or not this one has had its card before.
  CHECK_THAT(end.get_future().get(), is_refusal);
  const auto cards = met.get_future().get();
  if (cards.ok()) {
    auto card = JoinCard::Decode((*cards)[1]);
    REQUIRE_OK(card);
    CHECK_THAT(CheckCards(Members(2, 0), {JoinCard(), *card}), is_refusal);
  } else {
    CHECK_THAT(cards.status(), is_refusal);
  }
  // It stays so.
  CHECK_THAT(Call(*refused).get(), is_refusal);
  (*control)->Leave();
}

TEST_CASE("members that all cannot are told of the first and how many",
          "[nccl][refused]") {
  Rig rig;
  std::vector<std::unique_ptr<CollectiveGroup>> groups;
  std::vector<std::future<absl::Status>> ends;
  for (int m = 0; m < 3; ++m) {
    groups.push_back(rig.Refuse(Members(3, m), absl::StrCat("why ", m)));
    ends.push_back(Call(*groups.back()));
  }
  for (auto& end : ends) {
    CHECK_THAT(end.get(),
               StatusIs(Code::kFailedPrecondition,
                        "\"agent-0\" (rank 0) cannot join: why 0 (nor "
                        "can 2 others)"));
  }
}

TEST_CASE("a member that cannot says why also where others do not come",
          "[nccl][refused]") {
  Rig rig;
  const auto refused =
      rig.Refuse(Members(2, 1), "no NCCL here", absl::Milliseconds(1));
  const absl::Status status = Call(*refused).get();
  CHECK_THAT(status, StatusIs(Code::kFailedPrecondition, "no NCCL here"));
  CHECK_THAT(status, StatusIs(Code::kFailedPrecondition, "agent-0"));
}

TEST_CASE("a member that cannot ends as it is told to", "[nccl][refused]") {
  Rig rig;
  const auto refused = rig.Refuse(Members(2, 1), "no NCCL here");
  std::future<absl::Status> ended = Call(*refused);
  std::promise<void> gone;
  refused->Abort(absl::CancelledError("the worker has gone"),
                 [&gone] { gone.set_value(); });
  CHECK_THAT(ended.get(), StatusIs(Code::kCancelled, "worker"));
  gone.get_future().get();
}

}  // namespace
}  // namespace sluice::agent
