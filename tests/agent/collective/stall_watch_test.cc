#include "agent/collective/stall_watch.h"

#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using Told = StallWatch::Told;
using Verdict = StallWatch::Verdict;

// A wait of member 0 with a timeout of 4 s, which it looks at twice a second.
class Wait {
 public:
  // The verdict of the look at this time.
  Verdict Until(double seconds) {
    Verdict verdict = Verdict::kGoOn;
    for (; now_ < seconds; now_ += 0.5) {
      verdict =
          watch_.Look(absl::FromUnixSeconds(0) + absl::Seconds(now_ + 0.5),
                      moved_, [this] { return told_; });
      if (verdict == Verdict::kTell) ++tells_;
    }
    return verdict;
  }
  void Move() { ++moved_; }
  void Tell(size_t member) { ++told_[member]; }
  int tells() const { return tells_; }
  std::vector<int> Silent(std::vector<int> waited_for) const {
    return watch_.Silent(told_, 0, std::move(waited_for));
  }

 private:
  double now_ = 0;
  uint64_t moved_ = 7;
  int tells_ = 0;
  Told told_ = Told(4);
  StallWatch watch_{absl::Seconds(4), absl::FromUnixSeconds(0), 7};
};

TEST_CASE("a standstill is told after half of the timeout, once",
          "[stall_watch]") {
  Wait wait;
  CHECK(wait.Until(1.5) == Verdict::kGoOn);
  CHECK(wait.Until(2) == Verdict::kTell);
  CHECK(wait.Until(3.5) == Verdict::kGoOn);
  CHECK(wait.Until(4) == Verdict::kOver);
  CHECK(wait.tells() == 1);
}

TEST_CASE("whatever moves begins it anew", "[stall_watch]") {
  Wait wait;
  CHECK(wait.Until(3.5) == Verdict::kGoOn);
  wait.Move();
  CHECK(wait.Until(4) == Verdict::kGoOn);
  CHECK(wait.Until(7.5) == Verdict::kGoOn);
  CHECK(wait.tells() == 2);
  CHECK(wait.Until(8) == Verdict::kOver);
}

TEST_CASE("who tells that it waits is not who stands still", "[stall_watch]") {
  Wait wait;
  wait.Until(2);
  wait.Tell(2);
  wait.Tell(3);
  CHECK(wait.Until(4) == Verdict::kOver);
  // This member waits for 2, and 2 for 1.
  CHECK(wait.Silent({2}) == std::vector<int>{1});
}

TEST_CASE("what was told of a former standstill does not count",
          "[stall_watch]") {
  Wait wait;
  wait.Until(2);
  for (const size_t m : {1, 2, 3}) wait.Tell(m);
  wait.Move();
  wait.Until(5);
  wait.Tell(1);
  wait.Tell(3);
  CHECK(wait.Until(6.5) == Verdict::kOver);
  CHECK(wait.Silent({1}) == std::vector<int>{2});
}

TEST_CASE("where all have told, those who are waited for are named",
          "[stall_watch]") {
  Wait wait;
  wait.Until(2);
  for (const size_t m : {1, 2, 3}) wait.Tell(m);
  CHECK(wait.Until(4) == Verdict::kOver);
  CHECK(wait.Silent({1, 3}) == std::vector<int>{1, 3});
}

}  // namespace
}  // namespace sluice::agent
