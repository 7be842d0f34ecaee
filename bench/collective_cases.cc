#include "bench/collective_cases.h"

#include <algorithm>
#include <cstring>
#include <thread>
#include <utility>

#include "agent/copy/copy_kernels.h"
#include "bench/executor_rig.h"
#include "common/status_macros.h"

namespace sluice::bench {
using agent::CollectiveKind;

int64_t CollectiveCase::copied_bytes(int members) const {
  switch (kind) {
    case CollectiveKind::kBroadcast:
      return bytes * (members - 1);  // in place at the root
    case CollectiveKind::kScatter:
    case CollectiveKind::kGather:
      return bytes;
    case CollectiveKind::kAllGather:
    case CollectiveKind::kAllToAll:
      return bytes * members;
    case CollectiveKind::kReduceScatter:
      // All is read, the sums are written; a copy reads and writes each byte.
      return (bytes * members + bytes) / 2;
  }
  return 0;
}

std::vector<CollectiveCase> CollectiveCases() {
  constexpr int64_t kMiB = int64_t{1} << 20;
  return {
      {CollectiveKind::kBroadcast, "broadcast", "broadcast", 256 * kMiB, 5},
      {CollectiveKind::kScatter, "scatter", "scatter", 256 * kMiB, 8},
      {CollectiveKind::kGather, "gather", "gather", 256 * kMiB, 8},
      {CollectiveKind::kAllGather, "all-gather", "all_gather", 64 * kMiB, 5},
      {CollectiveKind::kAllToAll, "all-to-all", "all_to_all_single", 64 * kMiB,
       3},
      {CollectiveKind::kReduceScatter, "reduce-scatter", "all_reduce",
       64 * kMiB, 3},
  };
}

struct MachineCopies::Impl {
  struct Pair {
    Memory from, to;
  };
  std::vector<Pair> pairs;

  template <typename Copy>
  Rate Time(Copy copy) {
    const SystemClock clock;
    const absl::Time start = clock.Now();
    std::vector<std::thread> threads;
    for (Pair& pair : pairs)
      threads.emplace_back([&pair, &copy] { copy(pair); });
    for (std::thread& thread : threads) thread.join();
    return {static_cast<int64_t>(pairs.size()) * pairs[0].from->size(),
            absl::ToDoubleSeconds(clock.Now() - start)};
  }
};

MachineCopies::MachineCopies(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)) {}
MachineCopies::~MachineCopies() = default;

absl::StatusOr<std::unique_ptr<MachineCopies>> MachineCopies::Create(
    int64_t bytes) {
  auto impl = std::make_unique<Impl>();
  impl->pairs.resize(std::max(1u, std::thread::hardware_concurrency()));
  for (Impl::Pair& pair : impl->pairs) {
    SLUICE_ASSIGN_OR_RETURN(pair.from, TouchedMemory(bytes));
    SLUICE_ASSIGN_OR_RETURN(pair.to, TouchedMemory(bytes));
  }
  return std::unique_ptr<MachineCopies>(new MachineCopies(std::move(impl)));
}

Rate MachineCopies::Run() {
  namespace kernels = agent::copy_internal;
  const Rate libc = impl_->Time([](Impl::Pair& pair) {
    std::memcpy(pair.to->data(), pair.from->data(),
                static_cast<size_t>(pair.from->size()));
  });
  const Rate streaming = impl_->Time([](Impl::Pair& pair) {
    kernels::Rows rows;
    rows.src = pair.from->data();
    rows.dst = pair.to->data();
    rows.count = 1;
    rows.bytes = pair.from->size();
    kernels::CopyRows(kernels::BestIsa(), rows, /*streaming=*/true);
  });
  return streaming.gb_per_s() > libc.gb_per_s() ? streaming : libc;
}

}  // namespace sluice::bench
