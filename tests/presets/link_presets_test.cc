#include "presets/link_presets.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::sluice::testing::StatusIs;

constexpr char kSmallest[] =
    R"({"ranks_per_node": 4, "rank_gbytes": 100, "card_gbytes": 12.5,
        "device_copy_gbytes": 1000)";

TEST_CASE("every link preset can be read and names its source", "[presets]") {
  CHECK(LinkPresetNames() == std::vector<std::string>{"ethernet_100g",
                                                      "gb200_nvl72",
                                                      "h100_infiniband"});
  for (const std::string& name : LinkPresetNames()) {
    CAPTURE(name);
    const absl::StatusOr<LinkTable> table = FindLinkPreset(name);
    REQUIRE(table.ok());
    CHECK(table->name == name);
    CHECK(table->comment.find("NVIDIA") != std::string::npos);
  }
  CHECK_THAT(FindLinkPreset("carrier_pigeon").status(),
             StatusIs(absl::StatusCode::kNotFound));
}

TEST_CASE("published rates are kept as bytes per second", "[presets]") {
  const absl::StatusOr<LinkTable> table = FindLinkPreset("h100_infiniband");
  REQUIRE(table.ok());
  CHECK(table->ranks_per_node == 8);
  CHECK(table->cards_per_node == 8);
  CHECK(table->rank_rate == 450e9);  // NVLink 4, each way
  CHECK(table->card_rate == 50e9);   // 400 Gb/s
  CHECK(table->network_latency == Approx(10e-6));
}

TEST_CASE("a link table may leave out what is not special", "[presets]") {
  const absl::StatusOr<LinkTable> table =
      ParseLinkTable(std::string(kSmallest) + "}");
  REQUIRE(table.ok());
  CHECK(table->cards_per_node == 1);
  CHECK(table->oversubscription == 1);
  CHECK_FALSE(table->rails);
}

TEST_CASE("link tables that make no sense are refused", "[presets]") {
  const std::string ending = GENERATE(
      R"(, "ranks_per_nod": 8})", R"(, "cards_per_node": 0})",
      R"(, "oversubscription": 0.5})", R"(, "network_latency_us": -1})",
      R"(, "nodes_per_switch": -1})", R"(, "rails": 1})", R"()");
  CAPTURE(ending);
  CHECK_THAT(ParseLinkTable(kSmallest + ending).status(),
             StatusIs(absl::StatusCode::kInvalidArgument));
  CHECK_THAT(ParseLinkTable("{}").status(),
             StatusIs(absl::StatusCode::kInvalidArgument));
  LinkTable table;
  table.card_rate = 0;
  CHECK_THAT(CheckLinkTable(table),
             StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace sluice
