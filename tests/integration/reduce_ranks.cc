#include "tests/integration/reduce_ranks.h"

#include <cmath>
#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_join.h"

namespace sluice::testing {
namespace {

// Runs `each` for 0 to n - 1, side by side.
template <typename Each>
void SideBySide(size_t n, const Each& each) {
  std::vector<std::thread> threads;
  for (size_t i = 0; i < n; ++i) {
    threads.emplace_back([&each, i] { each(i); });
  }
  for (std::thread& thread : threads) thread.join();
}

template <typename T>
void Put(T value, std::byte* to) {
  std::memcpy(to, &value, sizeof(value));
}
template <typename T>
T Get(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

// Exact for what has at most 11 significant bits and is below 2^16.
uint16_t HalfOf(double value) {
  if (value == 0) return 0;
  int exponent = 0;
  const double fraction = std::frexp(std::fabs(value), &exponent);
  const auto bits = static_cast<uint16_t>((exponent + 14) << 10) +
                    static_cast<uint16_t>(std::ldexp(fraction, 11) - 1024);
  return static_cast<uint16_t>(bits | (value < 0 ? 0x8000 : 0));
}

double OfHalf(uint16_t bits) {
  const int exponent = bits >> 10 & 0x1f;
  const int mantissa = bits & 0x3ff;
  const double size = exponent == 0
                          ? std::ldexp(mantissa, -24)
                          : std::ldexp(1024 + mantissa, exponent - 25);
  return (bits & 0x8000) != 0 ? -size : size;
}

}  // namespace

absl::StatusOr<ReduceRanks> JoinTogether(const std::vector<Worker*>& workers,
                                         const ReduceGroupOptions& options) {
  std::vector<absl::StatusOr<std::unique_ptr<ReduceGroup>>> joined(
      workers.size());
  SideBySide(workers.size(), [&](size_t i) {
    joined[i] = workers[i]->JoinReduceGroup(options);
  });
  ReduceRanks out;
  // The reasons of all: that of the first may follow from another's.
  std::vector<std::string> reasons;
  absl::Status failed;
  for (auto& group : joined) {
    if (group.ok()) {
      out.push_back(*std::move(group));
      continue;
    }
    if (failed.ok()) failed = group.status();
    reasons.emplace_back(group.status().message());
  }
  if (failed.ok()) return out;
  return absl::Status(failed.code(), absl::StrJoin(reasons, "; "));
}

absl::Status LeaveTogether(const ReduceRanks& ranks) {
  std::vector<absl::Status> left(ranks.size());
  SideBySide(ranks.size(), [&](size_t i) { left[i] = ranks[i]->Leave(); });
  for (const absl::Status& status : left) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

int64_t ElementBytes(v1::DType dtype) {
  switch (dtype) {
    case v1::DTYPE_F64:
      return 8;
    case v1::DTYPE_F16:
    case v1::DTYPE_BF16:
      return 2;
    default:
      return 4;
  }
}

void WriteElement(v1::DType dtype, int64_t value, std::byte* to) {
  switch (dtype) {
    case v1::DTYPE_F64:
      return Put(static_cast<double>(value), to);
    case v1::DTYPE_I32:
      return Put(static_cast<int32_t>(value), to);
    case v1::DTYPE_F16:
      return Put(HalfOf(static_cast<double>(value)), to);
    case v1::DTYPE_BF16: {
      const auto single = static_cast<float>(value);
      uint32_t bits;
      std::memcpy(&bits, &single, sizeof(bits));
      return Put(static_cast<uint16_t>(bits >> 16), to);
    }
    default:
      return Put(static_cast<float>(value), to);
  }
}

double ReadElement(v1::DType dtype, const std::byte* from) {
  switch (dtype) {
    case v1::DTYPE_F64:
      return Get<double>(from);
    case v1::DTYPE_I32:
      return Get<int32_t>(from);
    case v1::DTYPE_F16:
      return OfHalf(Get<uint16_t>(from));
    case v1::DTYPE_BF16: {
      const uint32_t bits = static_cast<uint32_t>(Get<uint16_t>(from)) << 16;
      float single;
      std::memcpy(&single, &bits, sizeof(single));
      return single;
    }
    default:
      return Get<float>(from);
  }
}

}  // namespace sluice::testing
