// Copies and pulls between two mappings of one machine.

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "agent/device/memory_file.h"
#include "bench/executor_rig.h"
#include "bench/transfer_cases.h"
#include "common/status_macros.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace sluice::bench {
namespace {

#if defined(__x86_64__)
// The reference loop, written for itself: aligned, whole cache lines.
__attribute__((target("avx2"))) void StreamAvx2(std::byte* to,
                                                const std::byte* from,
                                                int64_t bytes) {
  auto* out = reinterpret_cast<__m256i*>(to);
  const auto* in = reinterpret_cast<const __m256i*>(from);
  for (int64_t i = 0; i < bytes / 32; i += 4) {
    const __m256i a = _mm256_load_si256(in + i);
    const __m256i b = _mm256_load_si256(in + i + 1);
    const __m256i c = _mm256_load_si256(in + i + 2);
    const __m256i d = _mm256_load_si256(in + i + 3);
    _mm256_stream_si256(out + i, a);
    _mm256_stream_si256(out + i + 1, b);
    _mm256_stream_si256(out + i + 2, c);
    _mm256_stream_si256(out + i + 3, d);
  }
  _mm_sfence();
}
#endif

constexpr Rank kSource(0);
constexpr Rank kPuller(1);

// The source's board and place, as its socket would hand them out.
class SourceDirectory final : public agent::PeerDirectory {
 public:
  absl::StatusOr<agent::PeerSource> Open(OperationId operation, Rank,
                                         absl::Time, int) override {
    SLUICE_ASSIGN_OR_RETURN(const auto board,
                            source->executor().Board(operation));
    agent::PeerSource out;
    SLUICE_ASSIGN_OR_RETURN(
        out.board, agent::MapMemoryFile(agent::UniqueFd(dup(board.fd)),
                                        board.size, agent::Access::kReadWrite));
    out.transfers[0] = {{*piece.source}, {piece.box}};
    return out;
  }

  ExecutorRig* source = nullptr;
  agent::BoundPiece piece;
};

}  // namespace

struct LocalCopies::Impl {
  Memory from, to;
  SourceDirectory directory;
  std::unique_ptr<ExecutorRig> source, puller;
  uint64_t next_operation = 1;

  absl::StatusOr<Rate> Pull(const Rows& rows);

  template <typename Work>
  Rate Time(Work work) {
    const SystemClock clock;
    const absl::Time start = clock.Now();
    work();
    return {from->size(), absl::ToDoubleSeconds(clock.Now() - start)};
  }
};

LocalCopies::LocalCopies(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LocalCopies::~LocalCopies() = default;
LocalCopies::LocalCopies(LocalCopies&&) noexcept = default;

absl::StatusOr<LocalCopies> LocalCopies::Create(int64_t bytes) {
  auto impl = std::make_unique<Impl>();
  SLUICE_ASSIGN_OR_RETURN(impl->from, TouchedMemory(bytes));
  SLUICE_ASSIGN_OR_RETURN(impl->to, TouchedMemory(bytes));
  FillPattern(*impl->from, /*seed=*/1);
  SLUICE_ASSIGN_OR_RETURN(
      impl->source, ExecutorRig::Create(/*worker_threads=*/1, impl->directory));
  impl->directory.source = impl->source.get();
  SLUICE_ASSIGN_OR_RETURN(
      impl->puller, ExecutorRig::Create(/*worker_threads=*/1, impl->directory));
  return LocalCopies(std::move(impl));
}

Rate LocalCopies::Memcpy() {
  return impl_->Time([this] {
    std::memcpy(impl_->to->data(), impl_->from->data(),
                static_cast<size_t>(impl_->from->size()));
  });
}

Rate LocalCopies::NonTemporal() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) {
    return impl_->Time([this] {
      StreamAvx2(impl_->to->data(), impl_->from->data(), impl_->from->size());
    });
  }
#endif
  return Memcpy();
}

// Whether every row arrived, and nothing beyond them was written.
bool Arrived(const agent::MappedMemory& from, const agent::MappedMemory& to,
             const Rows& rows) {
  const int64_t count = from.size() / rows.from_pitch;
  for (int64_t i = 0; i < count; ++i) {
    if (std::memcmp(from.data() + i * rows.from_pitch,
                    to.data() + i * rows.to_pitch,
                    static_cast<size_t>(rows.bytes)) != 0) {
      return false;
    }
  }
  const int64_t end = (count - 1) * rows.to_pitch + rows.bytes;
  return std::all_of(to.data() + end, to.data() + to.size(),
                     [](std::byte b) { return b == std::byte{0}; });
}

absl::StatusOr<Rate> LocalCopies::Pull() { return impl_->Pull(Rows()); }

absl::StatusOr<Rate> LocalCopies::PullRows(int64_t row_bytes) {
  return impl_->Pull({row_bytes, 8 * row_bytes, row_bytes});
}

absl::StatusOr<Rate> LocalCopies::Impl::Pull(const Rows& rows) {
  std::memset(to->data(), 0, static_cast<size_t>(to->size()));
  const OperationId operation(next_operation++);
  const auto request = [&](Rank self) {
    return OneTensorRequest(operation, self, kSource, kPuller,
                            LinkClass::kSameNode, rows, from->size(),
                            self == kSource ? from : nullptr,
                            self == kPuller ? to : nullptr);
  };
  directory.piece = request(kSource).transfers[0].pieces[0];
  agent::TransferExecutor& giver = source->executor();
  agent::TransferExecutor& taker = puller->executor();
  SLUICE_RETURN_IF_ERROR(giver.Prepare(request(kSource)));
  SLUICE_RETURN_IF_ERROR(taker.Prepare(request(kPuller)));
  SLUICE_RETURN_IF_ERROR(giver.Start(operation));
  absl::Status status;
  Rate rate = Time([&] {
    status = taker.Start(operation);
    if (status.ok()) status = puller->Wait();
  });
  rate.bytes = from->size() / rows.from_pitch * rows.bytes;
  SLUICE_RETURN_IF_ERROR(status);
  SLUICE_RETURN_IF_ERROR(source->Wait());
  taker.Release(operation);
  giver.Release(operation);
  if (!Arrived(*from, *to, rows)) {
    return absl::DataLossError("what was pulled is not what was there");
  }
  return rate;
}

}  // namespace sluice::bench
