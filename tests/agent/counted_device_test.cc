#include "agent/counted_device.h"

#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "agent/device/host_device.h"
#include "agent/device/memory_file.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::StatusIs;
using Code = absl::StatusCode;

// Counts up to `limit` bytes.
struct Counted {
  CountedDevice::Account Account() {
    return {[this](int64_t bytes, absl::string_view label) {
              if (used + bytes > limit) {
                return absl::ResourceExhaustedError(
                    absl::StrCat(label, " needs ", bytes));
              }
              used += bytes;
              return absl::OkStatus();
            },
            [this](int64_t bytes) { used -= bytes; }};
  }

  int64_t limit = 1000;
  int64_t used = 0;
  HostDevice host;
  CountedDevice device{host, Account()};
};

TEST_CASE("memory counts as long as somebody holds it", "[agent][device]") {
  Counted counted;
  REQUIRE_OK_AND_ASSIGN(std::shared_ptr<MappedMemory> first,
                        counted.device.Allocate(600, "a"));
  CHECK(first->size() >= 600);
  CHECK(first->descriptor() >= 0);
  first->data()[599] = std::byte{7};
  REQUIRE_OK_AND_ASSIGN(std::shared_ptr<MappedMemory> second,
                        counted.device.Allocate(400, "b"));
  CHECK(counted.used == 1000);
  const std::shared_ptr<MappedMemory> other = first;
  first.reset();
  CHECK(counted.used == 1000);
  second.reset();
  CHECK(counted.used == 600);
}

TEST_CASE("what the account refuses is not made", "[agent][device]") {
  Counted counted;
  CHECK_THAT(counted.device.Allocate(1001, "buckets"),
             StatusIs(Code::kResourceExhausted, "buckets needs 1001"));
  CHECK(counted.used == 0);
}

TEST_CASE("what the device cannot make does not count", "[agent][device]") {
  Counted counted;
  counted.limit = std::numeric_limits<int64_t>::max();
  CHECK_FALSE(counted.device.Allocate(int64_t{1} << 62, "huge").ok());
  CHECK_THAT(counted.device.Allocate(0, "none"),
             StatusIs(Code::kInvalidArgument));
  CHECK_THAT(counted.device.Allocate(-5, "none"),
             StatusIs(Code::kInvalidArgument));
  CHECK(counted.used == 0);
}

TEST_CASE("a worker's memory is its own", "[agent][device]") {
  Counted counted;
  counted.limit = 0;
  REQUIRE_OK_AND_ASSIGN(UniqueFd fd, CreateMemoryFile(4096, "lent"));
  REQUIRE_OK_AND_ASSIGN(const std::shared_ptr<MappedMemory> adopted,
                        counted.device.Adopt(std::move(fd)));
  CHECK(adopted->size() == 4096);
  CHECK(counted.device.Kind() == "host");
}

}  // namespace
}  // namespace sluice::agent
