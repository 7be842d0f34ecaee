#include "agent/nccl/lane_step.h"

#include <catch2/catch.hpp>
#include <random>
#include <vector>

#include "absl/status/status.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::StatusIs;

TEST_CASE("a card survives its encoding, and nothing else is one", "[nccl]") {
  const LaneCard card{.done = true,
                      .shared = true,
                      .count = 1ull << 40,
                      .ready = {{0, 0}, {3, 1}, {1 << 20, 7}}};
  REQUIRE_OK_AND_ASSIGN(const LaneCard back,
                        LaneCard::Decode(card.Encode(), 3));
  CHECK(back.done);
  CHECK(back.shared);
  CHECK(back.count == card.count);
  CHECK(back.ready == card.ready);
  CHECK_THAT(LaneCard::Decode(card.Encode(), 2),
             StatusIs(absl::StatusCode::kInvalidArgument));
  CHECK_THAT(LaneCard::Decode("", 3),
             StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_CASE("only what is ready on both sides moves", "[nccl]") {
  // 0 has three messages for 1, which has room for two; 1 has one for 0, which
  // has no room yet.
  std::vector<LaneCard> cards(2);
  cards[0].ready = {{0, 0}, {3, 0}};
  cards[1].ready = {{1, 2}, {0, 0}};
  CHECK(PlanLaneStep(0, cards).until[1] == LaneMark{2, 0});
  CHECK(PlanLaneStep(1, cards).until[0] == LaneMark{0, 2});
  CHECK(PlanLaneStep(0, cards).moved == 2);
  CHECK(PlanLaneStep(1, cards).moved == 2);
  CHECK_FALSE(PlanLaneStep(0, cards).over);
  cards[0].done = true;
  CHECK_FALSE(PlanLaneStep(1, cards).over);
  cards[1].done = true;
  CHECK(PlanLaneStep(1, cards).over);
}

TEST_CASE("a step's number is above what any member has counted", "[nccl]") {
  std::vector<LaneCard> cards(3);
  for (LaneCard& card : cards) card.ready.resize(3);
  cards[1].count = 9;
  cards[2].count = 4;
  for (int self = 0; self < 3; ++self) {
    CHECK(PlanLaneStep(self, cards).count == 10);
    CHECK_FALSE(PlanLaneStep(self, cards).shared);
  }
  cards[2].shared = true;
  CHECK(PlanLaneStep(0, cards).shared);
}

// Members whose messages become ready in any order.
struct Members {
  explicit Members(std::mt19937_64& random) : cards(5), moved(5) {
    for (size_t m = 0; m < cards.size(); ++m) {
      cards[m].ready.resize(cards.size());
      moved[m].resize(cards.size());
      totals.emplace_back();
      for (size_t k = 0; k < cards.size(); ++k) {
        totals[m].push_back(m == k ? 0 : static_cast<int64_t>(random() % 6));
      }
    }
  }
  // totals[m][k]: messages from m to k.
  void Advance(std::mt19937_64& random) {
    for (size_t m = 0; m < cards.size(); ++m) {
      cards[m].done = true;
      for (size_t k = 0; k < cards.size(); ++k) {
        LaneMark& ready = cards[m].ready[k];
        ready.sends += ready.sends < totals[m][k] ? random() % 2 : 0;
        ready.receives += ready.receives < totals[k][m] ? random() % 2 : 0;
        cards[m].done &= moved[m][k] == LaneMark{totals[m][k], totals[k][m]};
      }
    }
  }
  std::vector<LaneCard> cards;
  std::vector<std::vector<int64_t>> totals;
  std::vector<std::vector<LaneMark>> moved;
};

TEST_CASE("steps move the same on both sides, until all has moved", "[nccl]") {
  std::mt19937_64 random(Catch::rngSeed());
  for (int round = 0; round < 50; ++round) {
    Members members(random);
    int steps = 0;
    bool over = false;
    while (!over) {
      REQUIRE(++steps < 1000);
      members.Advance(random);
      for (size_t m = 0; m < members.cards.size(); ++m) {
        const LaneStep step = PlanLaneStep(static_cast<int>(m), members.cards);
        over = step.over;
        members.moved[m] = step.until;
      }
      for (size_t m = 0; m < members.cards.size(); ++m) {
        for (size_t k = 0; k < members.cards.size(); ++k) {
          REQUIRE(members.moved[m][k].sends == members.moved[k][m].receives);
        }
      }
    }
    for (size_t m = 0; m < members.cards.size(); ++m) {
      for (size_t k = 0; k < members.cards.size(); ++k) {
        CHECK(members.moved[m][k].sends == members.totals[m][k]);
      }
    }
  }
}

}  // namespace
}  // namespace sluice::agent
