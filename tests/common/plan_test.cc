#include "common/plan.h"

#include <catch2/catch.hpp>
#include <functional>
#include <sstream>

namespace sluice {
namespace {

std::vector<TensorIndex> Indices(std::initializer_list<int32_t> values) {
  std::vector<TensorIndex> out;
  for (const int32_t value : values) out.emplace_back(value);
  return out;
}

Transfer MakeTransfer(uint32_t id, int32_t source, int32_t destination,
                      std::vector<uint32_t> samples) {
  Transfer transfer;
  transfer.id = id;
  transfer.kind = TransferKind::kSendRecv;
  transfer.source = Rank(source);
  transfer.destination = Rank(destination);
  transfer.samples = std::move(samples);
  return transfer;
}

// Three entries; 0 -> 1 moves entries 0 and 2, 1 -> 2 relays 2, 2 -> 0 moves 1.
TransferPlan MakePlan() {
  TransferPlan plan;
  for (const char* id : {"a", "b", "c"}) {
    SampleEntry entry;
    entry.sample_id = id;
    entry.key = "rewards";
    entry.dtype = DType::kF32;
    entry.sequence_lengths = {2, 3};
    plan.entries.push_back(entry);
  }
  plan.transfers = {MakeTransfer(0, 0, 1, {0, 2}), MakeTransfer(1, 2, 0, {1}),
                    MakeTransfer(2, 1, 2, {2})};
  plan.transfers[2].round = 1;
  plan.transfers[2].reads_after = 0;
  return plan;
}

TEST_CASE("runs of tensors expand to what they were made of", "[plan]") {
  const std::vector<TensorIndex> indices = GENERATE(
      Indices({}), Indices({5}), Indices({0, 1, 2, 3}), Indices({2, 11, 20}),
      Indices({0, 1, 5, 9, 13, 14, 20}), Indices({0, 5, 6, 7, 8}));
  CHECK(ExpandTensors(CompressTensors(indices)) == indices);
}

TEST_CASE("an arithmetic list is one run", "[plan]") {
  CHECK(CompressTensors(Indices({4, 13, 22, 31})) ==
        std::vector<TensorRun>{{4, 4, 9}});
  CHECK(CompressTensors(Indices({7})) == std::vector<TensorRun>{{7, 1, 1}});
}

TEST_CASE("the bytes of an entry are rows times row size", "[plan]") {
  SampleEntry entry;
  entry.dtype = DType::kBF16;
  entry.sequence_lengths = {3, 0, 4};
  CHECK(entry.num_bytes() == 7 * 2);
  entry.trailing_shape = {5, 2};
  CHECK(entry.num_bytes() == 7 * 10 * 2);
  entry.trailing_shape = {0};
  CHECK(entry.num_bytes() == 0);
}

TEST_CASE("a part holds an agent's transfers and renumbers their entries",
          "[plan]") {
  const PlanPart part = PartOf(MakePlan(), Rank(1));
  CHECK(part.num_plan_transfers == 3);
  REQUIRE(part.transfers.size() == 2);
  CHECK(part.transfers[0].id == 0);
  CHECK(part.transfers[1].id == 2);
  CHECK(part.transfers[1].reads_after == 0u);
  REQUIRE(part.entries.size() == 2);
  CHECK(part.entries[0].sample_id == "a");
  CHECK(part.entries[1].sample_id == "c");
  CHECK(part.transfers[0].samples == std::vector<uint32_t>{0, 1});
  CHECK(part.transfers[1].samples == std::vector<uint32_t>{1});
}

TEST_CASE("splitting a plan gives every agent its part", "[plan]") {
  const TransferPlan plan = MakePlan();
  const std::vector<PlanPart> parts = SplitPlan(plan, 4);
  REQUIRE(parts.size() == 4);
  for (int32_t r = 0; r < 4; ++r) {
    CHECK(parts[static_cast<size_t>(r)] == PartOf(plan, Rank(r)));
  }
  CHECK(parts[3].transfers.empty());
}

TEST_CASE("a local copy is in its agent's part once", "[plan]") {
  TransferPlan plan;
  plan.transfers = {MakeTransfer(0, 1, 1, {})};
  CHECK(SplitPlan(plan, 2)[1].transfers.size() == 1);
}

TEST_CASE("a part's digest changes with everything in it", "[plan]") {
  const uint64_t digest = PartOf(MakePlan(), Rank(0)).digest;
  CHECK(PartOf(MakePlan(), Rank(0)).digest == digest);
  using Change = std::function<void(TransferPlan&)>;
  const Change changes[] = {
      [](TransferPlan& p) { p.transfers[0].round = -1; },
      [](TransferPlan& p) { p.transfers[0].kind = TransferKind::kGather; },
      [](TransferPlan& p) { p.transfers[0].collective = 1; },
      [](TransferPlan& p) { p.transfers[0].source = Rank(3); },
      [](TransferPlan& p) { p.transfers[0].destination = Rank(3); },
      [](TransferPlan& p) { p.transfers[0].link = LinkClass::kSameNode; },
      [](TransferPlan& p) { p.transfers[0].destination_placement = 1; },
      [](TransferPlan& p) { p.transfers[0].reads_after = 0; },
      [](TransferPlan& p) { p.transfers[0].bytes = 1; },
      [](TransferPlan& p) { p.transfers[0].wire_dtype = DType::kBF16; },
      [](TransferPlan& p) { p.transfers[0].samples = {0}; },
      [](TransferPlan& p) {
        p.transfers[0].params.box = Box({{0, 4}});
      },
      [](TransferPlan& p) {
        p.transfers[0].params.tensors = {{0, 2, 1}};
      },
      [](TransferPlan& p) { p.entries[0].sample_id = "d"; },
      [](TransferPlan& p) { p.entries[0].key = "reward"; },
      [](TransferPlan& p) { p.entries[0].dtype = DType::kI32; },
      [](TransferPlan& p) { p.entries[0].sequence_lengths = {5}; },
      [](TransferPlan& p) { p.entries[0].trailing_shape = {1}; },
      [](TransferPlan& p) { p.transfers.pop_back(); },
  };
  for (const Change& change : changes) {
    TransferPlan plan = MakePlan();
    change(plan);
    CHECK(PartOf(plan, Rank(0)).digest != digest);
  }
}

TEST_CASE("a part's digest is the same in every build", "[plan]") {
  // Agents keep parts by digest over a coordinator's update: not to change.
  CHECK(PartOf(MakePlan(), Rank(0)).digest == 0x7d934384222b6400u);
}

TEST_CASE("kinds and links have names", "[plan]") {
  std::ostringstream out;
  out << TransferKind::kLocalCopy << " " << TransferKind::kScatter << " "
      << LinkClass::kSameNode << " " << static_cast<TransferKind>(99);
  CHECK(out.str() == "LOCAL_COPY SCATTER same node TransferKind(99)");
}

}  // namespace
}  // namespace sluice
