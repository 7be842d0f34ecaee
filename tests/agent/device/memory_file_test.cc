#include "agent/device/memory_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/device/host_device.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::StatusIs;

TEST_CASE("an arena is mapped whole, zero, and cannot be resized", "[device]") {
  HostDevice device;
  REQUIRE_OK_AND_ASSIGN(const auto arena, device.Allocate(10'000, "arena"));
  CHECK(arena->size() == 10'000);
  CHECK(arena->data()[9'999] == std::byte{0});
  CHECK(ftruncate(arena->descriptor(), 5'000) != 0);
  CHECK(ftruncate(arena->descriptor(), 20'000) != 0);
  CHECK_THAT(CheckMemoryFile(arena->descriptor()), testing::IsOk());
}

TEST_CASE("two mappings of one memory see each other's bytes", "[device]") {
  HostDevice device;
  REQUIRE_OK_AND_ASSIGN(const auto ours, device.Allocate(4'096, "arena"));
  REQUIRE_OK_AND_ASSIGN(UniqueFd copy, Duplicate(ours->descriptor()));
  REQUIRE_OK_AND_ASSIGN(const auto theirs, device.Adopt(std::move(copy)));
  std::memcpy(ours->data() + 17, "sluice", 6);
  CHECK(std::memcmp(theirs->data() + 17, "sluice", 6) == 0);
  CHECK(theirs->data() != ours->data());
}

TEST_CASE("memory lives until its last mapping goes", "[device]") {
  HostDevice device;
  REQUIRE_OK_AND_ASSIGN(auto ours, device.Allocate(4'096, "arena"));
  REQUIRE_OK_AND_ASSIGN(UniqueFd copy, Duplicate(ours->descriptor()));
  REQUIRE_OK_AND_ASSIGN(const auto theirs, device.Adopt(std::move(copy)));
  ours->data()[5] = std::byte{42};
  ours.reset();
  CHECK(theirs->data()[5] == std::byte{42});
}

TEST_CASE("a reopened descriptor cannot be mapped for writing", "[device]") {
  HostDevice device;
  REQUIRE_OK_AND_ASSIGN(const auto arena, device.Allocate(4'096, "arena"));
  REQUIRE_OK_AND_ASSIGN(UniqueFd reader, ReopenReadOnly(arena->descriptor()));
  REQUIRE_OK_AND_ASSIGN(UniqueFd second, Duplicate(reader.get()));
  REQUIRE_OK_AND_ASSIGN(UniqueFd third, Duplicate(reader.get()));
  CHECK_OK(MapMemoryFile(std::move(reader), 4'096, Access::kReadOnly));
  CHECK_THAT(MapMemoryFile(std::move(second), 4'096, Access::kReadWrite),
             StatusIs(absl::StatusCode::kPermissionDenied));
  CHECK_THAT(device.Adopt(std::move(third)),
             StatusIs(absl::StatusCode::kInvalidArgument, "read-only"));
}

TEST_CASE("memory that can shrink, or is no memory, is not adopted",
          "[device]") {
  HostDevice device;
  UniqueFd open(memfd_create("open", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  REQUIRE(ftruncate(open.get(), 4'096) == 0);
  CHECK_THAT(device.Adopt(std::move(open)),
             StatusIs(absl::StatusCode::kInvalidArgument, "F_SEAL_SHRINK"));
  CHECK_THAT(device.Adopt(UniqueFd(::open("/dev/null", O_RDWR))),
             StatusIs(absl::StatusCode::kInvalidArgument));
  CHECK_THAT(device.Adopt(UniqueFd(::open("/etc/passwd", O_RDONLY))),
             StatusIs(absl::StatusCode::kInvalidArgument));
  CHECK_THAT(device.Adopt(UniqueFd()),
             StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_CASE("sizes are checked before memory is made or mapped", "[device]") {
  HostDevice device;
  CHECK_THAT(device.Allocate(0, "none"),
             StatusIs(absl::StatusCode::kInvalidArgument));
  REQUIRE_OK_AND_ASSIGN(UniqueFd fd, CreateMemoryFile(4'096, "small"));
  CHECK_THAT(MapMemoryFile(std::move(fd), 4'097, Access::kReadOnly),
             StatusIs(absl::StatusCode::kInvalidArgument, "4097"));
}

TEST_CASE("making pages beforehand changes no byte", "[agent][device]") {
  constexpr int64_t kBytes = 3 * 4096 + 5;
  REQUIRE_OK_AND_ASSIGN(UniqueFd fd, CreateMemoryFile(kBytes, "pages"));
  REQUIRE_OK_AND_ASSIGN(
      const std::shared_ptr<MappedMemory> memory,
      MapMemoryFile(std::move(fd), kBytes, Access::kReadWrite));
  memory->data()[4097] = std::byte{7};
  MakePages(*memory, 4097, kBytes);
  MakePages(*memory, 0, kBytes);
  for (int64_t i = 0; i < kBytes; ++i) {
    REQUIRE(memory->data()[i] == (i == 4097 ? std::byte{7} : std::byte{0}));
  }
}

// Whether the mapping at this address asks for huge pages ("hg" among the flags
// that the system lists).
bool AsksForHugePages(const MappedMemory& memory) {
  std::ifstream maps("/proc/self/smaps");
  const std::string start =
      absl::StrCat(absl::Hex(reinterpret_cast<uintptr_t>(memory.data())), "-");
  bool here = false;
  for (std::string line; std::getline(maps, line);) {
    if (absl::StartsWith(line, start)) here = true;
    if (here && absl::StartsWith(line, "VmFlags:")) {
      return absl::StrContains(absl::StrCat(line, " "), " hg ");
    }
  }
  FAIL("no mapping at " << start);
  return false;
}

TEST_CASE("equal ranges of large memories differ in what caches go by",
          "[device]") {
  HostDevice device;
  std::vector<std::shared_ptr<MappedMemory>> memories;
  std::set<uintptr_t> steps;
  for (int i = 0; i < 16; ++i) {
    CAPTURE(i);
    REQUIRE_OK_AND_ASSIGN(auto memory,
                          device.Allocate((int64_t{256} << 20) - i, "large"));
    const auto address = reinterpret_cast<uintptr_t>(memory->data());
    CHECK(address % (uintptr_t{2} << 20) == 0);
    CHECK(steps.insert(address >> 21 & 127).second);
    // All of it is there.
    memory->data()[0] = memory->data()[memory->size() - 1] = std::byte{1};
    memories.push_back(std::move(memory));
  }
  // A mapping that is refused leaves nothing behind, and the next is made.
  REQUIRE_OK_AND_ASSIGN(UniqueFd reader,
                        ReopenReadOnly(memories[0]->descriptor()));
  CHECK_THAT(
      MapMemoryFile(std::move(reader), memories[0]->size(), Access::kReadWrite),
      StatusIs(absl::StatusCode::kPermissionDenied));
  CHECK_OK(device.Allocate(int64_t{4} << 20, "next"));
}

TEST_CASE("large memory asks for huge pages, small does not", "[device]") {
  HostDevice device;
  REQUIRE_OK_AND_ASSIGN(const auto large,
                        device.Allocate(int64_t{33} << 20, "arena"));
  REQUIRE_OK_AND_ASSIGN(const auto small, device.Allocate(4096, "board"));
  CHECK(AsksForHugePages(*large));
  CHECK_FALSE(AsksForHugePages(*small));
}

}  // namespace
}  // namespace sluice::agent
