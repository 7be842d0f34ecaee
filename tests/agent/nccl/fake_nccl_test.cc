// The fake library by itself: the rules of NCCL that it keeps. Ranks are
// threads.

#include <catch2/catch.hpp>
#include <cstdlib>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "agent/nccl/nccl_api.h"
#include "agent/nccl/nccl_library.h"
#include "agent/nccl/stream.h"
#include "tests/fakes/nccl/host_stream.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_dir.h"

namespace sluice::agent {
namespace {

using testing::IsOk;

// A rank of a communicator, blocking.
struct RankOf {
  const NcclApi& nccl;
  int rank = 0;
  NcclComm comm = nullptr;
  std::unique_ptr<NcclStream> stream;

  // Waits for what is on the stream.
  void Finish() {
    (void)stream->Record();
    while (!*stream->Reached()) std::this_thread::yield();
  }
};

class Ranks {
 public:
  explicit Ranks(int count) : count_(count) {
    ::setenv("SLUICE_FAKE_NCCL_DEVICE", "each", 1);
    ::setenv("SLUICE_FAKE_NCCL_DIR", dir_.path().c_str(), 1);
    auto library = NcclLibrary::Open(
        {.path = "tests/fakes/nccl/libfake_nccl.so", .search = {}});
    REQUIRE_OK(library);
    library_ = *std::move(library);
    // Sluice's own calls never block.
    ::setenv("NCCL_COMM_BLOCKING", "1", 1);
    REQUIRE(nccl().GetUniqueId(&id_) == NcclResult::kSuccess);
    for (int r = 0; r < count; ++r) {
      ranks_.push_back({nccl(), r, nullptr, *device_.NewStream()});
    }
  }
  ~Ranks() {
    ::unsetenv("SLUICE_FAKE_NCCL_DEVICE");
    ::unsetenv("SLUICE_FAKE_NCCL_DIR");
    ::unsetenv("NCCL_COMM_BLOCKING");
  }

  const NcclApi& nccl() const { return library_->api(); }

  void OnAll(const std::function<void(RankOf&)>& work) {
    std::vector<std::thread> threads;
    for (RankOf& rank : ranks_) {
      threads.emplace_back([&work, &rank] { work(rank); });
    }
    for (std::thread& thread : threads) thread.join();
  }

  void Init() {
    OnAll([&](RankOf& rank) {
      rank.nccl.CommInitRankConfig(&rank.comm, count_, id_, rank.rank, nullptr);
    });
  }

 private:
  const int count_;
  testing::TestDir dir_;
  testing::HostNcclDevice device_{"host"};
  std::shared_ptr<const NcclLibrary> library_;
  NcclUniqueId id_;
  std::vector<RankOf> ranks_;
};

TEST_CASE("even gather, scatter and all-to-all of the library", "[nccl]") {
  constexpr int kRanks = 3;
  Ranks ranks(kRanks);
  ranks.Init();
  std::vector<std::vector<int>> gathered(kRanks, std::vector<int>(2 * kRanks));
  std::vector<std::vector<int>> scattered(kRanks, std::vector<int>(2));
  std::vector<std::vector<int>> exchanged(kRanks, std::vector<int>(kRanks));
  ranks.OnAll([&](RankOf& r) {
    const std::vector<int> pair = {10 * r.rank, 10 * r.rank + 1};
    std::vector<int> all(2 * kRanks);
    std::iota(all.begin(), all.end(), 100 * r.rank);
    const auto type = NcclDataType::kInt32;
    r.nccl.Gather(pair.data(), gathered[r.rank].data(), 2, type, 1, r.comm,
                  r.stream->handle());
    r.nccl.Scatter(all.data(), scattered[r.rank].data(), 2, type, 2, r.comm,
                   r.stream->handle());
    r.nccl.AlltoAll(all.data(), exchanged[r.rank].data(), 1, type, r.comm,
                    r.stream->handle());
    r.Finish();
    r.nccl.CommDestroy(r.comm);
  });
  CHECK(gathered[1] == std::vector<int>{0, 1, 10, 11, 20, 21});
  CHECK(gathered[0] == std::vector<int>(2 * kRanks));
  CHECK(scattered[0] == std::vector<int>{200, 201});
  CHECK(scattered[1] == std::vector<int>{202, 203});
  CHECK(exchanged[1] == std::vector<int>{1, 101, 201});
}

TEST_CASE("a split makes communicators by colour, in the order of keys",
          "[nccl]") {
  constexpr int kRanks = 4;
  Ranks ranks(kRanks);
  ranks.Init();
  std::vector<int> sizes(kRanks);
  std::vector<int> places(kRanks);
  std::vector<int> sums(kRanks);
  ranks.OnAll([&](RankOf& r) {
    NcclComm part = nullptr;
    // 0 and 2 in one, 1 and 3 in the other, backwards.
    r.nccl.CommSplit(r.comm, r.rank % 2, -r.rank, &part, nullptr);
    NcclResult state = NcclResult::kInProgress;
    while (state == NcclResult::kInProgress) {
      r.nccl.CommGetAsyncError(part, &state);
    }
    r.nccl.CommCount(part, &sizes[r.rank]);
    r.nccl.CommUserRank(part, &places[r.rank]);
    r.nccl.AllReduce(&r.rank, &sums[r.rank], 1, NcclDataType::kInt32,
                     NcclRedOp::kSum, part, r.stream->handle());
    r.Finish();
    r.nccl.CommDestroy(part);
    r.nccl.CommDestroy(r.comm);
  });
  CHECK(sizes == std::vector<int>{2, 2, 2, 2});
  CHECK(places == std::vector<int>{1, 1, 0, 0});
  CHECK(sums == std::vector<int>{2, 4, 2, 4});
}

TEST_CASE("collectives that differ never end, but by an abort", "[nccl]") {
  Ranks ranks(2);
  ranks.Init();
  std::vector<int> results = {-1, -1};
  ranks.OnAll([&](RankOf& r) {
    const int own = r.rank;
    if (r.rank == 0) {
      r.nccl.AllReduce(&own, &results[0], 1, NcclDataType::kInt32,
                       NcclRedOp::kSum, r.comm, r.stream->handle());
    } else {
      r.nccl.Broadcast(&own, &results[1], 1, NcclDataType::kInt32, 0, r.comm,
                       r.stream->handle());
    }
    r.nccl.CommAbort(r.comm);
    r.Finish();
  });
  CHECK(results == std::vector<int>{-1, -1});
}

TEST_CASE("one device for two ranks is refused", "[nccl]") {
  Ranks ranks(2);
  ::setenv("SLUICE_FAKE_NCCL_DEVICE", "0", 1);
  std::vector<NcclResult> results(2);
  std::vector<std::string> why(2);
  NcclUniqueId id;
  REQUIRE(ranks.nccl().GetUniqueId(&id) == NcclResult::kSuccess);
  ranks.OnAll([&](RankOf& r) {
    results[r.rank] =
        r.nccl.CommInitRankConfig(&r.comm, 2, id, r.rank, nullptr);
    why[r.rank] = r.nccl.GetLastError(r.comm);
    r.nccl.CommAbort(r.comm);
  });
  for (int r = 0; r < 2; ++r) {
    CHECK(results[r] == NcclResult::kInvalidUsage);
    CHECK(why[r] ==
          "Duplicate GPU detected : rank 0 and rank 1 both on one CUDA device");
  }
}

}  // namespace
}  // namespace sluice::agent
