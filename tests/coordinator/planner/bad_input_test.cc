// What is refused before planning ends, one test for each kind of bad input:
// the error names the object, what was expected and what was found. Further
// forms of each are in the tests of the code that refuses them.

#include <catch2/catch.hpp>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "common/layout.h"
#include "common/layout_json.h"
#include "coordinator/planner/planners.h"
#include "coordinator/planner/quantisation.h"
#include "presets/model_presets.h"
#include "tests/coordinator/planner/planner_builders.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator {
namespace {

using ::sluice::testing::Held;
using ::sluice::testing::IsOk;
using ::sluice::testing::MakeMesh;
using ::sluice::testing::MakeReshard;
using ::sluice::testing::MakeTopology;
using ::sluice::testing::OneTensor;
using ::sluice::testing::Ranks;
using ::sluice::testing::SplitOf;
using ::sluice::testing::StatusIs;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kExhausted = absl::StatusCode::kResourceExhausted;
constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

// "w", 8x4 of f32: rows over ranks 0 and 1, wanted whole
// by rank 2 on another node.
ReshardInput Rows() {
  return MakeReshard(OneTensor({8, 4}), SplitOf(0), MakeMesh("tensor=2", 0),
                     SplitOf(-1), MakeMesh("tensor=1", 2),
                     MakeTopology({0, 0, 1}));
}

// Explicit rows [lo, hi) of tensor 0, f32 with 4 columns, on each rank.
std::shared_ptr<Layout> ExplicitRows(
    const std::vector<std::pair<int64_t, int64_t>>& rows) {
  auto layout = std::make_shared<Layout>();
  layout->name = "explicit";
  for (const auto& [lo, hi] : rows) {
    RankLayout& rank = layout->explicit_ranks.emplace_back();
    rank.params.push_back({"p", DType::kF32, {hi - lo, 4}, 0});
    rank.views.push_back(
        {TensorIndex(0), Box({{lo, hi}, {0, 4}}), 0, 0, {4, 1}});
  }
  return layout;
}

std::shared_ptr<Layout> Rules(std::vector<std::string> patterns) {
  auto layout = std::make_shared<Layout>();
  layout->name = "rules";
  for (std::string& pattern : patterns) {
    layout->rules.emplace_back().pattern = std::move(pattern);
  }
  return layout;
}

// "a" on ranks 0 and 1, wanted by rank 2; "b" on rank 1, wanted by rank 0.
RedistributionInput Samples() {
  RedistributionInput input;
  input.pattern = Pattern::kDirect;
  input.topology = MakeTopology({0, 0, 1});
  input.holdings = {Held("a", "x", 10, {0, 1}), Held("b", "x", 20, {1})};
  input.wanted = {Ranks({2}), Ranks({0})};
  return input;
}

void CheckRefused(const ReshardInput& input, absl::StatusCode code,
                  std::initializer_list<absl::string_view> named,
                  const PlanningLimits& limits = {}) {
  const absl::StatusOr<TransferPlan> plan = PlanReshard(input, limits);
  for (const absl::string_view name : named) {
    CHECK_THAT(plan, StatusIs(code, name));
  }
}

void CheckRefused(const RedistributionInput& input, absl::StatusCode code,
                  std::initializer_list<absl::string_view> named,
                  const PlanningLimits& limits = {}) {
  const absl::StatusOr<TransferPlan> plan = PlanRedistribution(input, limits);
  for (const absl::string_view name : named) {
    CHECK_THAT(plan, StatusIs(code, name));
  }
}

TEST_CASE("good input is planned", "[planner][bad_input]") {
  CHECK_THAT(PlanReshard(Rows()), IsOk());
  CHECK_THAT(PlanRedistribution(Samples()), IsOk());
}

TEST_CASE("a hole in a source is refused", "[planner][bad_input]") {
  ReshardInput input = Rows();
  input.source.layout = ExplicitRows({{0, 4}, {5, 8}});
  CheckRefused(input, kInvalid, {"\"w\"", "[4,5)x[0,4)", "rank 2", "\"from\""});
  CHECK_THAT(CheckLayout(*input.model, *input.source.layout, input.source.mesh),
             StatusIs(kInvalid, "[4,5)x[0,4)"));
}

TEST_CASE("a hole in a destination is refused", "[planner][bad_input]") {
  ReshardInput input = Rows();
  input.destinations[0].layout = ExplicitRows({{0, 7}});
  CheckRefused(input, kInvalid, {"\"w\"", "[7,8)x[0,4)", "\"to\""});
}

TEST_CASE("a double write is refused", "[planner][bad_input]") {
  SECTION("two views in one place of memory") {
    auto layout = ExplicitRows({{0, 8}});
    RankLayout& rank = layout->explicit_ranks[0];
    rank.views = {{TensorIndex(0), Box({{0, 4}, {0, 4}}), 0, 0, {4, 1}},
                  {TensorIndex(0), Box({{4, 8}, {0, 4}}), 0, 8, {4, 1}}};
    CHECK_THAT(CheckLayout(*OneTensor({8, 4}), *layout, MakeMesh("t=1", 3)),
               StatusIs(kInvalid,
                        "rank 3, local parameter \"p\" is written "
                        "twice"));
  }
  SECTION("two local parameters of one name and place") {
    // Both tensors would be the whole of local parameter "same".
    auto model = std::make_shared<ModelSpec>();
    model->name = "two";
    model->tensors = {{"a", DType::kF32, {2}}, {"b", DType::kF32, {2}}};
    auto layout = Rules({"*"});
    layout->rules[0].local_name = "same";
    ReshardInput input =
        MakeReshard(model, Rules({"*"}), MakeMesh("tensor=1", 0), layout,
                    MakeMesh("tensor=1", 1), MakeTopology({0, 0}));
    CheckRefused(input, kInvalid, {"\"same\"", "\"a\"", "\"b\""});
  }
}

TEST_CASE("two holders that are not declared replicas are refused",
          "[planner][bad_input]") {
  const auto rows = ExplicitRows({{0, 5}, {4, 8}});
  ReshardInput input = Rows();
  input.source.layout = rows;
  CheckRefused(input, kInvalid,
               {"\"from\"", "\"w\"", "[4,5)x[0,4)", "rank 0 and rank 1"});
  CHECK_THAT(CheckLayout(*input.model, *rows, input.source.mesh),
             StatusIs(kInvalid, "replicated_views"));
  SECTION("declared, they are planned") {
    rows->replicated_views = true;
    CHECK_THAT(PlanReshard(input), IsOk());
    CHECK_THAT(CheckLayout(*input.model, *rows, input.source.mesh), IsOk());
  }
  SECTION("whole replicas are declared by their axis") {
    const auto whole = ExplicitRows({{0, 8}, {0, 8}});
    whole->replica_axes = {"tensor"};
    input.source.layout = whole;
    input.source_replicas = {0, 1};
    CHECK_THAT(PlanReshard(input), IsOk());
  }
}

TEST_CASE("a shard that cuts a quantisation block is warned of by name",
          "[planner][bad_input]") {
  // 8 rows in blocks of 3 over two ranks: [0,4) and [4,8) cut block [3,6).
  auto model = std::make_shared<ModelSpec>(*OneTensor({8, 4}));
  model->tensors[0].block = {3, 4};
  ReshardInput input = Rows();
  input.model = model;
  CHECK_THAT(PlanReshard(input), IsOk());
  REQUIRE_OK_AND_ASSIGN(const std::vector<std::string> warnings,
                        QuantisationWarnings(*model, input.source));
  REQUIRE(warnings.size() == 1);
  CHECK(warnings[0] ==
        "placement \"from\": tensor \"w\" box [0,4)x[0,4) on rank 0 cuts "
        "quantisation blocks of 3x4 in dimension 0");
  REQUIRE_OK_AND_ASSIGN(const std::vector<std::string> none,
                        QuantisationWarnings(*model, input.destinations[0]));
  CHECK(none.empty());
  CHECK_THAT(QuantisationWarnings(input), IsOk());
  CHECK(*QuantisationWarnings(input) == warnings);
  SECTION("a block of another number of dimensions is refused") {
    model->tensors[0].block = {3};
    CheckRefused(input, kInvalid, {"\"w\"", "[3]", "2 sizes"});
  }
  SECTION("a block without elements is refused") {
    model->tensors[0].block = {0, 1};
    CheckRefused(input, kInvalid, {"\"w\"", "[0,1]"});
  }
}

TEST_CASE("a rank out of range is refused", "[planner][bad_input]") {
  SECTION("of a placement") {
    ReshardInput input = Rows();
    input.destinations[0].mesh.ranks[0] = Rank(3);
    CheckRefused(input, kInvalid, {"\"to\"", "rank 3", "0 to 2"});
  }
  SECTION("twice in a placement") {
    ReshardInput input = Rows();
    input.source.mesh.ranks[1] = Rank(0);
    CheckRefused(input, kInvalid, {"rank 0"});
  }
  SECTION("of a sample's holders") {
    RedistributionInput input = Samples();
    input.holdings[1].holders = Ranks({1, 7});
    CheckRefused(input, kInvalid, {"\"b\"", "rank 7", "0 to 2"});
  }
  SECTION("of who wants a sample") {
    RedistributionInput input = Samples();
    input.wanted[0] = Ranks({-1});
    CheckRefused(input, kInvalid, {"\"a\"", "rank -1"});
  }
  SECTION("a replica") {
    ReshardInput input = Rows();
    input.source_replicas = {1};
    CheckRefused(input, kInvalid, {"\"from\"", "1 replicas", "number 1"});
  }
  SECTION("a network card") {
    ReshardInput input = Rows();
    input.topology.card_of_rank = {0, -2, 0};
    CheckRefused(input, kInvalid, {"rank 1", "card -2"});
  }
  SECTION("network cards of some ranks") {
    RedistributionInput input = Samples();
    input.topology.card_of_rank = {0};
    CheckRefused(input, kInvalid, {"1 ranks", "expected 3"});
  }
}

TEST_CASE("an axis out of range is refused", "[planner][bad_input]") {
  SECTION("one that the mesh lacks") {
    ReshardInput input = Rows();
    input.source.mesh.axes[0].name = "pipe";
    CheckRefused(input, kInvalid, {"\"tensor\"", "pipe"});
  }
  SECTION("a dimension that the tensor lacks") {
    ReshardInput input = Rows();
    input.source.layout = SplitOf(2);
    CheckRefused(input, kInvalid, {"\"w\"", "2"});
  }
  SECTION("an axis product unlike the ranks") {
    ReshardInput input = Rows();
    input.source.mesh.axes[0].size = 3;
    CheckRefused(input, kInvalid, {"tensor=3", "3 agents", "2"});
  }
  SECTION("an axis twice") {
    CHECK_THAT(ParseAxes("pipe=2,pipe=2"), StatusIs(kInvalid, "\"pipe\""));
  }
}

TEST_CASE("negative and overflowing sizes are refused",
          "[planner][bad_input]") {
  const auto with_shape = [](Shape shape) {
    ReshardInput input = Rows();
    input.model = OneTensor(std::move(shape));
    return input;
  };
  CheckRefused(with_shape({-8, 4}), kInvalid, {"\"w\"", "negative"});
  CheckRefused(with_shape({kMax, 2}), kInvalid, {"\"w\"", "overflows"});
  CheckRefused(with_shape({kMax / 2}), kInvalid, {"\"w\"", "overflows"});
  const auto with_entry = [](std::vector<int64_t> lengths, Shape shape) {
    RedistributionInput input = Samples();
    input.holdings[0].entry.sequence_lengths = std::move(lengths);
    input.holdings[0].entry.trailing_shape = std::move(shape);
    return input;
  };
  CheckRefused(with_entry({5, -1}, {}), kInvalid, {"\"a\"", "negative"});
  CheckRefused(with_entry({kMax, 1}, {}), kInvalid, {"\"a\""});
  CheckRefused(with_entry({5}, {-2}), kInvalid, {"\"a\""});
  CheckRefused(with_entry({1 << 20}, {kMax / 4}), kInvalid, {"\"a\""});
  CheckRefused(with_entry({kMax / 2}, {}), kInvalid, {"\"b\""});  // the sum
  CHECK_THAT(ParseAxes("a=0"), StatusIs(kInvalid, "\"a=0\""));
  Layout padded = *SplitOf(0);
  padded.rules[0].splits[0].pad_units = kMax / 2;
  ReshardInput input = Rows();
  input.source.layout = std::make_shared<Layout>(padded);
  CheckRefused(input, kInvalid, {"\"w\"", "pad_units", "overflow"});
}

TEST_CASE("duplicate keys are refused", "[planner][bad_input]") {
  SECTION("of a sample") {
    RedistributionInput input = Samples();
    input.holdings[1].entry = input.holdings[0].entry;
    CheckRefused(input, kInvalid, {"\"a\" key \"x\"", "twice"});
  }
  SECTION("a tensor of a model") {
    auto model = std::make_shared<ModelSpec>(*OneTensor({8, 4}));
    model->tensors.push_back(model->tensors[0]);
    ReshardInput input = Rows();
    input.model = model;
    CheckRefused(input, kInvalid, {"\"w\"", "twice"});
  }
  SECTION("of a layout's file") {
    CHECK_THAT(ParseLayout(R"({"name": "x", "rules": [], "name": "y"})"),
               StatusIs(kInvalid, "name"));
  }
  SECTION("of a model's file") {
    CHECK_THAT(ParseModelPreset(R"({"name": "x", "name": "y"})"),
               StatusIs(kInvalid, "name"));
  }
  SECTION("a placement") {
    ReshardInput input = Rows();
    input.destinations.push_back(input.destinations[0]);
    CheckRefused(input, kInvalid, {"\"to\"", "twice"});
  }
}

TEST_CASE("an id that nobody holds is refused", "[planner][bad_input]") {
  RedistributionInput input = Samples();
  input.holdings[1].holders.clear();
  CheckRefused(input, kInvalid, {"\"b\" key \"x\"", "nobody"});
}

// The rule: SampleHolding::owner in planner_inputs.h.
TEST_CASE("an id that is stored but was never owned is refused",
          "[planner][bad_input]") {
  const Pattern pattern =
      GENERATE(Pattern::kDirect, Pattern::kGatherScatter, Pattern::kBroadcast);
  RedistributionInput input = Samples();
  input.pattern = pattern;
  input.holdings[0].owner = kNoRank;
  CheckRefused(input, kInvalid, {"\"a\" key \"x\"", "owned by nobody"});
  input.holdings[0].owner = Rank(2);
  CheckRefused(input, kInvalid, {"\"a\" key \"x\"", "owner 2"});
}

TEST_CASE("a layout rule that matches nothing is refused",
          "[planner][bad_input]") {
  ReshardInput input = Rows();
  input.destinations[0].layout = Rules({"w", "v"});
  CheckRefused(input, kInvalid, {"\"v\""});
}

TEST_CASE("two rules that match one tensor are refused",
          "[planner][bad_input]") {
  ReshardInput input = Rows();
  input.destinations[0].layout = Rules({"w*", "*"});
  CheckRefused(input, kInvalid, {"\"w\"", "\"w*\"", "\"*\""});
}

TEST_CASE("a tensor in one model only is refused", "[planner][bad_input]") {
  // The plan's model has "w" and "v".
  auto both = std::make_shared<ModelSpec>(*OneTensor({8, 4}));
  both->tensors.push_back({"v", DType::kF32, {2}});
  ReshardInput input = Rows();
  input.model = both;
  SECTION("the destination's layout knows one of them") {
    input.destinations[0].layout = Rules({"w"});
    CheckRefused(input, kInvalid, {"\"v\""});
  }
  SECTION("the source's layout knows one of them") {
    input.source.layout = Rules({"w"});
    CheckRefused(input, kInvalid, {"\"v\""});
  }
  SECTION("the destination has views of one of them") {
    input.destinations[0].layout = ExplicitRows({{0, 8}});
    CheckRefused(input, kInvalid, {"\"v\"", "\"to\""});
  }
  SECTION("the source has views of one of them") {
    input.source.layout = ExplicitRows({{0, 4}, {4, 8}});
    CheckRefused(input, kInvalid, {"\"v\"", "\"from\""});
  }
  SECTION("views of a tensor that the model lacks") {
    auto layout = ExplicitRows({{0, 8}});
    layout->explicit_ranks[0].views[0].tensor = TensorIndex(2);
    input.destinations[0].layout = layout;
    CheckRefused(input, kInvalid, {"number 2", "below 2"});
  }
}

TEST_CASE("dtypes with no conversion between them are refused",
          "[planner][bad_input]") {
  ReshardInput input = Rows();
  SECTION("a view of a tensor") {
    auto layout = ExplicitRows({{0, 8}});
    layout->explicit_ranks[0].params[0].dtype = DType::kI32;
    input.destinations[0].layout = layout;
    CheckRefused(input, kInvalid,
                 {"\"w\"", "\"p\"", "I32", "F32", "no conversion"});
  }
  SECTION("a rule for a tensor") {
    auto layout = Rules({"*"});
    layout->rules[0].dtype = DType::kBool;
    input.source.layout = layout;
    CheckRefused(input, kInvalid,
                 {"\"w\"", "rule \"*\"", "F32", "BOOL", "no conversion"});
  }
  SECTION("two placements, each of which has one from the tensor's") {
    Layout from = *SplitOf(0);
    from.rules[0].dtype = DType::kF64;
    auto to = Rules({"*"});
    to->rules[0].dtype = DType::kF8E4M3;
    input.source.layout = std::make_shared<Layout>(from);
    input.destinations[0].layout = to;
    CheckRefused(
        input, kInvalid,
        {"\"w\"", "\"from\"", "F64", "\"to\"", "F8_E4M3", "no conversion"});
    from.rules[0].dtype = DType::kF32;
    input.source.layout = std::make_shared<Layout>(from);
    CHECK_THAT(PlanReshard(input), IsOk());
  }
}

TEST_CASE("a budget smaller than the smallest bucket is refused",
          "[planner][bad_input]") {
  PlanningLimits limits;
  limits.staging_bytes = kSmallestBucketBytes - 1;
  CheckRefused(Rows(), kExhausted, {"1048575", "1048576"}, limits);
  CheckRefused(Samples(), kExhausted, {"1048575", "1048576"}, limits);
  limits.staging_bytes = kSmallestBucketBytes;
  CHECK_THAT(PlanReshard(Rows(), limits), IsOk());
  SECTION("where nothing crosses between nodes none is needed") {
    limits.staging_bytes = 1;
    ReshardInput input = Rows();
    input.topology = MakeTopology({0, 0, 0});
    CHECK_THAT(PlanReshard(input, limits), IsOk());
  }
}

TEST_CASE("a limit on transfers closes", "[planner][bad_input]") {
  PlanningLimits limits;
  limits.max_transfers = 1;
  CheckRefused(Rows(), kExhausted, {"2 transfers", "at most 1"}, limits);
  CheckRefused(Samples(), kExhausted, {"2 transfers", "at most 1"}, limits);
}

TEST_CASE("a limit on ranks closes", "[planner][bad_input]") {
  PlanningLimits limits;
  limits.max_ranks = 2;
  CheckRefused(Rows(), kExhausted, {"3 ranks", "at most 2"}, limits);
  CheckRefused(Samples(), kExhausted, {"3 ranks", "at most 2"}, limits);
}

TEST_CASE("a limit on bytes closes", "[planner][bad_input]") {
  PlanningLimits limits;
  limits.max_bytes = 127;  // w: 8 * 4 * 4 = 128
  CheckRefused(Rows(), kExhausted, {"128 bytes", "at most 127"}, limits);
  limits.max_bytes = 29;  // 10 + 20
  CheckRefused(Samples(), kExhausted, {"30 bytes", "at most 29"}, limits);
}

}  // namespace
}  // namespace sluice::coordinator
