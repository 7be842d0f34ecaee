// How good plans are for weight syncs of published models.

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/planner/published_cases.h"
#include "common/convert_plan.h"
#include "common/dtype.h"
#include "common/layout.h"
#include "common/model.h"
#include "common/plan.h"
#include "coordinator/planner/casts.h"
#include "coordinator/planner/planners.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator {
namespace {

using bench::PublishedCase;
using bench::PublishedCases;
using ::sluice::testing::StatusIs;

int64_t ElementBytes(const RankLayout& layout, const View& view) {
  return ByteSize(layout.params[static_cast<size_t>(view.param)].dtype);
}

// Bytes that rank `mesh_index` of the destination has to get at least from
// elsewhere: what it wants less what its own trainer holds, by its views alone.
// An upper estimate of the latter: all of it.
int64_t NeededBytes(const ReshardInput& input, int64_t mesh_index) {
  const PlacementGeometry& to = input.destinations[0];
  const auto wanted =
      ExpandLayout(*input.model, *to.layout, to.mesh, mesh_index);
  REQUIRE_OK(wanted.status());
  int64_t bytes = 0;
  for (const View& view : wanted->views) {
    bytes += view.box.num_elements() * ElementBytes(*wanted, view);
  }
  const Rank rank = to.mesh.ranks[static_cast<size_t>(mesh_index)];
  const std::vector<Rank>& trainers = input.source.mesh.ranks;
  const auto at = std::find(trainers.begin(), trainers.end(), rank);
  if (at == trainers.end()) return bytes;
  const auto held = ExpandLayout(*input.model, *input.source.layout,
                                 input.source.mesh, at - trainers.begin());
  REQUIRE_OK(held.status());
  for (const View& view : held->views) {
    bytes -= view.box.num_elements() * ElementBytes(*held, view);
  }
  return bytes;
}

size_t LargestPart(const TransferPlan& plan, int32_t num_ranks) {
  size_t largest = 0;
  for (const PlanPart& part : SplitPlan(plan, num_ranks)) {
    largest = std::max(largest, ToProto(part).ByteSizeLong());
  }
  return largest;
}

TEST_CASE("plans of published layouts are within 5 % of the bound",
          "[planner]") {
  REQUIRE(PublishedCases().size() >= 8);
  for (const PublishedCase& published : PublishedCases()) {
    CAPTURE(published.name);
    REQUIRE_OK_AND_ASSIGN(const ReshardInput input,
                          bench::MakeReshardInput(published));
    REQUIRE_OK_AND_ASSIGN(const TransferPlan plan, PlanReshard(input));
    CHECK_OK(ValidateReshard(input, plan));
    const Certificate& certificate = plan.certificate;
    CHECK(certificate.bound_ratio <= 1.05);
    // The plan itself shows that the bound is not above what can be done, one
    // rank's needs that it is not far below.
    CHECK(certificate.lower_bound_bytes <= certificate.max_link_bytes);
    CHECK(certificate.lower_bound_bytes >= NeededBytes(input, 0));
    CHECK(LargestPart(plan, input.topology.num_ranks()) < size_t{1} << 20);
  }
}

TEST_CASE("TWO_STAGE plans of published layouts are whole", "[planner]") {
  std::vector<std::string> refused;
  for (const PublishedCase& published : PublishedCases()) {
    CAPTURE(published.name);
    REQUIRE_OK_AND_ASSIGN(ReshardInput input,
                          bench::MakeReshardInput(published));
    input.pattern = Pattern::kTwoStage;
    const auto plan = PlanReshard(input);
    if (plan.ok()) {
      CHECK_OK(ValidateReshard(input, *plan));
    } else {
      CHECK_THAT(plan, StatusIs(absl::StatusCode::kInvalidArgument,
                                "cut over axis \"shard\""));
      refused.push_back(published.name);
    }
  }
  // FSDP shards are no slices that the mapping knows.
  CHECK(refused == std::vector<std::string>{"llama-405b-fsdp-512-to-128",
                                            "qwen3-30b-ethernet"});
}

TEST_CASE("a trainer's bf16 reaches an fp8 engine as fp8", "[planner]") {
  REQUIRE_OK_AND_ASSIGN(const PublishedCase kimi,
                        bench::FindPublishedCase("kimi-k2-256-to-128"));
  REQUIRE_OK_AND_ASSIGN(
      const ReshardInput input,
      bench::MakeReshardInput(kimi, {{"num_hidden_layers", 3}}));
  REQUIRE_OK_AND_ASSIGN(const TransferPlan plan, PlanReshard(input));
  CHECK_OK(ValidateReshard(input, plan));
  int64_t matrices = 0;
  int64_t vectors = 0;
  for (const Transfer& transfer : plan.transfers) {
    const TensorSpec& tensor =
        input.model->tensor(TensorIndex(transfer.params.tensors[0].first));
    CAPTURE(tensor.name);
    if (tensor.shape.size() >= 2) {
      CHECK(tensor.dtype == DType::kBF16);
      CHECK(transfer.wire_dtype == DType::kF8E4M3);
      ++matrices;
    } else {
      CHECK(transfer.wire_dtype == tensor.dtype);
      ++vectors;
    }
  }
  CHECK(matrices > 0);
  CHECK(vectors > 0);
  REQUIRE_OK_AND_ASSIGN(const std::vector<Cast> casts, CastsOf(input));
  const auto num_matrices =
      std::count_if(input.model->tensors.begin(), input.model->tensors.end(),
                    [](const TensorSpec& t) { return t.shape.size() >= 2; });
  CHECK(casts == std::vector<Cast>{{"rollout", DType::kBF16, DType::kF8E4M3,
                                    DType::kF8E4M3, num_matrices}});
  CHECK(casts[0].at_source());
}

TEST_CASE("published cases are found by name", "[planner]") {
  REQUIRE_OK_AND_ASSIGN(
      const PublishedCase some,
      bench::FindPublishedCase("qwen3-235b-partly-colocated"));
  CHECK(some.num_ranks() == 192);
  CHECK(some.num_colocated() == 64);
  CHECK_THAT(bench::FindPublishedCase("qwen"),
             ::sluice::testing::StatusIs(absl::StatusCode::kNotFound,
                                         "kimi-k2-nvl72"));
}

}  // namespace
}  // namespace sluice::coordinator
