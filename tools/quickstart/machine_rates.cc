#include "tools/quickstart/machine_rates.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "agent/copy/digest.h"
#include "agent/device/memory_file.h"
#include "common/status_macros.h"
#include "tools/quickstart/loopback_rate.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace sluice::quickstart {
namespace {

using Memory = std::shared_ptr<agent::MappedMemory>;

absl::StatusOr<Memory> TouchedMemory(int64_t bytes) {
  SLUICE_ASSIGN_OR_RETURN(agent::UniqueFd fd,
                          agent::CreateMemoryFile(bytes, "rate"));
  SLUICE_ASSIGN_OR_RETURN(
      Memory memory,
      agent::MapMemoryFile(std::move(fd), bytes, agent::Access::kReadWrite));
  std::memset(memory->data(), 0x5a, static_cast<size_t>(bytes));
  return memory;
}

void CopyNonTemporal(std::byte* to, const std::byte* from, size_t bytes) {
#ifdef __SSE2__
  // Mappings are page-aligned and sizes multiples of 64.
  auto* out = reinterpret_cast<__m128i*>(to);
  const auto* in = reinterpret_cast<const __m128i*>(from);
  for (size_t i = 0; i < bytes / sizeof(__m128i); i += 4) {
    _mm_prefetch(reinterpret_cast<const char*>(in + i + 64), _MM_HINT_NTA);
    const __m128i a = _mm_load_si128(in + i);
    const __m128i b = _mm_load_si128(in + i + 1);
    const __m128i c = _mm_load_si128(in + i + 2);
    const __m128i d = _mm_load_si128(in + i + 3);
    _mm_stream_si128(out + i, a);
    _mm_stream_si128(out + i + 1, b);
    _mm_stream_si128(out + i + 2, c);
    _mm_stream_si128(out + i + 3, d);
  }
  _mm_sfence();
#else
  std::memcpy(to, from, bytes);
#endif
}

// Seconds until `work(core)` has ended on every core.
double SecondsOnAllCores(int cores, const std::function<void(int)>& work) {
  const absl::Time start = absl::Now();
  std::vector<std::thread> threads;
  for (int core = 1; core < cores; ++core) threads.emplace_back(work, core);
  work(0);
  for (std::thread& thread : threads) thread.join();
  return absl::ToDoubleSeconds(absl::Now() - start);
}

double MedianRate(int rounds, int64_t bytes,
                  const std::function<double()>& seconds) {
  std::vector<double> rates;
  for (int i = 0; i < rounds; ++i) {
    rates.push_back(static_cast<double>(bytes) / seconds() / 1e9);
  }
  std::sort(rates.begin(), rates.end());
  return rates[rates.size() / 2];
}

}  // namespace

absl::StatusOr<MachineRates> MeasureMachine(const RateOptions& options) {
  MachineRates rates;
  // Before any thread of ours starts: it forks.
  SLUICE_ASSIGN_OR_RETURN(
      rates.loopback_gb_per_s,
      MeasureLoopback(options.connections, options.bytes_per_connection,
                      options.rounds));
  const int cores =
      static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1u, 8u));
  const int64_t bytes = options.bytes_per_core & ~int64_t{63};
  std::vector<Memory> from, to;
  for (int core = 0; core < cores; ++core) {
    SLUICE_ASSIGN_OR_RETURN(Memory source, TouchedMemory(bytes));
    SLUICE_ASSIGN_OR_RETURN(Memory destination, TouchedMemory(bytes));
    from.push_back(std::move(source));
    to.push_back(std::move(destination));
  }
  const auto size = static_cast<size_t>(bytes);
  const auto libc = [&](int core) {
    std::memcpy(to[static_cast<size_t>(core)]->data(),
                from[static_cast<size_t>(core)]->data(), size);
  };
  const auto streaming = [&](int core) {
    CopyNonTemporal(to[static_cast<size_t>(core)]->data(),
                    from[static_cast<size_t>(core)]->data(), size);
  };
  std::vector<Digest> digests(static_cast<size_t>(cores));
  const auto digest = [&](int core) {
    const auto c = static_cast<size_t>(core);
    digests[c] += agent::DigestRun(from[c]->data(), 0, bytes);
  };
  const auto rate = [&](const std::function<void(int)>& work) {
    return MedianRate(options.rounds, bytes * cores,
                      [&] { return SecondsOnAllCores(cores, work); });
  };
  rates.copy_gb_per_s = std::max(rate(libc), rate(streaming));
  rates.read_gb_per_s = rate(digest);
  return rates;
}

}  // namespace sluice::quickstart
