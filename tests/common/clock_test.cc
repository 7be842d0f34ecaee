#include "common/clock.h"

#include <catch2/catch.hpp>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/fakes/fake_clock.h"

namespace sluice {
namespace {

TEST_CASE("the steady clock does not go back", "[common]") {
  const SystemClock clock;
  absl::Time last = clock.Now();
  for (int i = 0; i < 1000; ++i) {
    const absl::Time now = clock.Now();
    REQUIRE(now >= last);
    last = now;
  }
}

TEST_CASE("the wall clock is the machine's time of day", "[common]") {
  const SystemClock clock;
  const absl::Time before = absl::Now();
  const absl::Time wall = clock.WallNow();
  const absl::Time after = absl::Now();
  CHECK(before <= wall);
  CHECK(wall <= after);
}

TEST_CASE("a fake clock moves only when advanced", "[common]") {
  testing::FakeClock clock;
  const absl::Time start = clock.Now();
  CHECK(clock.Now() == start);
  clock.Advance(absl::Seconds(5));
  CHECK(clock.Now() - start == absl::Seconds(5));
  CHECK(clock.WallNow() == clock.Now());
}

TEST_CASE("setting a fake clock's time of day leaves steady time", "[common]") {
  testing::FakeClock clock;
  const absl::Time start = clock.Now();
  clock.SetWall(absl::UnixEpoch());
  CHECK(clock.Now() == start);
  CHECK(clock.WallNow() == absl::UnixEpoch());
}

}  // namespace
}  // namespace sluice
