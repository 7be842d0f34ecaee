#include "agent/collective/reduce_kernels.h"

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "agent/copy/cast_kernels.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using copy_internal::FindCast;
using copy_internal::Isa;

constexpr std::byte kUntouched{0xEE};

std::vector<Isa> Isas() {
  std::vector<Isa> out = {Isa::kPortable};
  for (const Isa isa : {Isa::kAvx2, Isa::kAvx512}) {
    if (copy_internal::BestIsa() >= isa) out.push_back(isa);
  }
  return out;
}

struct Array {
  DType dtype;
  std::vector<std::byte> bytes;

  Array(DType type, int64_t n)
      : dtype(type), bytes(static_cast<size_t>(n * ByteSize(type))) {}
  std::byte* at(int64_t i) { return bytes.data() + i * ByteSize(dtype); }
  // As F64; I32 is read as it is.
  double Get(int64_t i) {
    double out = 0;
    if (dtype == DType::kF64) {
      std::memcpy(&out, at(i), sizeof(out));
    } else {
      FindCast(Isa::kPortable, dtype, DType::kF64)(
          1, at(i), 0, reinterpret_cast<std::byte*>(&out), 0);
    }
    return out;
  }
  void Set(int64_t i, double value) {
    const auto* from = reinterpret_cast<const std::byte*>(&value);
    if (dtype == DType::kF64) {
      std::memcpy(at(i), from, sizeof(value));
    } else {
      FindCast(Isa::kPortable, DType::kF64, dtype)(1, from, 0, at(i), 0);
    }
  }
};

// The sum in the accumulator's type, in order, then rounded once.
double Expected(std::vector<Array>& inputs, int64_t i, int divisor) {
  if (inputs[0].dtype == DType::kF64) {
    double sum = inputs[0].Get(i);
    for (size_t k = 1; k < inputs.size(); ++k) sum += inputs[k].Get(i);
    return sum / divisor;
  }
  auto sum = static_cast<float>(inputs[0].Get(i));
  for (size_t k = 1; k < inputs.size(); ++k) {
    sum += static_cast<float>(inputs[k].Get(i));
  }
  return sum / static_cast<float>(divisor);
}

TEST_CASE("sums of random floats have the bits of sums one by one",
          "[reduce]") {
  const DType dtype =
      GENERATE(DType::kF32, DType::kF64, DType::kBF16, DType::kF16);
  const int count = GENERATE(1, 2, 3, 4, 5, 8, 11);
  CAPTURE(DTypeName(dtype), count);
  std::mt19937_64 random(static_cast<uint64_t>(count));
  std::normal_distribution<double> normal;
  for (const Isa isa : Isas()) {
    for (const int64_t n : {1, 7, 64, 4095, 4096, 9001}) {
      std::vector<Array> inputs;
      std::vector<ReduceInput> spans;
      for (int k = 0; k < count; ++k) {
        inputs.emplace_back(dtype, n);
        // Also what is tiny, huge, infinite.
        for (int64_t i = 0; i < n; ++i) {
          inputs.back().Set(
              i, random() % 50 == 0
                     ? std::ldexp(normal(random),
                                  static_cast<int>(random() % 300) - 150)
                     : normal(random));
        }
      }
      for (Array& input : inputs) spans.push_back({input.bytes.data(), false});
      const int divisor = 1 + static_cast<int>(random() % 3);
      Array want(dtype, n), found(dtype, n + 1);
      for (int64_t i = 0; i < n; ++i) want.Set(i, Expected(inputs, i, divisor));
      std::fill(found.bytes.begin(), found.bytes.end(), kUntouched);
      Reduce(isa, {dtype, n, divisor, found.bytes.data(), false}, spans);
      int64_t wrong = -1;
      for (int64_t i = 0; i < n; ++i) {
        const bool both_nan =
            std::isnan(want.Get(i)) && std::isnan(found.Get(i));
        if (!both_nan && std::memcmp(want.at(i), found.at(i),
                                     static_cast<size_t>(ByteSize(dtype)))) {
          wrong = i;
        }
      }
      CAPTURE(n, static_cast<int>(isa));
      REQUIRE(wrong == -1);
      REQUIRE(*found.at(n) == kUntouched);
      // In place of one of the inputs.
      Array& last = inputs.back();
      Reduce(isa, {dtype, n, divisor, last.bytes.data(), false}, spans);
      REQUIRE(std::equal(last.bytes.begin(), last.bytes.end(),
                         found.bytes.begin()));
    }
  }
}

TEST_CASE("whole numbers wrap, and averages of them go towards zero",
          "[reduce]") {
  for (const Isa isa : Isas()) {
    std::vector<int32_t> a = {2147483647, -7, 5, 0}, b = {1, 0, -10, 3};
    std::vector<ReduceInput> inputs = {
        {reinterpret_cast<const std::byte*>(a.data()), false},
        {reinterpret_cast<const std::byte*>(b.data()), false}};
    std::vector<int32_t> out(4);
    auto* to = reinterpret_cast<std::byte*>(out.data());
    Reduce(isa, {DType::kI32, 4, 1, to, false}, inputs);
    CHECK(out == std::vector<int32_t>{-2147483647 - 1, -7, -5, 3});
    Reduce(isa, {DType::kI32, 4, 2, to, false}, inputs);
    CHECK(out == std::vector<int32_t>{-1073741824, -3, -2, 1});
  }
}

TEST_CASE("partial sums give what the whole sum gives", "[reduce]") {
  const DType dtype = GENERATE(DType::kF32, DType::kBF16, DType::kF64);
  constexpr int64_t kElements = 5000;
  std::mt19937_64 random(5);
  std::vector<Array> inputs;
  std::vector<ReduceInput> all;
  for (int k = 0; k < 5; ++k) {
    inputs.emplace_back(dtype, kElements);
    for (int64_t i = 0; i < kElements; ++i) {
      inputs.back().Set(i, static_cast<double>(random() % 2000) / 512);
    }
  }
  for (Array& input : inputs) all.push_back({input.bytes.data(), false});
  std::vector<std::byte> partial(
      static_cast<size_t>(kElements * AccumulatorBytes(dtype)));
  for (const Isa isa : Isas()) {
    // The first two are added first either way.
    Reduce(isa, {dtype, kElements, 1, partial.data(), true}, {all[0], all[1]});
    Array whole(dtype, kElements), joined(dtype, kElements);
    Reduce(isa, {dtype, kElements, 5, whole.bytes.data(), false}, all);
    Reduce(isa, {dtype, kElements, 5, joined.bytes.data(), false},
           {{partial.data(), true}, all[2], all[3], all[4]});
    CHECK(whole.bytes == joined.bytes);
  }
}

}  // namespace
}  // namespace sluice::agent
