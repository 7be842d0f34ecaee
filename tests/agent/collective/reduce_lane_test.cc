// Buckets, answers and ends of reduce groups, over groups of one process.

#include "agent/collective/reduce_lane.h"

#include <catch2/catch.hpp>
#include <cstdint>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/agent/collective/reduce_rig.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::StatusIs;
using Code = absl::StatusCode;
using Ids = std::vector<uint64_t>;

// Buckets of 16 floats for each of two members.
constexpr double kMib = 16.0 * 2 * 4 / (1 << 20);

ReduceGroupSpec SmallBuckets(std::vector<int> agents) {
  ReduceGroupSpec spec = ReduceRig::Spec(std::move(agents));
  spec.bucket_mib = kMib;
  return spec;
}

// Fills what `request` gives with 100 * member + 10 * shard + element.
template <typename T>
void Fill(const RigMember& member, int number,
          const ReduceScatterRequest& request, int64_t elements) {
  for (size_t m = 0; m < request.inputs.size(); ++m) {
    T* to = member.At<T>(request.inputs[m].offset_bytes);
    for (int64_t e = 0; e < elements; ++e) {
      to[e] = static_cast<T>(100 * number + 10 * static_cast<int>(m) + e);
    }
  }
}

TEST_CASE("small reduce-scatters wait in a bucket; large ones go at once",
          "[collective][reduce]") {
  ReduceRig rig(2);
  auto members = rig.JoinAll({0, 1}, SmallBuckets({0, 1}));
  const auto small = ReduceRig::Request(2, DType::kF32, {2, 5});
  const auto large = ReduceRig::Request(2, DType::kF32, {17}, 4096);
  for (int m = 0; m < 2; ++m) {
    Fill<float>(members[m], m, small, 10);
    Fill<float>(members[m], m, large, 17);
    members[m].lane->Reduce(1, small);
    members[m].lane->Reduce(2, large);
    members[m].lane->Flush(3);
  }
  for (int m = 0; m < 2; ++m) {
    RigMember& member = members[m];
    REQUIRE_OK(member.told->AwaitJoined());
    REQUIRE_OK(member.told->Await(3).status);
    CHECK(member.told->Order() == Ids{ReduceRig::kLendId, 2, 1, 3});
    const ReduceAnswer at_once = member.told->Await(2);
    CHECK(at_once.reason == ReductionReason::kImmediate);
    CHECK(at_once.sent_by == 2);
    CHECK(at_once.collective == 1);
    const ReduceAnswer flushed = member.told->Await(1);
    CHECK(flushed.reason == ReductionReason::kFlush);
    CHECK(flushed.sent_by == 3);
    CHECK(flushed.collective == 2);
    CHECK(flushed.shard_elements == 10);
    // (0 + 10m + e) + (100 + 10m + e)
    for (int e = 0; e < 10; ++e) {
      CHECK(member.At<float>(small.output.offset_bytes)[e] ==
            100.f + 20.f * static_cast<float>(m) + 2.f * static_cast<float>(e));
    }
    CHECK(member.At<float>(large.output.offset_bytes)[16] ==
          100.f + 20.f * static_cast<float>(m) + 32.f);
  }
}

TEST_CASE("a bucket goes when the next one does not fit",
          "[collective][reduce]") {
  ReduceRig rig(2);
  auto members = rig.JoinAll({0, 1}, SmallBuckets({0, 1}));
  const auto request = ReduceRig::Request(2, DType::kI32, {8});
  for (RigMember& member : members) {
    Fill<int32_t>(member, 1, request, 8);
    // Two fill it exactly and wait; the third makes it go.
    for (uint64_t id = 1; id <= 3; ++id) member.lane->Reduce(id, request);
  }
  for (RigMember& member : members) {
    const ReduceAnswer answer = member.told->Await(2);
    CHECK(answer.reason == ReductionReason::kBucketFull);
    CHECK(answer.sent_by == 3);
    CHECK(answer.shard_elements == 16);
    CHECK(member.told->Order() == Ids{ReduceRig::kLendId, 1, 2});
  }
}

TEST_CASE("averages divide by the members", "[collective][reduce]") {
  ReduceRig rig(4);
  ReduceGroupSpec spec = ReduceRig::Spec({0, 1, 2, 3});
  spec.operation = ReduceOp::kAverage;
  auto members = rig.JoinAll({0, 1, 2, 3}, spec);
  const auto request = ReduceRig::Request(4, DType::kF64, {3});
  for (int m = 0; m < 4; ++m) {
    Fill<double>(members[m], m, request, 3);
    members[m].lane->Reduce(1, request);
    members[m].lane->Flush(2);
  }
  for (int m = 0; m < 4; ++m) {
    REQUIRE_OK(members[m].told->Await(2).status);
    CHECK(members[m].At<double>(request.output.offset_bytes)[2] ==
          150.0 + 10 * m + 2);
  }
}

TEST_CASE(
    "no element is no collective and completes at the flush; a scalar is "
    "one element",
    "[collective][reduce]") {
  ReduceRig rig(1);
  ReduceGroupSpec spec = ReduceRig::Spec({0});
  spec.bucket_mib = GENERATE(0.0, 25.0);
  RigMember member = rig.Join(0, spec);
  const auto scalar = ReduceRig::Request(1, DType::kF32, {});
  Fill<float>(member, 7, scalar, 1);
  ReduceScatterRequest none = ReduceRig::Request(1, DType::kF32, {3, 0});
  none.output.memory = 99;  // nobody looks there
  member.lane->Reduce(1, none);
  member.lane->Reduce(2, scalar);
  member.lane->Flush(3);
  REQUIRE_OK(member.told->Await(3).status);
  CHECK(member.told->Await(1).sent_by == 3);
  CHECK(member.At<float>(scalar.output.offset_bytes)[0] == 700.f);
  CHECK(rig.collectives().num_reduced() == 1);
  if (spec.bucket_mib == 0) CHECK(member.told->Await(1).collective == 0);
}

TEST_CASE("an answer may ask for more, into the very bucket that was flushed",
          "[collective][reduce]") {
  ReduceRig rig(2);
  auto members = rig.JoinAll({0, 1}, SmallBuckets({0, 1}));
  const auto first = ReduceRig::Request(2, DType::kF32, {4});
  const auto second = ReduceRig::Request(2, DType::kF32, {4}, 4096);
  for (int m = 0; m < 2; ++m) {
    Fill<float>(members[m], m, first, 4);
    Fill<float>(members[m], m, second, 4);
    members[m].lane->Reduce(1, first);
    members[m].lane->Flush(2);
    REQUIRE(members[m].lane != nullptr);
  }
  for (int m = 0; m < 2; ++m) {
    members[m].told->Await(1);
    members[m].lane->Reduce(3, second);
    members[m].lane->Flush(4);
  }
  for (int m = 0; m < 2; ++m) {
    REQUIRE_OK(members[m].told->Await(4).status);
    CHECK(members[m].told->Order() == Ids{ReduceRig::kLendId, 1, 2, 3, 4});
    CHECK(members[m].At<float>(second.output.offset_bytes)[0] ==
          100.f + 20.f * static_cast<float>(m));
  }
}

TEST_CASE("many buckets on their way wait for memory, not for ever",
          "[collective][reduce]") {
  ReduceRig rig(2);
  rig.collectives().Hold(true);
  auto members = rig.JoinAll({0, 1}, SmallBuckets({0, 1}));
  constexpr uint64_t kRequests = 100;
  const auto request = ReduceRig::Request(2, DType::kF32, {16});
  for (int m = 0; m < 2; ++m) {
    REQUIRE_OK(members[m].told->AwaitJoined());
    Fill<float>(members[m], m, request, 16);
    for (uint64_t id = 1; id <= kRequests; ++id) {
      members[m].lane->Reduce(id, request);
    }
    members[m].lane->Flush(kRequests + 1);
  }
  rig.collectives().Hold(false);
  for (RigMember& member : members) {
    REQUIRE_OK(member.told->Await(kRequests + 1).status);
    Ids expected{ReduceRig::kLendId};
    for (uint64_t id = 1; id <= kRequests + 1; ++id) expected.push_back(id);
    CHECK(member.told->Order() == expected);
  }
  CHECK(rig.collectives().num_reduced() == kRequests);
}

TEST_CASE("a teardown wants nothing to wait, and buckets come back after it",
          "[collective][reduce]") {
  ReduceRig rig(1);
  RigMember member = rig.Join(0, ReduceRig::Spec({0}));
  const auto request = ReduceRig::Request(1, DType::kF32, {4});
  Fill<float>(member, 3, request, 4);
  member.lane->Reduce(1, request);
  member.lane->TearDown(2);
  CHECK_THAT(member.told->Await(2).status, StatusIs(Code::kFailedPrecondition));
  member.lane->Flush(3);
  member.lane->TearDown(4);
  CHECK_OK(member.told->Await(4).status);
  CHECK_OK(member.told->Await(1).status);
  member.lane->Reduce(5, request);
  member.lane->Flush(6);
  CHECK_OK(member.told->Await(6).status);
  CHECK(member.told->Order() == Ids{ReduceRig::kLendId, 2, 1, 3, 4, 5, 6});
}

TEST_CASE("members that differ in shape, type or order are told so before data",
          "[collective][reduce]") {
  ReduceRig rig(2);
  auto members = rig.JoinAll({0, 1}, ReduceRig::Spec({0, 1}));
  const auto a = ReduceRig::Request(2, DType::kF32, {4, 2});
  const auto b = ReduceRig::Request(2, DType::kF32, {2, 4}, 4096);
  const auto c = ReduceRig::Request(2, DType::kI32, {8}, 8192);
  using Order = std::vector<ReduceScatterRequest>;
  const auto [first, second] = GENERATE_COPY(table<Order, Order>({
      {{a}, {b}},        // shapes of as many elements
      {{a}, {c}},        // types
      {{a, b}, {b, a}},  // order
  }));
  const std::vector<Order> orders = {first, second};
  for (size_t m = 0; m < 2; ++m) {
    uint64_t id = 1;
    for (const auto& request : orders[m]) {
      members[m].lane->Reduce(id++, request);
    }
    members[m].lane->Flush(10);
  }
  for (RigMember& member : members) {
    const absl::Status status = member.told->Await(10).status;
    CHECK_THAT(status, StatusIs(Code::kFailedPrecondition, "agent-0"));
    CHECK_THAT(status, StatusIs(Code::kFailedPrecondition, "agent-1"));
    CHECK_THAT(status, StatusIs(Code::kFailedPrecondition, "[4,2]"));
    CHECK(member.told->Await(1).status == status);
  }
  CHECK(rig.collectives().num_reduced() == 0);
}

TEST_CASE("members that differ in settings do not join",
          "[collective][reduce]") {
  ReduceRig rig(2);
  ReduceGroupSpec other = ReduceRig::Spec({0, 1});
  other.bucket_mib = 7;
  RigMember first = rig.Join(0, ReduceRig::Spec({0, 1}));
  RigMember second = rig.Join(1, other);
  for (RigMember* member : {&first, &second}) {
    const absl::Status status = member->told->AwaitJoined();
    CHECK_THAT(status, StatusIs(Code::kFailedPrecondition, "25 MiB"));
    CHECK_THAT(status, StatusIs(Code::kFailedPrecondition, "7 MiB"));
    CHECK(member->told->Await(ReduceRig::kLendId).status == status);
    CHECK(member->told->num_joined() == 1);
  }
}

TEST_CASE("a refused reduce-scatter ends the group for all who wait for it",
          "[collective][reduce]") {
  ReduceRig rig(2);
  auto members = rig.JoinAll({0, 1}, ReduceRig::Spec({0, 1}));
  const auto good = ReduceRig::Request(2, DType::kF32, {4});
  ReduceScatterRequest bad = good;
  const auto [what, spoil] = GENERATE(
      table<std::string, std::function<void(ReduceScatterRequest&)>>({
          {"input 1", [](auto& r) { r.inputs[1].shape = {5}; }},
          {"input 1", [](auto& r) { r.inputs[1].dtype = DType::kI32; }},
          {"2 members", [](auto& r) { r.inputs.pop_back(); }},
          {"output", [](auto& r) { r.output.shape = {2, 2}; }},
          {"memory 7", [](auto& r) { r.inputs[0].memory = 7; }},
          {"inside", [](auto& r) { r.output.offset_bytes = 1 << 20; }},
          {"inside", [](auto& r) { r.output.offset_bytes = -4; }},
          {"multiple of 4", [](auto& r) { r.inputs[0].offset_bytes = 2; }},
          {"overlap", [](auto& r) { r.output.offset_bytes = 8; }},
          {"I64",
           [](auto& r) {
             for (auto& input : r.inputs) input.dtype = DType::kI64;
             r.output.dtype = DType::kI64;
           }},
          {"2^63",
           [](auto& r) {
             for (auto& input : r.inputs) input.shape = {1LL << 40, 1LL << 40};
             r.output.shape = r.inputs[0].shape;
           }},
      }));
  CAPTURE(what);
  spoil(bad);
  members[0].lane->Reduce(1, good);
  members[0].lane->Flush(2);
  members[1].lane->Reduce(1, bad);
  members[1].lane->Flush(2);
  for (RigMember& member : members) {
    for (const uint64_t id : {1, 2}) {
      CHECK_THAT(member.told->Await(id).status,
                 StatusIs(Code::kInvalidArgument, what));
    }
    // Later ones, too; each once.
    member.told->AwaitGone();
    member.lane->Reduce(3, good);
    CHECK_THAT(member.told->Await(3).status,
               StatusIs(Code::kInvalidArgument, what));
    CHECK(member.told->Order() == Ids{ReduceRig::kLendId, 1, 2, 3});
  }
}

TEST_CASE("the own input may be the output", "[collective][reduce]") {
  ReduceRig rig(2);
  ReduceGroupSpec spec = ReduceRig::Spec({0, 1});
  spec.bucket_mib = GENERATE(0.0, 25.0);
  auto members = rig.JoinAll({0, 1}, spec);
  auto request = ReduceRig::Request(2, DType::kF32, {4});
  for (int m = 0; m < 2; ++m) {
    Fill<float>(members[m], m, request, 4);
    auto mine = request;
    mine.output = mine.inputs[static_cast<size_t>(m)];
    members[m].lane->Reduce(1, mine);
    members[m].lane->Flush(2);
  }
  for (int m = 0; m < 2; ++m) {
    REQUIRE_OK(members[m].told->Await(2).status);
    CHECK(members[m].At<float>(16 * m)[3] ==
          100.f + 20.f * static_cast<float>(m) + 6.f);
  }
}

TEST_CASE("too many requests that wait end the group", "[collective][reduce]") {
  ReduceRig rig(2);
  RigMember member = rig.Join(0, ReduceRig::Spec({0, 1}));  // 1 does not come
  const auto none = ReduceRig::Request(2, DType::kF32, {0});
  for (uint64_t id = 1; id <= 65536; ++id) member.lane->Reduce(id, none);
  CHECK_THAT(member.told->Await(65536).status,
             StatusIs(Code::kResourceExhausted, "65536"));
  CHECK_THAT(member.told->AwaitJoined(), StatusIs(Code::kResourceExhausted));
}

TEST_CASE("memory that was let go is unknown", "[collective][reduce]") {
  ReduceRig rig(1);
  RigMember member = rig.Join(0, ReduceRig::Spec({0}));
  const auto request = ReduceRig::Request(1, DType::kF32, {4});
  member.lane->Reduce(1, request);
  member.lane->Release(2, 1);
  CHECK_OK(member.told->Await(2).status);
  member.lane->Release(3, 1);
  CHECK_THAT(member.told->Await(3).status, StatusIs(Code::kNotFound));
  member.lane->Lend(4, 5, absl::NotFoundError("no such token"));
  CHECK_THAT(member.told->Await(4).status, StatusIs(Code::kNotFound));
  member.lane->Flush(6);  // what was asked for before keeps it
  CHECK_OK(member.told->Await(1).status);
  member.lane->Reduce(7, request);
  CHECK_THAT(member.told->Await(7).status,
             StatusIs(Code::kInvalidArgument, "memory 1"));
}

}  // namespace
}  // namespace sluice::agent
