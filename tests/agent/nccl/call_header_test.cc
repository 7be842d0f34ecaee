#include "agent/collective/call_header.h"

#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "agent/collective/collective.h"
#include "agent/nccl/join_card.h"
#include "tests/agent/nccl/collective_battery.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::IsOk;
using testing::StatusIs;

CollectiveMembers Members(int count) {
  CollectiveMembers members;
  members.name = "g";
  for (int m = 0; m < count; ++m) {
    Peer peer;
    peer.rank = Rank(m);
    peer.name = absl::StrCat("agent-", m);
    peer.node = "node";
    peer.incarnation = Incarnation(100 + m);
    members.peers.push_back(peer);
  }
  return members;
}

// Member's side of a reduce-scatter of 4 elements for each of three.
CollectiveCall Call() {
  const auto memory = std::make_shared<testing::HeapMemory>(128);
  CollectiveCall call;
  call.kind = CollectiveKind::kReduceScatter;
  call.dtype = DType::kF32;
  call.reduce = ReduceOp::kSum;
  call.fingerprint = 77;
  call.description = "op 17";
  call.inputs = {{memory, 0, 4}, {memory, 16, 4}, {memory, 32, 4}};
  call.outputs = {{memory, 64, 4}};
  return call;
}

// What each of three members sent, call 3 of each.
class Sent {
 public:
  explicit Sent(const std::vector<CollectiveCall>& calls) {
    for (const CollectiveCall& call : calls) {
      blocks_.push_back(EncodeCallHeader(call, /*ordinal=*/3, /*members=*/3));
    }
  }

  std::vector<CallHeaderView> Views() const {
    std::vector<CallHeaderView> views;
    for (const std::string& block : blocks_) {
      const auto view = DecodeCallHeader(block, 3);
      REQUIRE_OK(view);
      views.push_back(*view);
    }
    return views;
  }

 private:
  std::vector<std::string> blocks_;
};

TEST_CASE("a header is read as it was written", "[nccl]") {
  const Sent sent({Call()});
  const CallHeaderView view = sent.Views()[0];
  CHECK(view.header->ordinal == 3);
  CHECK(view.header->fingerprint == 77);
  CHECK(view.header->gapless == 1);
  CHECK(std::vector<int64_t>(view.inputs.begin(), view.inputs.end()) ==
        std::vector<int64_t>{4, 4, 4});
  // Of outputs there is one.
  CHECK(std::vector<int64_t>(view.outputs.begin(), view.outputs.end()) ==
        std::vector<int64_t>{4, -1, -1});
  CHECK_THAT(CallText(*view.header), Catch::Contains("call 3"));
  CHECK_THAT(CallText(*view.header), Catch::Contains("op 17"));
}

TEST_CASE("bytes that are no header are refused", "[nccl]") {
  const std::string bytes = EncodeCallHeader(Call(), 3, 3);
  CHECK_OK(DecodeCallHeader(bytes, 3));
  for (const size_t size : {size_t{0}, size_t{8}, bytes.size() - 1}) {
    CHECK_THAT(DecodeCallHeader(bytes.substr(0, size), 3),
               StatusIs(absl::StatusCode::kInvalidArgument));
  }
  // Of a group of another size.
  CHECK_THAT(DecodeCallHeader(bytes, 2),
             StatusIs(absl::StatusCode::kInvalidArgument));
  for (const size_t field :
       {offsetof(CallHeader, kind), offsetof(CallHeader, dtype),
        offsetof(CallHeader, reduce), offsetof(CallHeader, root),
        offsetof(CallHeader, description_bytes),
        offsetof(CallHeader, gapless)}) {
    std::string bent = bytes;
    bent[field + 3] = '\x7f';
    CAPTURE(field);
    CHECK_THAT(DecodeCallHeader(bent, 3),
               StatusIs(absl::StatusCode::kInvalidArgument));
  }
}

TEST_CASE("calls that differ anywhere are refused; two members are named",
          "[nccl]") {
  const CollectiveMembers members = Members(3);
  CHECK_OK(CompareCallHeaders(members, Sent({Call(), Call(), Call()}).Views()));
  struct Row {
    const char* what;
    void (*change)(CollectiveCall&);
  };
  const Row row = GENERATE(
      Row{"dtype", [](CollectiveCall& c) { c.dtype = DType::kI32; }},
      Row{"reduce", [](CollectiveCall& c) { c.reduce = ReduceOp::kAverage; }},
      Row{"fingerprint", [](CollectiveCall& c) { c.fingerprint = 78; }},
      Row{"description", [](CollectiveCall& c) { c.description = "op 18"; }},
      Row{"inputs", [](CollectiveCall& c) { c.inputs[1].elements = 3; }},
      Row{"outputs", [](CollectiveCall& c) { c.outputs[0].elements = 3; }});
  CAPTURE(row.what);
  CollectiveCall odd = Call();
  row.change(odd);
  CHECK_THAT(CompareCallHeaders(members, Sent({Call(), Call(), odd}).Views()),
             StatusIs(absl::StatusCode::kFailedPrecondition, "agent-2"));
}

TEST_CASE("pieces are even where sizes are equal and nothing lies between",
          "[nccl]") {
  CHECK(EvenPieces(Sent({Call(), Call(), Call()}).Views()));
  CollectiveCall gap = Call();
  gap.inputs[1].offset_bytes = 20;
  CHECK_FALSE(EvenPieces(Sent({Call(), gap, Call()}).Views()));
  CollectiveCall elsewhere = Call();
  elsewhere.inputs[1].memory = std::make_shared<testing::HeapMemory>(64);
  CHECK_FALSE(EvenPieces(Sent({Call(), elsewhere, Call()}).Views()));
  CollectiveCall uneven = Call();
  uneven.inputs[2].elements = 3;
  CHECK_FALSE(EvenPieces(Sent({uneven, uneven, uneven}).Views()));
}

JoinCard Card(const std::string& bus_id) {
  JoinCard card;
  card.version = 22809;
  card.bus_id = bus_id;
  return card;
}

TEST_CASE("a card comes out as it went in", "[nccl]") {
  JoinCard card = Card("0000:1b:00.0");
  card.host_id = "host";
  card.shares_device = true;
  card.refusal = "no\nNCCL" + std::string(10'000, '.');
  REQUIRE_OK_AND_ASSIGN(const JoinCard read, JoinCard::Decode(card.Encode()));
  CHECK(read.version == 22809);
  CHECK(read.host_id == "host");
  CHECK(read.bus_id == "0000:1b:00.0");
  CHECK(read.shares_device);
  CHECK(read.refusal.substr(0, 8) == "no NCCL.");
  CHECK(card.Encode().size() < 1000);
  CHECK_THAT(JoinCard::Decode(card.Encode() + "\nx"),
             StatusIs(absl::StatusCode::kInvalidArgument));
  CHECK_THAT(JoinCard::Decode(""),
             StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_CASE("cards of what NCCL would not take are refused", "[nccl]") {
  CollectiveMembers members = Members(2);
  CHECK_OK(CheckCards(members, {Card("a"), Card("b")}));
  CHECK_THAT(CheckCards(members, {Card("a"), Card("a")}),
             StatusIs(absl::StatusCode::kFailedPrecondition, "agent-1"));
  // Devices of two nodes have the same names.
  members.peers[1].node = "other";
  CHECK_OK(CheckCards(members, {Card("a"), Card("a")}));
  members.peers[1].node = "node";
  JoinCard elsewhere = Card("a");
  elsewhere.host_id = "made up";
  CHECK_OK(CheckCards(members, {Card("a"), elsewhere}));
  JoinCard older = Card("b");
  older.version = 22703;
  CHECK_THAT(CheckCards(members, {Card("a"), older}),
             StatusIs(absl::StatusCode::kFailedPrecondition, "2.27.3"));
  // Before all else: it has nothing else to tell.
  JoinCard refusing;
  refusing.refusal = "no NCCL here";
  CHECK_THAT(CheckCards(members, {Card("a"), refusing}),
             StatusIs(absl::StatusCode::kFailedPrecondition,
                      "\"agent-1\" (rank 1) cannot join: no NCCL here"));
}

}  // namespace
}  // namespace sluice::agent
