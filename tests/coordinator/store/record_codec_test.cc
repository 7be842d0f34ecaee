#include "coordinator/store/record_codec.h"

#include <catch2/catch.hpp>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator {
namespace {

using testing::StatusIs;
using Code = absl::StatusCode;

StoredRecord Stored(const Record& record) {
  const StoreWrite write = EncodeRecord(record);
  CHECK_FALSE(write.erase);
  return {write.kind, write.key, write.value};
}

template <typename T>
T RoundTrip(const T& record) {
  const absl::StatusOr<Record> back = DecodeRecord(Stored(record));
  REQUIRE_OK(back);
  return std::get<T>(*back);
}

ModelRecord Model() {
  ModelRecord record;
  record.spec.name = "policy";
  record.spec.tensors = {{"w", DType::kBF16, {8, 4}}};
  record.spec.aliases = {{"v", "w"}};
  record.last_version = Version(3);
  return record;
}

PlacementRecord Placement() {
  PlacementRecord record;
  record.ref = {"policy", "trainer", 77};
  record.mesh.axes = {{"tensor", 2}};
  record.mesh.ranks = {Rank(5), Rank(1)};
  record.agents = {"f", "b"};
  record.layout.name = "hf";
  record.layout.rules.emplace_back().pattern = "*";
  record.storage = Storage::kLent;
  return record;
}

OutcomeRecord Outcome() {
  OutcomeRecord record;
  record.request_id = "r-1";
  record.status = absl::UnavailableError("agent \"b\" was lost");
  record.fingerprint = ~uint64_t{0};
  record.operation = OperationId(9);
  record.result.version = Version(4);
  record.result.bytes = {1, 2, 3};
  record.result.seconds = 0.5;
  record.result.phases = {{OperationPhase::kPlanning, 0.25}};
  record.result.busy_seconds = {0.125, 0, 2};
  record.result.digest_bytes = 7;
  record.result.plan_reused = true;
  record.result.peak_staging_bytes = 4096;
  record.dropped = 12;
  record.expires = absl::FromUnixSeconds(1700000000);
  return record;
}

TEST_CASE("a cluster's record comes back", "[store]") {
  const ClusterRecord back =
      RoundTrip(ClusterRecord{"c-1", Epoch(3), OperationId(4096)});
  CHECK(back.cluster_id == "c-1");
  CHECK(back.epoch == Epoch(3));
  CHECK(back.last_operation == OperationId(4096));
}

TEST_CASE("an agent's record comes back", "[store]") {
  const AgentRecord back = RoundTrip(AgentRecord{"a", Rank(4), "n0", true});
  CHECK(back.name == "a");
  CHECK(back.rank == Rank(4));
  CHECK(back.node == "n0");
  CHECK(back.gone);
}

TEST_CASE("models and placements come back", "[store]") {
  const ModelRecord model = RoundTrip(Model());
  CHECK(model.spec == Model().spec);
  CHECK(model.last_version == Version(3));
  const PlacementRecord placement = RoundTrip(Placement());
  CHECK(placement.ref == Placement().ref);
  CHECK(placement.mesh == Placement().mesh);
  CHECK(placement.agents == Placement().agents);
  CHECK(placement.layout == Placement().layout);
  CHECK(placement.storage == Storage::kLent);
}

TEST_CASE("versions and decisions come back", "[store]") {
  const VersionRecord version =
      RoundTrip(VersionRecord{"policy", Version(3), "trainer", 12});
  CHECK(version.model == "policy");
  CHECK(version.version == Version(3));
  CHECK(version.placement == "trainer");
  CHECK(version.step == 12);
  const DecisionRecord decision = RoundTrip(DecisionRecord{
      OperationId(9), Version(3), {{"policy", "rollout", 2}}, {"a", "b"}});
  CHECK(decision.operation == OperationId(9));
  CHECK(decision.version == Version(3));
  CHECK(decision.placements ==
        std::vector<PlacementRef>{{"policy", "rollout", 2}});
  CHECK(decision.agents == std::vector<std::string>{"a", "b"});
}

TEST_CASE("an outcome comes back with its result", "[store]") {
  const OutcomeRecord back = RoundTrip(Outcome());
  CHECK(back.request_id == "r-1");
  CHECK(back.status == Outcome().status);
  CHECK(back.fingerprint == ~uint64_t{0});
  CHECK(back.operation == OperationId(9));
  CHECK(back.result.version == Version(4));
  CHECK(back.result.bytes == LinkBytes{1, 2, 3});
  CHECK(back.result.seconds == 0.5);
  CHECK(back.result.phases == Outcome().result.phases);
  CHECK(back.result.busy_seconds == Outcome().result.busy_seconds);
  CHECK(back.result.digest_bytes == 7);
  CHECK(back.result.plan_reused);
  CHECK(back.result.peak_staging_bytes == 4096);
  CHECK(back.dropped == 12);
  CHECK(back.expires == Outcome().expires);
}

TEST_CASE("a removed record erases what was written under its key", "[store]") {
  PlacementRecord placement = Placement();
  DecisionRecord decision{OperationId(9), Version(3), {}, {}};
  OutcomeRecord outcome = Outcome();
  const std::vector<Record> kept = {placement, decision, outcome};
  placement.removed = decision.removed = outcome.removed = true;
  const std::vector<Record> removed = {placement, decision, outcome};
  for (size_t i = 0; i < kept.size(); ++i) {
    CAPTURE(i);
    const StoreWrite erasure = EncodeRecord(removed[i]);
    CHECK(erasure.erase);
    CHECK(erasure.kind == Stored(kept[i]).kind);
    CHECK(erasure.key == Stored(kept[i]).key);
  }
}

TEST_CASE("names with slashes keep their records apart", "[store]") {
  PlacementRecord one = Placement();
  one.ref = {"a/b", "c", 1};
  PlacementRecord two = Placement();
  two.ref = {"a", "b/c", 1};
  CHECK(Stored(one).key != Stored(two).key);
}

TEST_CASE("what is named comes before what names it", "[store]") {
  std::vector<StoredRecord> stored;
  for (const Record& record : std::vector<Record>{
           Outcome(), DecisionRecord{}, VersionRecord{}, Placement(), Model(),
           AgentRecord{"b", Rank(1), "", false},
           AgentRecord{"a", Rank(0), "", false}, ClusterRecord{}}) {
    stored.push_back(Stored(record));
  }
  REQUIRE_OK_AND_ASSIGN(const std::vector<Record> records,
                        DecodeRecords(stored));
  std::vector<size_t> kinds;
  for (const Record& record : records) kinds.push_back(record.index());
  CHECK(kinds == std::vector<size_t>{0, 1, 1, 2, 3, 4, 5, 6});
}

TEST_CASE("a damaged or foreign record is refused by name", "[store]") {
  StoredRecord model = Stored(Model());
  model.value = "\xFF\xFF";
  CHECK_THAT(DecodeRecord(model), StatusIs(Code::kDataLoss, "policy"));
  model.value = "";  // parses as a model without a name
  CHECK_THAT(DecodeRecord(model), StatusIs(Code::kDataLoss, "policy"));
  CHECK_THAT(DecodeRecord({"graph", "g", ""}),
             StatusIs(Code::kFailedPrecondition, "graph"));
}

}  // namespace
}  // namespace sluice::coordinator
