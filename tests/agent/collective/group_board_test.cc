#include "agent/collective/group_board.h"

#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/collective/call_header.h"
#include "agent/device/mapped_memory.h"
#include "agent/device/memory_file.h"
#include "agent/device/unique_fd.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::StatusIs;
using Code = absl::StatusCode;

constexpr uint64_t kGroup = 77;

std::unique_ptr<GroupBoard> Make(int member, int members) {
  auto board = GroupBoard::Create(kGroup, member, members, /*life=*/5);
  REQUIRE_OK(board);
  return *std::move(board);
}

// The memory as another process has it: mapped anew.
std::shared_ptr<MappedMemory> MapAgain(const MappedMemory& memory) {
  auto mapped = MapMemoryFile(UniqueFd(dup(memory.descriptor())), memory.size(),
                              Access::kReadWrite);
  REQUIRE_OK(mapped);
  return *std::move(mapped);
}

// An owner's board, and what another member of the node has of it.
struct Boards {
  explicit Boards(int members = 3) : own(Make(1, members)) {
    auto opened =
        GroupBoard::Open(MapAgain(*own->memory()), kGroup, 1, members);
    REQUIRE_OK(opened);
    seen = *std::move(opened);
  }
  std::unique_ptr<GroupBoard> own;
  std::unique_ptr<GroupBoard> seen;
};

TEST_CASE("a new board says nothing", "[collective]") {
  const Boards boards;
  CHECK(boards.seen->life() == 5);
  CHECK(boards.seen->shown_call() == 0);
  CHECK(boards.seen->finished() == 0);
  CHECK(boards.seen->completed() == 0);
  CHECK_FALSE(boards.seen->reading());
  CHECK(boards.seen->moved() == 0);
  CHECK(boards.seen->stalls() == 0);
  CHECK_OK(boards.seen->failure());
  for (int slot = 0; slot < GroupBoard::kMemorySlots; ++slot) {
    CHECK(boards.seen->generation(slot) == 0);
  }
}

TEST_CASE("only the board that is looked for is opened", "[collective]") {
  const auto board = Make(1, 3);
  const auto open = [&](uint64_t group, int member, int members) {
    return GroupBoard::Open(MapAgain(*board->memory()), group, member, members)
        .status();
  };
  CHECK_OK(open(kGroup, 1, 3));
  CHECK_THAT(open(kGroup + 1, 1, 3), StatusIs(Code::kInvalidArgument));
  CHECK_THAT(open(kGroup, 2, 3),
             StatusIs(Code::kInvalidArgument, "member 2 of 3"));
  CHECK_THAT(open(kGroup, 1, 4), StatusIs(Code::kInvalidArgument));
  REQUIRE_OK_AND_ASSIGN(UniqueFd other, CreateMemoryFile(1 << 20, "other"));
  REQUIRE_OK_AND_ASSIGN(
      std::shared_ptr<MappedMemory> memory,
      MapMemoryFile(std::move(other), 1 << 20, Access::kReadWrite));
  CHECK_THAT(GroupBoard::Open(memory, kGroup, 1, 3),
             StatusIs(Code::kInvalidArgument, "something else"));
  REQUIRE_OK_AND_ASSIGN(UniqueFd small, CreateMemoryFile(64, "small"));
  REQUIRE_OK_AND_ASSIGN(
      memory, MapMemoryFile(std::move(small), 64, Access::kReadWrite));
  CHECK_THAT(GroupBoard::Open(memory, kGroup, 1, 3),
             StatusIs(Code::kInvalidArgument));
}

TEST_CASE("what is written is seen where it belongs and nowhere else",
          "[collective]") {
  const int members = GENERATE(1, 3, 8, 200);
  const Boards boards(members);
  // Each part is filled to its end; none may reach into another.
  std::memset(boards.own->header_block(), 0x5a,
              static_cast<size_t>(CallHeaderBytes(members)));
  for (int m = 0; m < members; ++m) {
    boards.own->SetRelayed(m, int64_t{1} << (m % 60));
    boards.own->input_places()[m] = {m, 10, m * int64_t{100}};
    boards.own->output_places()[m] = {-m, 20, m * int64_t{1000}};
  }
  for (int slot = 0; slot < GroupBoard::kMemorySlots; ++slot) {
    boards.own->SetGeneration(slot, static_cast<uint32_t>(slot) + 1);
  }
  const auto* end = boards.own->memory()->data() + boards.own->memory()->size();
  CHECK(reinterpret_cast<std::byte*>(boards.own->output_places() + members) <=
        end);
  const auto* header =
      static_cast<const unsigned char*>(boards.seen->header_block());
  CHECK(std::count(header, header + CallHeaderBytes(members), 0x5a) ==
        CallHeaderBytes(members));
  for (int m = 0; m < members; ++m) {
    CHECK(boards.seen->relayed(m) == int64_t{1} << (m % 60));
    CHECK(boards.seen->input_places()[m].slot == m);
    CHECK(boards.seen->input_places()[m].offset == m * 100);
    CHECK(boards.seen->output_places()[m].slot == -m);
    CHECK(boards.seen->output_places()[m].generation == 20);
  }
  for (int slot = 0; slot < GroupBoard::kMemorySlots; ++slot) {
    CHECK(boards.seen->generation(slot) == static_cast<uint32_t>(slot) + 1);
  }
  CHECK(boards.seen->life() == 5);
  CHECK_OK(boards.seen->failure());
}

TEST_CASE("a board of pieces is aligned for numbers", "[collective]") {
  const int members = GENERATE(1, 2, 7);
  const auto board = Make(0, members);
  CHECK(reinterpret_cast<uintptr_t>(board->header_block()) % 64 == 0);
  CHECK(reinterpret_cast<uintptr_t>(board->input_places()) % 64 == 0);
  CHECK(reinterpret_cast<uintptr_t>(board->output_places()) % 64 == 0);
}

TEST_CASE("a call that is shown has relayed nothing yet", "[collective]") {
  const Boards boards;
  boards.own->ShowCall(1);
  for (int m = 0; m < 3; ++m) boards.own->SetRelayed(m, 100 + m);
  boards.own->ShowCall(2);
  CHECK(boards.seen->shown_call() == 2);
  for (int m = 0; m < 3; ++m) CHECK(boards.seen->relayed(m) == 0);
}

TEST_CASE("progress is told in numbers of its own", "[collective]") {
  const Boards boards;
  boards.own->SetFinished(3);
  boards.own->SetCompleted(2);
  boards.own->AddMoved(10);
  boards.own->AddMoved(int64_t{1} << 40);
  boards.own->AddStall();
  boards.own->SetReading(true);
  CHECK(boards.seen->finished() == 3);
  CHECK(boards.seen->completed() == 2);
  CHECK(boards.seen->moved() == 10 + (uint64_t{1} << 40));
  CHECK(boards.seen->stalls() == 1);
  CHECK(boards.seen->reading());
  boards.own->SetReading(false);
  CHECK_FALSE(boards.seen->reading());
  CHECK(boards.seen->shown_call() == 0);
}

TEST_CASE("the first reason of an end is the one that others see",
          "[collective]") {
  const Boards boards;
  boards.own->Fail(absl::UnavailableError("agent-3 is lost"));
  boards.own->Fail(absl::CancelledError("later"));
  CHECK_THAT(boards.seen->failure(),
             StatusIs(Code::kUnavailable, "agent-3 is lost"));
}

TEST_CASE("a reason that is too long is cut, not dropped", "[collective]") {
  const Boards boards;
  boards.own->Fail(absl::InternalError(std::string(5000, 'x')));
  const absl::Status seen = boards.seen->failure();
  CHECK(seen.code() == Code::kInternal);
  CHECK(seen.message() == std::string(1024, 'x'));
  boards.own->SetGeneration(0, 9);  // what lies behind the message
  CHECK(boards.seen->failure() == seen);
}

TEST_CASE("a bell that was rung lets nobody wait", "[collective]") {
  const Boards boards;
  const uint32_t before = boards.own->bell();
  boards.seen->Ring();
  CHECK(boards.own->bell() != before);
  // Would not return.
  boards.own->WaitForBell(before, absl::InfiniteDuration());
}

TEST_CASE("whoever waits is woken by a bell in another mapping",
          "[collective]") {
  const Boards boards;
  constexpr int kRounds = 1000;
  // Each waits for the other in turn; a lost ring would stop both.
  const uint32_t start = boards.own->bell();
  std::thread other([&] {
    for (uint32_t i = 0; i < kRounds; ++i) {
      while (boards.seen->shown_call() == i) {
        const uint32_t heard = boards.seen->bell();
        if (boards.seen->shown_call() != i) break;
        boards.seen->WaitForBell(heard, absl::InfiniteDuration());
      }
      boards.seen->SetFinished(i + 1);
      boards.seen->Ring();
    }
  });
  for (uint32_t i = 0; i < kRounds; ++i) {
    boards.own->ShowCall(i + 1);
    boards.own->Ring();
    while (boards.own->finished() == i) {
      const uint32_t heard = boards.own->bell();
      if (boards.own->finished() != i) break;
      boards.own->WaitForBell(heard, absl::InfiniteDuration());
    }
  }
  other.join();
  CHECK(boards.own->bell() - start == 2 * kRounds);
}

}  // namespace
}  // namespace sluice::agent
