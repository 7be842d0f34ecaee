// How a peer's memory of a GPU is mapped and let go of. What a peer of the host
// shows is tested with the socket that shows it: descriptor_socket_test.cc.

#include "agent/peer_directory.h"

#include <catch2/catch.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/descriptor_socket.h"
#include "agent/descriptor_table.h"
#include "agent/device/host_device.h"
#include "agent/socket_paths.h"
#include "agent/source_table.h"
#include "tests/agent/fake_executor.h"
#include "tests/fakes/fake_clock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_dir.h"

namespace sluice::agent {
namespace {

using testing::IsOk;
using testing::StatusIs;
using Code = absl::StatusCode;

constexpr int64_t kBytes = 64;

// One allocation of a peer's GPU: `name` tells it from all others, also from
// those that lay at its address before.
struct Allocation {
  std::string name;
  int64_t address = 0;
};

class ShownMemory final : public MappedMemory {
 public:
  explicit ShownMemory(Allocation allocation)
      : allocation_(std::move(allocation)) {}
  std::byte* data() const override { return nullptr; }
  int64_t size() const override { return kBytes; }
  MemorySpace space() const override { return MemorySpace::kDevice; }
  absl::StatusOr<DeviceRange> ToRange() const override {
    return DeviceRange{absl::StrCat(allocation_.name, "@", allocation_.address),
                       0, kBytes, ""};
  }

 private:
  const Allocation allocation_;
};

// Maps one allocation at an address at a time, as the driver does. Used by one
// thread.
class FakeGpu final : public Device {
 public:
  std::string Kind() const override { return "cuda"; }
  absl::StatusOr<std::shared_ptr<MappedMemory>> Allocate(
      int64_t, absl::string_view) override {
    return absl::UnimplementedError("no arenas");
  }
  absl::StatusOr<std::shared_ptr<MappedMemory>> Adopt(UniqueFd) override {
    return absl::UnimplementedError("no descriptors");
  }
  absl::StatusOr<std::shared_ptr<MappedMemory>> AdoptRange(
      const DeviceRange& range) override {
    const std::string address = range.handle.substr(range.handle.find('@'));
    if (const auto open = open_.find(address); open != open_.end()) {
      return absl::InternalError(
          absl::StrCat("cudaErrorAlreadyMapped (208): ", open->second));
    }
    open_[address] = range.handle;
    ++imports;
    return std::make_shared<Import>(*this, address);
  }

  // Handles of what is mapped.
  std::vector<std::string> open() const {
    std::vector<std::string> handles;
    for (const auto& [address, handle] : open_) handles.push_back(handle);
    return handles;
  }

  std::function<void()> on_unmap = [] {};
  int imports = 0;

 private:
  class Import final : public MappedMemory {
   public:
    Import(FakeGpu& gpu, std::string address)
        : gpu_(gpu), address_(std::move(address)) {}
    Import(const Import&) = delete;
    Import& operator=(const Import&) = delete;
    ~Import() override {
      gpu_.open_.erase(address_);
      gpu_.on_unmap();
    }
    std::byte* data() const override { return nullptr; }
    int64_t size() const override { return kBytes; }
    MemorySpace space() const override { return MemorySpace::kDevice; }

   private:
    FakeGpu& gpu_;
    const std::string address_;
  };

  std::map<std::string, std::string> open_;  // by address
};

using Handles = std::vector<std::string>;

// An agent of the node that shows its memory to rank 9.
class ShowingPeer {
 public:
  explicit ShowingPeer(Rank rank) : rank_(rank), executor_({}) {
    auto started = DescriptorSocket::Start(DescriptorSocketPath(path()),
                                           {table_, sources_, executor_});
    REQUIRE_OK(started);
    socket_ = *std::move(started);
  }

  // Prepares an operation that reads this memory.
  void Show(OperationId operation, std::shared_ptr<MappedMemory> memory) {
    ExecutionRequest request;
    request.operation = operation;
    request.self = rank_;
    BoundTransfer& transfer = request.transfers.emplace_back();
    transfer.link = LinkClass::kSameNode;
    transfer.source = rank_;
    transfer.destination = Rank(9);
    BoundPiece& piece = transfer.pieces.emplace_back();
    piece.dtype = DType::kU8;
    piece.shape = {kBytes};
    piece.box = Box::Whole(piece.shape);
    piece.source = BoundPlace{std::move(memory), 0, {1}};
    sources_.Add(request);
    REQUIRE_OK(executor_.Prepare(std::move(request)));
  }
  Peer Described() const {
    return Peer{rank_, absl::StrCat("peer-", rank_.value()),
                "n",   Incarnation(1),
                "",    path()};
  }

 private:
  std::string path() const { return dir_.File("grpc.sock"); }

  const Rank rank_;
  sluice::testing::TestDir dir_;
  DescriptorTable table_;
  SourceTable sources_;
  FakeExecutor executor_;
  std::unique_ptr<DescriptorSocket> socket_;
};

// Rank 9 beside ranks 0 and 1.
class Rig {
 public:
  Rig() {
    directory.SetSelf(Rank(9));
    directory.SetPeers({first.Described(), second.Described()});
    gpu.on_unmap = [this] { CheckUnlocked(); };
  }
  ~Rig() {
    gpu.on_unmap = [] {};
  }

  // The peer shows this and it is opened; what is returned uses it.
  absl::StatusOr<PeerSource> Open(ShowingPeer& peer, Allocation allocation) {
    return Open(peer, std::make_shared<ShownMemory>(std::move(allocation)));
  }
  absl::StatusOr<PeerSource> Open(ShowingPeer& peer,
                                  std::shared_ptr<MappedMemory> memory) {
    const OperationId operation(++last_);
    peer.Show(operation, std::move(memory));
    return directory.Open(operation, peer.Described().rank,
                          clock.Now() + absl::Seconds(20), -1);
  }
  // The same, used no more.
  absl::Status Touch(ShowingPeer& peer, Allocation allocation) {
    return Open(peer, std::move(allocation)).status();
  }

  sluice::testing::FakeClock clock;
  FakeGpu gpu;
  ShowingPeer first{Rank(0)}, second{Rank(1)};
  SocketPeerDirectory directory{clock, &gpu};
  bool unmapped_under_lock = false;

 private:
  // Whoever needs the directory's lock gets it while memory is unmapped.
  void CheckUnlocked() {
    asked_.push_back(std::async(std::launch::async,
                                [this] { return directory.num_mappings(); }));
    if (asked_.back().wait_for(std::chrono::seconds(5)) !=
        std::future_status::ready) {
      unmapped_under_lock = true;
    }
  }

  uint64_t last_ = 0;
  std::vector<std::future<int64_t>> asked_;
};

TEST_CASE("what a peer makes where it freed some is mapped", "[agent]") {
  Rig rig;
  REQUIRE_OK(rig.Touch(rig.first, {"old", 100}));
  REQUIRE_OK(rig.Touch(rig.first, {"other", 200}));
  REQUIRE_OK(rig.Touch(rig.second, {"far", 300}));
  CHECK_THAT(rig.Touch(rig.first, {"new", 100}), IsOk());
  // What other peers show is in nobody's way.
  CHECK(rig.gpu.open() == Handles{"new@100", "far@300"});
  CHECK_FALSE(rig.unmapped_under_lock);
}

TEST_CASE("another peer's mapping that is in the way goes, too", "[agent]") {
  Rig rig;
  REQUIRE_OK(rig.Touch(rig.second, {"far", 100}));
  CHECK_THAT(rig.Touch(rig.first, {"new", 100}), IsOk());
  CHECK(rig.gpu.open() == Handles{"new@100"});
}

TEST_CASE("a mapping of a peer that is gone makes room", "[agent]") {
  Rig rig;
  REQUIRE_OK(rig.Touch(rig.second, {"far", 100}));
  rig.directory.SetPeers({rig.first.Described()});
  // Unmapping may wait for the GPU; whoever tells of peers must not.
  CHECK(rig.gpu.open() == Handles{"far@100"});
  SECTION("when it is needed") {
    CHECK_THAT(rig.Touch(rig.first, {"new", 100}), IsOk());
    CHECK(rig.gpu.open() == Handles{"new@100"});
  }
  SECTION("and goes by itself") {
    rig.directory.Trim();
    CHECK(rig.gpu.open().empty());
  }
  CHECK_FALSE(rig.unmapped_under_lock);
}

TEST_CASE("what is in use is not unmapped", "[agent]") {
  Rig rig;
  auto used = rig.Open(rig.first, Allocation{"old", 100});
  REQUIRE_OK(used);
  CHECK_THAT(rig.Touch(rig.first, {"new", 100}),
             StatusIs(Code::kInternal, "208"));
  CHECK(rig.gpu.open() == Handles{"old@100"});
  CHECK(rig.directory.num_mappings() == 1);
  used = absl::UnknownError("released");
  CHECK_THAT(rig.Touch(rig.first, {"new", 100}), IsOk());
}

TEST_CASE("what is mapped already is mapped once", "[agent]") {
  Rig rig;
  REQUIRE_OK(rig.Touch(rig.first, {"a", 100}));
  REQUIRE_OK(rig.Touch(rig.first, {"a", 100}));
  CHECK(rig.gpu.imports == 1);
}

TEST_CASE("unused memory of a GPU is unmapped before the host's", "[agent]") {
  Rig rig;
  HostDevice host;
  REQUIRE_OK_AND_ASSIGN(auto arena, host.Allocate(kBytes, "arena"));
  REQUIRE_OK(rig.Touch(rig.first, {"a", 100}));
  REQUIRE_OK(rig.Open(rig.first, arena));
  rig.clock.Advance(SocketPeerDirectory::kKeepUnusedDevice);
  rig.directory.Trim();
  CHECK(rig.directory.num_mappings() == 2);
  rig.clock.Advance(absl::Seconds(1));
  rig.directory.Trim();
  CHECK(rig.gpu.open().empty());
  CHECK(rig.directory.num_mappings() == 1);
  rig.clock.Advance(SocketPeerDirectory::kKeepUnused);
  rig.directory.Trim();
  CHECK(rig.directory.num_mappings() == 0);
  CHECK_FALSE(rig.unmapped_under_lock);
}

}  // namespace
}  // namespace sluice::agent
