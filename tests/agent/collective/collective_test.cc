#include "agent/collective/collective.h"

#include <cstddef>
#include <functional>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::StatusIs;

// Bounds alone are looked at.
class NoMemory final : public MappedMemory {
 public:
  std::byte* data() const override { return nullptr; }
  int64_t size() const override { return 1000; }
};

CollectiveRange Range(int64_t offset, int64_t elements) {
  return {std::make_shared<NoMemory>(), offset, elements};
}

std::vector<CollectiveRange> Ranges(int count) {
  return std::vector<CollectiveRange>(static_cast<size_t>(count), Range(8, 10));
}

CollectiveCall Call(CollectiveKind kind, int inputs, int outputs) {
  CollectiveCall call;
  call.kind = kind;
  call.dtype = DType::kF32;
  call.root = 1;
  if (kind == CollectiveKind::kReduceScatter) call.reduce = ReduceOp::kSum;
  call.inputs = Ranges(inputs);
  call.outputs = Ranges(outputs);
  return call;
}

TEST_CASE("each kind has its ranges, at the root and elsewhere",
          "[collective]") {
  struct Case {
    CollectiveKind kind;
    int root_inputs, root_outputs, inputs, outputs;
  };
  const Case c = GENERATE(Case{CollectiveKind::kBroadcast, 1, 1, 0, 1},
                          Case{CollectiveKind::kScatter, 3, 1, 0, 1},
                          Case{CollectiveKind::kGather, 1, 3, 1, 0},
                          Case{CollectiveKind::kAllGather, 1, 3, 1, 3},
                          Case{CollectiveKind::kAllToAll, 3, 3, 3, 3},
                          Case{CollectiveKind::kReduceScatter, 3, 1, 3, 1});
  const absl::string_view name = CollectiveKindName(c.kind);
  CAPTURE(name);
  for (int inputs = 0; inputs <= 4; ++inputs) {
    for (int outputs = 0; outputs <= 4; ++outputs) {
      const CollectiveCall call = Call(c.kind, inputs, outputs);
      CHECK(CheckCall(call, 3, 1).ok() ==
            (inputs == c.root_inputs && outputs == c.root_outputs));
      const absl::Status elsewhere = CheckCall(call, 3, 2);
      CHECK(elsewhere.ok() == (inputs == c.inputs && outputs == c.outputs));
      if (!elsewhere.ok()) {
        CHECK_THAT(elsewhere,
                   StatusIs(absl::StatusCode::kInvalidArgument, name));
      }
    }
  }
}

TEST_CASE("a range lies inside its memory", "[collective]") {
  const auto check = [](CollectiveRange range) {
    CollectiveCall call = Call(CollectiveKind::kAllGather, 1, 3);
    call.outputs[2] = std::move(range);
    return CheckCall(call, 3, 0);
  };
  CHECK_OK(check(Range(0, 250)));
  CHECK_OK(check(Range(996, 1)));
  CHECK_OK(check(CollectiveRange{}));
  const auto bad = [](absl::string_view words) {
    return StatusIs(absl::StatusCode::kInvalidArgument, words);
  };
  CHECK_THAT(check(Range(0, 251)), bad("outputs[2]"));
  CHECK_THAT(check(Range(1000, 1)), bad("1000"));
  CHECK_THAT(check(Range(4, int64_t{1} << 62)), bad("outputs[2]"));
  CHECK_THAT(check(Range(-4, 1)), bad("-4"));
  CHECK_THAT(check(Range(0, -1)), bad("-1"));
  CHECK_THAT(check(Range(2, 1)), bad("multiple"));
  CHECK_THAT(check({nullptr, 0, 1}), bad("no memory"));
}

TEST_CASE("types, roots and operations are checked", "[collective]") {
  const auto bad = StatusIs(absl::StatusCode::kInvalidArgument);
  CollectiveCall call = Call(CollectiveKind::kBroadcast, 1, 1);
  call.dtype = DType::kUnspecified;
  CHECK_THAT(CheckCall(call, 3, 1), bad);
  call.dtype = DType::kBool;
  CHECK_OK(CheckCall(call, 3, 1));
  call.reduce = ReduceOp::kSum;
  CHECK_THAT(CheckCall(call, 3, 1), bad);
  call.reduce = ReduceOp::kNone;
  call.root = 3;
  CHECK_THAT(CheckCall(call, 3, 3), bad);
  call.root = -1;
  CHECK_THAT(CheckCall(call, 3, -1), bad);

  CollectiveCall reduce = Call(CollectiveKind::kReduceScatter, 3, 1);
  reduce.reduce = ReduceOp::kAverage;
  reduce.root = 99;  // has none
  CHECK_OK(CheckCall(reduce, 3, 0));
  reduce.dtype = DType::kI64;
  CHECK_THAT(CheckCall(reduce, 3, 0), bad);
  reduce.dtype = DType::kI32;
  reduce.reduce = ReduceOp::kNone;
  CHECK_THAT(CheckCall(reduce, 3, 0), bad);
}

TEST_CASE("a group's id tells name, ranks and incarnations apart",
          "[collective]") {
  CollectiveMembers members;
  members.name = "dp";
  members.peers.resize(2);
  members.peers[0].rank = Rank(0);
  members.peers[0].incarnation = Incarnation(7);
  members.peers[1].rank = Rank(1);
  members.peers[1].incarnation = Incarnation(8);
  const uint64_t id = members.Id();
  CollectiveMembers same = members;
  same.self = 1;
  same.peers[1].node = "other";
  CHECK(same.Id() == id);

  std::set<uint64_t> ids = {id};
  const auto add = [&](const std::function<void(CollectiveMembers&)>& change) {
    CollectiveMembers changed = members;
    change(changed);
    ids.insert(changed.Id());
  };
  add([](auto& m) { m.name = "dq"; });
  add([](auto& m) { m.peers.pop_back(); });
  add([](auto& m) { std::swap(m.peers[0], m.peers[1]); });
  add([](auto& m) { m.peers[1].rank = Rank(2); });
  add([](auto& m) { m.peers[0].incarnation = Incarnation(9); });
  CHECK(ids.size() == 6);
}

}  // namespace
}  // namespace sluice::agent
