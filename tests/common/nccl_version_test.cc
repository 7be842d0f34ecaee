#include "common/nccl_version.h"

#include <catch2/catch.hpp>

namespace sluice {
namespace {

TEST_CASE("versions are named as NCCL counts them", "[nccl]") {
  CHECK(NcclVersionName(22809) == "2.28.9");
  CHECK(NcclVersionName(21700) == "2.17.0");
  CHECK(NcclVersionName(2708) == "2.7.8");
}

}  // namespace
}  // namespace sluice
