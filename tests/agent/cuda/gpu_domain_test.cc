#include "agent/cuda/gpu_domain.h"

#include <catch2/catch.hpp>
#include <set>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "tests/fakes/cuda/process_gpu.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent::cuda {
namespace {

TEST_CASE("GPUs that all reach each other have no domains", "[gpu_domain]") {
  ProcessGpuRuntime runtime;
  for (int i = 0; i < 8; ++i) {
    REQUIRE_OK_AND_ASSIGN(const std::string domain, GpuDomain(runtime, i));
    CHECK(domain == "");
  }
}

TEST_CASE("GPUs on two switches have two domains", "[gpu_domain]") {
  ProcessGpuRuntime runtime({.reach = 4});
  for (int i = 0; i < 8; ++i) {
    REQUIRE_OK_AND_ASSIGN(const std::string domain, GpuDomain(runtime, i));
    CHECK(domain == (i < 4 ? "0000:00:00.0" : "0000:00:04.0"));
  }
}

// Pairs that do not reach each other, in one direction at least.
class Cut final : public ProcessGpuRuntime {
 public:
  explicit Cut(std::set<std::pair<int, int>> cut)
      : ProcessGpuRuntime({.devices = 3}), cut_(std::move(cut)) {}
  absl::StatusOr<bool> CanAccessPeer(int device, int peer) override {
    return !cut_.contains({device, peer});
  }

 private:
  const std::set<std::pair<int, int>> cut_;
};

TEST_CASE("all of a domain reach each other, both ways", "[gpu_domain]") {
  // 1 reaches both; 2 does not reach 0.
  Cut runtime(std::set<std::pair<int, int>>{{2, 0}});
  for (int i = 0; i < 3; ++i) {
    REQUIRE_OK_AND_ASSIGN(const std::string domain, GpuDomain(runtime, i));
    CHECK(domain == (i < 2 ? "0000:00:00.0" : "0000:00:02.0"));
  }
}

}  // namespace
}  // namespace sluice::agent::cuda
