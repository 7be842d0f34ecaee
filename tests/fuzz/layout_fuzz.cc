// Layouts and presets as JSON: what parses prints and reads back the same; what
// passes CheckLayout for a mesh is planned to and from a replicated placement,
// and the validator passes both plans.

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "common/check.h"
#include "common/layout_json.h"
#include "coordinator/planner/planners.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/small_cluster.h"

namespace sluice {
namespace {

const std::map<std::string, int64_t>& Variables() {
  static const auto* const variables = new std::map<std::string, int64_t>{
      {"head_dim", 2},    {"hidden_size", 8},
      {"num_experts", 4}, {"num_attention_heads", 4},
      {"num_layers", 2},  {"num_key_value_heads", 2}};
  return *variables;
}

void CheckPlan(const coordinator::PlacementGeometry& from,
               const coordinator::PlacementGeometry& to) {
  const coordinator::ReshardInput input = testing::SmallReshard(from, to);
  const absl::StatusOr<TransferPlan> plan = coordinator::PlanReshard(input);
  SLUICE_CHECK_OK(plan.status());
  SLUICE_CHECK_OK(coordinator::ValidateReshard(input, *plan));
}

void Run(absl::string_view text) {
  absl::StatusOr<Layout> parsed = ParseLayout(text, &testing::SmallModel());
  if (!parsed.ok()) parsed = ResolvePreset(text, Variables());
  if (!parsed.ok()) return;
  const absl::StatusOr<Layout> again = ParseLayout(PrintLayout(*parsed));
  // Names that are no UTF-8 are printed with replacements.
  SLUICE_CHECK_OK(again.status());
  SLUICE_CHECK(again->rules.size() == parsed->rules.size());
  const auto layout = std::make_shared<const Layout>(*std::move(parsed));
  for (const char* axes : testing::kSmallMeshes) {
    coordinator::PlacementGeometry placement{"fuzzed", layout,
                                             testing::SmallMesh(axes)};
    const absl::Status status =
        CheckLayout(testing::SmallModel(), *layout, placement.mesh);
    if (!status.ok()) continue;
    CheckPlan(placement, testing::WholePlacement());
    CheckPlan(testing::WholePlacement(), placement);
  }
}

}  // namespace
}  // namespace sluice

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  sluice::Run({reinterpret_cast<const char*>(data), size});
  return 0;
}
