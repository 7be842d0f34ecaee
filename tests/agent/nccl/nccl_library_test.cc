#include "agent/nccl/nccl_library.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tests/fakes/nccl/host_stream.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_dir.h"

namespace sluice::agent {
namespace {

using testing::IsOk;
using testing::StatusIs;

constexpr char kFake[] = "tests/fakes/nccl/libfake_nccl.so";
constexpr char kBare[] = "tests/fakes/nccl/libbare_nccl.so";

NcclLibraryOptions AtPath(std::string path) {
  NcclLibraryOptions options;
  options.path = std::move(path);
  return options;
}

// Sets a variable for a scope.
class ScopedVariable {
 public:
  ScopedVariable(const char* name, const char* value) : name_(name) {
    ::setenv(name, value, 1);
  }
  ~ScopedVariable() { ::unsetenv(name_); }

 private:
  const char* const name_;
};

TEST_CASE("a library is loaded by its path and says what it is", "[nccl]") {
  REQUIRE_OK_AND_ASSIGN(const auto library, NcclLibrary::Open(AtPath(kFake)));
  CHECK(library->version() == 22809);
  CHECK(library->VersionName() == "2.28.9");
  CHECK(library->path() == kFake);
  const std::vector<std::string>& features = library->features();
  CHECK(std::count(features.begin(), features.end(), "ncclAlltoAll") == 1);
  CHECK(std::count(features.begin(), features.end(), "ncclCommShrink") == 0);
  CHECK(library->api().CommShrink == nullptr);
  CHECK(std::is_sorted(features.begin(), features.end()));
}

TEST_CASE("no library: what was tried is named", "[nccl]") {
  CHECK_THAT(NcclLibrary::Open(AtPath("/nowhere/libnccl.so.2")),
             StatusIs(absl::StatusCode::kNotFound, "/nowhere/libnccl.so.2"));
}

TEST_CASE("too old a library is refused with both versions", "[nccl]") {
  const ScopedVariable version("SLUICE_FAKE_NCCL_VERSION", "21806");
  CHECK_THAT(NcclLibrary::Open(AtPath(kFake)),
             StatusIs(absl::StatusCode::kFailedPrecondition, "2.18.6"));
  CHECK_THAT(NcclLibrary::Open(AtPath(kFake)),
             StatusIs(absl::StatusCode::kFailedPrecondition, "2.19.0"));
}

TEST_CASE("a library that lacks functions is refused with their names",
          "[nccl]") {
  CHECK_THAT(NcclLibrary::Open(AtPath(kBare)),
             StatusIs(absl::StatusCode::kFailedPrecondition, "ncclSend"));
  // A library, but none of NCCL.
  CHECK_THAT(NcclLibrary::Open(AtPath("libm.so.6")),
             StatusIs(absl::StatusCode::kFailedPrecondition, "ncclGetVersion"));
}

TEST_CASE("the environment names the library and where to look", "[nccl]") {
  const ScopedVariable path("SLUICE_NCCL_LIBRARY", kFake);
  const ScopedVariable search("SLUICE_NCCL_SEARCH", "/a::/b");
  const NcclLibraryOptions options = NcclLibraryOptions::FromEnvironment();
  CHECK(options.path == kFake);
  CHECK(options.search == std::vector<std::string>{"/a", "/b"});
}

TEST_CASE("results become statuses", "[nccl]") {
  REQUIRE_OK_AND_ASSIGN(const auto library, NcclLibrary::Open(AtPath(kFake)));
  CHECK_OK(library->Check(NcclResult::kSuccess, "ncclSend"));
  CHECK_OK(library->Check(NcclResult::kInProgress, "ncclSend"));
  CHECK_THAT(library->Check(NcclResult::kRemoteError, "ncclSend"),
             StatusIs(absl::StatusCode::kUnavailable, "ncclSend"));
  CHECK_THAT(library->Check(NcclResult::kInvalidUsage, "ncclSend"),
             StatusIs(absl::StatusCode::kFailedPrecondition, "invalid usage"));
  CHECK_THAT(library->Check(NcclResult::kInternalError, "ncclSend"),
             StatusIs(absl::StatusCode::kInternal, "internal error"));
}

TEST_CASE("NCCL's last error is said to be no more than that", "[nccl]") {
  const testing::TestDir dir;
  const ScopedVariable folder("SLUICE_FAKE_NCCL_DIR", dir.path().c_str());
  REQUIRE_OK_AND_ASSIGN(const auto library, NcclLibrary::Open(AtPath(kFake)));
  const NcclApi& nccl = library->api();
  NcclUniqueId id;
  REQUIRE(nccl.GetUniqueId(&id) == NcclResult::kSuccess);
  const ScopedVariable blocks("NCCL_COMM_BLOCKING", "1");
  const ScopedVariable faults("SLUICE_FAKE_NCCL_FAULTS", "init_fail");
  NcclComm failed = nullptr;
  CHECK(nccl.CommInitRankConfig(&failed, 1, id, 0, nullptr) ==
        NcclResult::kSystemError);
  CHECK(nccl.CommAbort(failed) == NcclResult::kSuccess);
  // Of another communicator, or of none.
  CHECK_THAT(library->Check(NcclResult::kRemoteError, "ncclSend"),
             StatusIs(absl::StatusCode::kUnavailable,
                      "(NCCL's last error: Call to connect failed"));
}

// The machine's own NCCL, where there is one: all it needs to be asked.
TEST_CASE("the installed library, if any, has what is needed", "[nccl]") {
  const auto library = NcclLibrary::Open({});
  if (!library.ok()) {
    CHECK_THAT(library, StatusIs(absl::StatusCode::kNotFound));
    return;
  }
  CHECK((*library)->version() >= NcclLibrary::kMinimumVersion);
  NcclUniqueId id;
  CHECK((*library)->api().GetUniqueId(&id) == NcclResult::kSuccess);
}

TEST_CASE("no call blocks, whatever the environment says", "[nccl]") {
  const testing::TestDir dir;
  const ScopedVariable folder("SLUICE_FAKE_NCCL_DIR", dir.path().c_str());
  const ScopedVariable blocks("NCCL_COMM_BLOCKING", "1");
  REQUIRE_OK_AND_ASSIGN(const auto library, NcclLibrary::Open(AtPath(kFake)));
  const NcclApi& nccl = library->api();
  NcclUniqueId id;
  REQUIRE(nccl.GetUniqueId(&id) == NcclResult::kSuccess);
  NcclConfig config;
  config.blocking = 0;
  NcclComm comm = nullptr;
  CHECK(nccl.CommInitRankConfig(&comm, 1, id, 0, &config) ==
        NcclResult::kInProgress);
  CHECK(nccl.CommAbort(comm) == NcclResult::kSuccess);
}

TEST_CASE("the fake moves bytes within one rank", "[nccl]") {
  REQUIRE_OK_AND_ASSIGN(const auto library, NcclLibrary::Open(AtPath(kFake)));
  const ScopedVariable blocks("NCCL_COMM_BLOCKING", "1");
  const NcclApi& nccl = library->api();
  NcclUniqueId id;
  REQUIRE(nccl.GetUniqueId(&id) == NcclResult::kSuccess);
  NcclComm comm = nullptr;
  REQUIRE(nccl.CommInitRankConfig(&comm, 1, id, 0, nullptr) ==
          NcclResult::kSuccess);
  testing::HostNcclDevice device("host:0");
  REQUIRE_OK_AND_ASSIGN(const auto stream, device.NewStream());
  const std::vector<float> from = {1, 2, 3};
  std::vector<float> to(3);
  REQUIRE(nccl.GroupStart() == NcclResult::kSuccess);
  CHECK(nccl.Send(from.data(), 3, NcclDataType::kFloat32, 0, comm,
                  stream->handle()) == NcclResult::kSuccess);
  CHECK(nccl.Recv(to.data(), 3, NcclDataType::kFloat32, 0, comm,
                  stream->handle()) == NcclResult::kSuccess);
  REQUIRE(nccl.GroupEnd() == NcclResult::kSuccess);
  CHECK(nccl.CommFinalize(comm) == NcclResult::kSuccess);
  CHECK(nccl.CommDestroy(comm) == NcclResult::kSuccess);
  CHECK(to == from);
}

}  // namespace
}  // namespace sluice::agent
