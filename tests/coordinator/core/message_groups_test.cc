#include "coordinator/core/message_groups.h"

#include <catch2/catch.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "common/command.h"
#include "common/ids.h"
#include "common/plan.h"
#include "coordinator/core/operation_types.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator {
namespace {

using testing::StatusIs;
using Member = MessageGroup::Member;

constexpr Epoch kEpoch{3};

// Legs between nodes, and one inside a node that must not count.
PlanPart PartWith(const std::vector<std::pair<int, int>>& legs) {
  PlanPart part;
  for (const auto& [from, to] : legs) {
    Transfer transfer;
    transfer.link = LinkClass::kBetweenNodes;
    transfer.source = Rank(from);
    transfer.destination = Rank(to);
    transfer.bytes = 8;
    part.transfers.push_back(transfer);
  }
  part.transfers.push_back(part.transfers.front());
  part.transfers.back().link = LinkClass::kSameNode;
  part.transfers.back().source = Rank(9);
  return part;
}

absl::StatusOr<std::vector<Rank>> Choose(
    Transport transport, const PlanPart& part, const std::vector<int>& versions,
    std::vector<std::string> devices = {"a", "b", "c", "d"}) {
  return ChooseMembers(transport, {&part}, [&](Rank rank) {
    const auto r = static_cast<size_t>(rank.value());
    return NcclSeat{absl::StrCat("agent-", r), versions.at(r), devices.at(r)};
  });
}

std::vector<Rank> Ranks(const std::vector<int>& ranks) {
  std::vector<Rank> out;
  for (const int rank : ranks) out.emplace_back(rank);
  return out;
}

TEST_CASE("those whose bytes cross nodes between GPUs are members", "[core]") {
  const PlanPart part = PartWith({{3, 1}, {1, 0}, {2, 0}});
  const auto all = Choose(Transport::kAuto, part, {7, 7, 7, 7});
  REQUIRE_OK(all);
  CHECK(*all == Ranks({0, 1, 2, 3}));
  // Rank 2 has no NCCL: what it exchanges goes by UCX.
  const auto some = Choose(Transport::kAuto, part, {7, 7, 0, 7});
  REQUIRE_OK(some);
  CHECK(*some == Ranks({0, 1, 3}));
  const auto mixed = Choose(Transport::kAuto, part, {7, 7, 7, 8});
  REQUIRE_OK(mixed);
  CHECK(mixed->empty());
  // Ranks 0 and 3 share a GPU.
  const std::vector<std::string> shared = {"a", "b", "c", "a"};
  const auto sharing = Choose(Transport::kAuto, part, {7, 7, 7, 7}, shared);
  REQUIRE_OK(sharing);
  CHECK(sharing->empty());
  const auto asked = Choose(Transport::kNccl, part, {7, 7, 7, 7}, shared);
  REQUIRE_OK(asked);
  CHECK(*asked == Ranks({0, 1, 2, 3}));
  // Rank 3 takes no part.
  const auto others =
      Choose(Transport::kAuto, PartWith({{1, 0}}), {7, 7, 7, 7}, shared);
  REQUIRE_OK(others);
  CHECK(*others == Ranks({0, 1}));
  const auto none = Choose(Transport::kUcx, part, {7, 7, 7, 7});
  REQUIRE_OK(none);
  CHECK(none->empty());
}

TEST_CASE("NCCL asked for where it cannot be is refused, with names",
          "[core]") {
  const PlanPart part = PartWith({{3, 1}, {1, 0}, {2, 0}});
  CHECK_THAT(Choose(Transport::kNccl, part, {7, 7, 0, 7}),
             StatusIs(absl::StatusCode::kFailedPrecondition, "agent-2"));
  const auto mixed = Choose(Transport::kNccl, part, {7, 7, 7, 8});
  CHECK_THAT(mixed, StatusIs(absl::StatusCode::kFailedPrecondition, "agent-0"));
  CHECK_THAT(mixed, StatusIs(absl::StatusCode::kFailedPrecondition, "agent-3"));
  CHECK_OK(Choose(Transport::kNccl, part, {7, 7, 7, 7}));
}

std::vector<Member> Members(const std::vector<int>& ranks,
                            uint64_t incarnation = 1) {
  std::vector<Member> members;
  for (const int rank : ranks) {
    members.push_back({Rank(rank), Incarnation(incarnation)});
  }
  return members;
}

TEST_CASE("a group is used again by the same lives, by one at a time",
          "[core]") {
  MessageGroups groups;
  MessageGroup first = groups.Take(kEpoch, Members({0, 1}));
  MessageGroup second = groups.Take(kEpoch, Members({0, 1}));
  CHECK(first.name != second.name);
  const std::string name = first.name;
  groups.Return(std::move(first), /*well=*/true);
  CHECK(groups.Take(kEpoch, Members({0, 2})).name != name);
  CHECK(groups.Take(kEpoch, Members({0, 1}, 2)).name != name);
  CHECK(groups.Take(kEpoch, Members({0, 1})).name == name);
  groups.Return(std::move(second), /*well=*/true);
  groups.Return(groups.Take(kEpoch, Members({4, 5})), /*well=*/false);
  CHECK(groups.Take(kEpoch, Members({0, 1})).name != second.name);
}

TEST_CASE("few groups wait to be used again: each has memory of GPUs",
          "[core]") {
  MessageGroups groups;
  std::vector<MessageGroup> used;
  for (int i = 0; i < 3; ++i) {
    used.push_back(groups.Take(kEpoch, Members({i, i + 1})));
  }
  std::vector<std::string> names;
  for (MessageGroup& group : used) {
    names.push_back(group.name);
    groups.Return(std::move(group), /*well=*/true);
  }
  CHECK(groups.Take(kEpoch, Members({0, 1})).name != names[0]);
  CHECK(groups.Take(kEpoch, Members({1, 2})).name == names[1]);
  CHECK(groups.Take(kEpoch, Members({2, 3})).name == names[2]);
}

}  // namespace
}  // namespace sluice::coordinator
