#include "common/dtype_conversion.h"

#include <catch2/catch.hpp>
#include <vector>

namespace sluice {
namespace {

const std::vector<DType>& AllDTypes() {
  static const std::vector<DType> all = {
      DType::kBool, DType::kU8,  DType::kI8,     DType::kI16,
      DType::kI32,  DType::kI64, DType::kF16,    DType::kBF16,
      DType::kF32,  DType::kF64, DType::kF8E4M3, DType::kF8E5M2};
  return all;
}

int NumConvertible(DType from) {
  int count = 0;
  for (const DType to : AllDTypes()) count += Convertible(from, to);
  return count;
}

TEST_CASE("a type is converted to itself and to those that have its values",
          "[dtype]") {
  struct Row {
    DType from;
    std::vector<DType> to;
  };
  const std::vector<Row> rows = {
      {DType::kF64, {DType::kF64, DType::kF32, DType::kBF16, DType::kF16}},
      {DType::kF32,
       {DType::kF64, DType::kF32, DType::kBF16, DType::kF16, DType::kF8E4M3}},
      {DType::kBF16,
       {DType::kF64, DType::kF32, DType::kBF16, DType::kF16, DType::kF8E4M3}},
      {DType::kF16,
       {DType::kF64, DType::kF32, DType::kBF16, DType::kF16, DType::kF8E4M3}},
      {DType::kF8E4M3,
       {DType::kF8E4M3, DType::kF32, DType::kBF16, DType::kF16}},
      {DType::kF8E5M2, {DType::kF8E5M2}},
      {DType::kI32, {DType::kI32}},
      {DType::kU8, {DType::kU8}},
      {DType::kBool, {DType::kBool}},
  };
  for (const Row& row : rows) {
    CAPTURE(row.from);
    for (const DType to : row.to) {
      CAPTURE(to);
      CHECK(Convertible(row.from, to));
      CHECK(Convertible(to, row.from));
    }
    CHECK(NumConvertible(row.from) == static_cast<int>(row.to.size()));
  }
  CHECK_FALSE(Convertible(DType::kUnspecified, DType::kUnspecified));
  CHECK_FALSE(Convertible(DType::kUnspecified, DType::kF32));
}

TEST_CASE("only conversions between F8_E4M3 and another type quantise",
          "[dtype]") {
  for (const DType from : AllDTypes()) {
    for (const DType to : AllDTypes()) {
      CAPTURE(from, to);
      const bool one = (from == DType::kF8E4M3) != (to == DType::kF8E4M3);
      CHECK(Quantises(from, to) == (one && Convertible(from, to)));
    }
  }
}

TEST_CASE("elements cross in the smaller type, or in the receiver's",
          "[dtype]") {
  CHECK(WireDType(DType::kF32, DType::kBF16) == DType::kBF16);
  CHECK(WireDType(DType::kBF16, DType::kF32) == DType::kBF16);
  CHECK(WireDType(DType::kBF16, DType::kF16) == DType::kF16);
  CHECK(WireDType(DType::kF16, DType::kBF16) == DType::kBF16);
  CHECK(WireDType(DType::kF64, DType::kF16) == DType::kF16);
  CHECK(WireDType(DType::kBF16, DType::kF8E4M3) == DType::kF8E4M3);
  CHECK(WireDType(DType::kF8E4M3, DType::kF32) == DType::kF8E4M3);
  CHECK(WireDType(DType::kI64, DType::kI64) == DType::kI64);
}

}  // namespace
}  // namespace sluice
