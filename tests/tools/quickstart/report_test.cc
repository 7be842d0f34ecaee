#include "tools/quickstart/report.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

namespace sluice::quickstart {
namespace {

Report Example() {
  Report report;
  report.rates = {/*copy*/ 10, /*read*/ 20, /*loopback*/ 4};
  OperationReport sync;
  sync.name = "sync 2";
  sync.work.bytes = {1'000'000'000, 2'000'000'000, 4'000'000'000};
  sync.work.digest_source_bytes = 3'000'000'000;
  sync.work.digest_destination_bytes = 7'000'000'000;
  sync.work.pack_bytes = 1'000'000'000;
  sync.work.unpack_bytes = 2'000'000'000;
  sync.seconds = 4.2;
  sync.verified = true;
  report.operations.push_back(sync);
  return report;
}

TEST_CASE("the bound adds up its parts", "[tools][quickstart]") {
  const Report report = Example();
  const Bound bound = LowerBound(report.operations[0].work, report.rates);
  CHECK(bound.same_device == Approx(0.1));
  CHECK(bound.same_node == Approx(0.2));
  CHECK(bound.between_nodes == Approx(1.0));
  CHECK(bound.digests == Approx(0.5));  // 10 GB at 20 GB/s
  CHECK(bound.pack == Approx(0.1));
  CHECK(bound.unpack == Approx(0.2));
  CHECK(bound.total() == Approx(2.1));
}

TEST_CASE("the JSON has what programs look for", "[tools][quickstart]") {
  const auto json = nlohmann::json::parse(PrintJson(Example()));
  CHECK(json.at("verified") == true);
  CHECK(json.at("copy_gb_per_s") == 10);
  CHECK(json.at("read_gb_per_s") == 20);
  CHECK(json.at("loopback_gb_per_s") == 4);
  const auto& sync = json.at("operations").at(0);
  CHECK(sync.at("name") == "sync 2");
  CHECK(sync.at("bytes").at("between_nodes") == 4'000'000'000);
  CHECK(sync.at("seconds") == 4.2);
  CHECK(sync.at("gb_per_s").get<double>() == Approx(7 / 4.2));
  CHECK(sync.at("bound_seconds").at("total").get<double>() == Approx(2.1));
  CHECK(sync.at("bound_ratio").get<double>() == Approx(2.0));
}

TEST_CASE("without rates the table has no bounds", "[tools][quickstart]") {
  Report report = Example();
  CHECK(PrintTable(report).find("ratio: time over bound") != std::string::npos);
  report.rates = {};
  CHECK(PrintTable(report).find("No bounds") != std::string::npos);
  CHECK(PrintTable(report).find("ratio: time over bound") == std::string::npos);
}

TEST_CASE("one operation that is not verified spoils the report",
          "[tools][quickstart]") {
  Report report = Example();
  CHECK(report.verified());
  report.operations.push_back({});
  CHECK_FALSE(report.verified());
  CHECK_FALSE(Report().verified());
}

}  // namespace
}  // namespace sluice::quickstart
