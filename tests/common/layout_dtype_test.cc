// Layouts that hold tensors in another element type than the model's.

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "common/layout.h"
#include "tests/common/layout_builders.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using namespace ::sluice::testing;  // NOLINT
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

// bf16: "w" of 8x4, "n" of 4.
ModelSpec TwoTensors() { return MakeModel({{"w", {8, 4}}, {"n", {4}}}); }

// "w" in rows over "t", as `w`; "n" whole, as the model has it.
Layout WAs(DType w) {
  Layout layout =
      MakeLayout({MakeRule("w", {MakeSplit(0, "t")}), MakeRule("n")});
  layout.rules[0].dtype = w;
  return layout;
}

TEST_CASE("a rule's element type is that of its parameters", "[layout]") {
  const ModelSpec model = TwoTensors();
  const Mesh mesh = MakeMesh({{"t", 2}});
  const Layout layout = WAs(DType::kF32);
  CHECK_OK(CheckLayout(model, layout, mesh));
  REQUIRE_OK_AND_ASSIGN(const RankLayout rank,
                        ExpandLayout(model, layout, mesh, 1));
  REQUIRE(FindParam(rank, "w") != nullptr);
  CHECK(FindParam(rank, "w")->dtype == DType::kF32);
  CHECK(FindParam(rank, "w")->num_bytes() == 4 * 4 * 4);
  CHECK(FindParam(rank, "n")->dtype == DType::kBF16);
  // Each parameter takes one unit of 256 bytes.
  REQUIRE_OK_AND_ASSIGN(const std::vector<int64_t> bytes,
                        LayoutBytesOnAll(model, layout, mesh));
  CHECK(bytes == std::vector<int64_t>{rank.buffer_bytes, rank.buffer_bytes});
}

TEST_CASE("a class of tensors knows in which type it is held", "[layout]") {
  const ModelSpec model = TwoTensors();
  REQUIRE_OK_AND_ASSIGN(
      const std::vector<TensorClass> classes,
      ClassifyLayout(model, WAs(DType::kF8E4M3), MakeMesh({{"t", 2}})));
  REQUIRE(classes.size() == 2);
  CHECK(classes[0].dtype == DType::kF8E4M3);
  CHECK(classes[1].dtype == DType::kBF16);
}

TEST_CASE("a rule's type to which there is no conversion is refused",
          "[layout]") {
  const Mesh mesh = MakeMesh({{"t", 2}});
  const absl::Status status = CheckLayout(TwoTensors(), WAs(DType::kI32), mesh);
  CHECK_THAT(status, StatusIs(kInvalid, "tensor \"w\", rule \"w\""));
  CHECK_THAT(status, StatusIs(kInvalid, "no conversion from BF16 to I32"));
}

TEST_CASE("members of one parameter come out in one type", "[layout]") {
  ModelSpec model = MakeModel({{"a", {4, 2}}, {"b", {4, 2}}});
  Layout layout = MakeLayout({MakeRule("a"), MakeRule("b")});
  for (int m = 0; m < 2; ++m) {
    layout.rules[static_cast<size_t>(m)].local_name = "ab";
    layout.rules[static_cast<size_t>(m)].fuse_index = m;
  }
  const Mesh mesh = MakeMesh({{"t", 1}});
  CHECK_OK(CheckLayout(model, layout, mesh));
  SECTION("rules that differ are refused") {
    layout.rules[1].dtype = DType::kF32;
    CHECK_THAT(CheckLayout(model, layout, mesh), StatusIs(kInvalid, "dtype"));
    SECTION("also where they are flat") {
      for (LayoutRule& rule : layout.rules) rule.flat = {{"t"}, 1};
      CHECK_THAT(CheckLayout(model, layout, mesh), StatusIs(kInvalid, "dtype"));
    }
  }
  SECTION("tensors that differ may be held alike") {
    model.tensors[1].dtype = DType::kF32;
    CHECK_THAT(CheckLayout(model, layout, mesh), StatusIs(kInvalid, "dtype"));
    layout.rules[1].dtype = DType::kBF16;
    CHECK_OK(CheckLayout(model, layout, mesh));
    REQUIRE_OK_AND_ASSIGN(const RankLayout rank,
                          ExpandLayout(model, layout, mesh, 0));
    REQUIRE(rank.params.size() == 1);
    CHECK(rank.params[0].dtype == DType::kBF16);
  }
}

// "w" in rows, each half a parameter of its own, of these types.
Layout ExplicitHalves(DType first, DType second) {
  Layout layout;
  layout.name = "halves";
  for (const DType dtype : {first, second}) {
    const int64_t lo = layout.explicit_ranks.empty() ? 0 : 4;
    RankLayout& rank = layout.explicit_ranks.emplace_back();
    rank.params.push_back({"p", dtype, {4, 4}, 0});
    rank.views.push_back(
        {TensorIndex(0), B({{lo, lo + 4}, {0, 4}}), 0, 0, {4, 1}});
  }
  return layout;
}

TEST_CASE("explicit views hold a tensor in one convertible type", "[layout]") {
  const ModelSpec model = MakeModel({{"w", {8, 4}}});
  const Mesh mesh = MakeMesh({{"t", 2}});
  CHECK_OK(CheckLayout(model, ExplicitHalves(DType::kF32, DType::kF32), mesh));
  CHECK_THAT(
      CheckLayout(model, ExplicitHalves(DType::kF32, DType::kBF16), mesh),
      StatusIs(kInvalid, "\"w\" is held as F32 and as BF16"));
  CHECK_THAT(CheckLayout(model, ExplicitHalves(DType::kU8, DType::kU8), mesh),
             StatusIs(kInvalid, "no conversion from the tensor's, BF16"));
}

}  // namespace
}  // namespace sluice
