#include "agent/plan_binder.h"

#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "agent/copy/box_copy.h"
#include "agent/device/host_device.h"
#include "agent/piece_match.h"
#include "common/layout.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::StatusIs;

constexpr Rank kSelf(0);
constexpr Rank kPeer(1);

// Memory for the placements of one agent.
class Memory {
 public:
  BufferId Add(int64_t bytes) {
    const BufferId id(next_++);
    HostDevice device;
    auto memory = device.Allocate(bytes, "test");
    REQUIRE_OK(memory);
    last_ = *memory;
    REQUIRE_OK(buffers.Add(id, *std::move(memory), "test"));
    return id;
  }
  std::byte* last_data() const { return last_->data(); }

  BufferRegistry buffers;

 private:
  uint64_t next_ = 1;
  std::shared_ptr<MappedMemory> last_;
};

// Two tensors that Megatron interleaves by KV group: query rows of 4 groups of
// 2 and key rows of 4 groups of 1, 3 columns each.
std::shared_ptr<const ModelSpec> QkModel() {
  auto model = std::make_shared<ModelSpec>();
  model->name = "m";
  model->tensors = {{"l.0.q", DType::kI32, {8, 3}},
                    {"l.0.k", DType::kI32, {4, 3}}};
  return model;
}

LayoutRule Rule(const std::string& pattern, int fuse_index,
                int64_t interleave) {
  LayoutRule rule;
  rule.pattern = pattern;
  rule.local_name = "qk";
  rule.fuse_index = fuse_index;
  rule.interleave = interleave;
  return rule;
}

// Everything on one agent; interleaved in groups, or one after the other.
std::shared_ptr<const RankLayout> QkLayout(const ModelSpec& model,
                                           int64_t interleave) {
  Layout layout;
  layout.name = "test";
  layout.rules = {Rule("l.{layer}.q", 0, interleave),
                  Rule("l.{layer}.k", 1, interleave)};
  Mesh mesh;
  mesh.axes = {{"tensor", 1}};
  mesh.ranks = {kSelf};
  auto expanded = ExpandLayout(model, layout, mesh, 0);
  REQUIRE_OK(expanded);
  return std::make_shared<RankLayout>(*std::move(expanded));
}

BoundPlacement Bound(std::shared_ptr<const ModelSpec> model,
                     std::shared_ptr<const RankLayout> layout, Memory& memory) {
  BoundPlacement out;
  out.ref = {"m", "p", 1};
  out.spec = std::move(model);
  out.buffer = memory.Add(layout->buffer_bytes + 64);
  out.layout = std::move(layout);
  out.offset_bytes = 64;
  return out;
}

Transfer ParamTransfer(uint32_t id, Rank source, Rank destination, Box box,
                       TensorRun run, int64_t bytes, DType wire = DType::kI32) {
  Transfer out;
  out.id = id;
  out.kind = TransferKind::kSendRecv;
  out.source = source;
  out.destination = destination;
  out.link =
      source == destination ? LinkClass::kSameDevice : LinkClass::kSameNode;
  out.bytes = bytes;
  out.wire_dtype = wire;
  out.params.box = std::move(box);
  out.params.tensors = {run};
  return out;
}

PrepareExecution Order(std::vector<Transfer> transfers) {
  PrepareExecution out;
  out.operation = OperationId(7);
  auto part = std::make_shared<PlanPart>();
  part->num_plan_transfers = 100;
  part->transfers = std::move(transfers);
  out.part = part;
  return out;
}

// Writes value(row, column) to every element of a tensor in a placement.
template <typename Value>
void Fill(const BoundPlacement& placement, std::byte* data, int32_t tensor,
          Value value) {
  for (const View& view : placement.layout->views) {
    if (view.tensor != TensorIndex(tensor)) continue;
    const LocalParam& param =
        placement.layout->params[static_cast<size_t>(view.param)];
    for (int64_t r = view.box.dim(0).lo; r < view.box.dim(0).hi; ++r) {
      for (int64_t c = view.box.dim(1).lo; c < view.box.dim(1).hi; ++c) {
        const int64_t element = view.offset +
                                (r - view.box.dim(0).lo) * view.strides[0] +
                                (c - view.box.dim(1).lo) * view.strides[1];
        const int32_t v = value(r, c);
        std::memcpy(
            data + placement.offset_bytes + param.offset_bytes + element * 4,
            &v, 4);
      }
    }
  }
}

int32_t At(const BoundPlace& place) {
  int32_t v;
  std::memcpy(&v, place.memory->data() + place.offset_bytes, 4);
  return v;
}

TEST_CASE("a box inside one view is one piece, at its place", "[agent]") {
  Memory memory;
  const auto model = QkModel();
  PrepareExecution order = Order({ParamTransfer(
      3, kSelf, kPeer, Box({{2, 5}, {1, 3}}), {0, 1, 1}, /*bytes=*/3 * 2 * 4)});
  order.source = Bound(model, QkLayout(*model, /*interleave=*/0), memory);
  Fill(*order.source, memory.last_data(), 0,
       [](int64_t r, int64_t c) { return static_cast<int32_t>(10 * r + c); });

  REQUIRE_OK_AND_ASSIGN(const ExecutionRequest request,
                        BindPlan(order, kSelf, memory.buffers));
  REQUIRE(request.transfers.size() == 1);
  REQUIRE(request.transfers[0].pieces.size() == 1);
  const BoundPiece& piece = request.transfers[0].pieces[0];
  CHECK(piece.tensor == "l.0.q");
  CHECK(piece.box == Box({{2, 5}, {1, 3}}));
  REQUIRE(piece.source.has_value());
  CHECK(At(*piece.source) == 21);  // row 2, column 1
  CHECK(piece.source->strides_bytes == std::vector<int64_t>{12, 4});
  CHECK(piece.destinations.empty());
  CHECK(request.num_plan_transfers == 100);
}

TEST_CASE("a box over interleaved views is cut between them, in stream order",
          "[agent]") {
  Memory memory;
  const auto model = QkModel();
  PrepareExecution order = Order({ParamTransfer(
      0, kSelf, kPeer, Box({{1, 8}, {0, 3}}), {0, 1, 1}, 7 * 3 * 4)});
  order.source = Bound(model, QkLayout(*model, /*interleave=*/4), memory);
  Fill(*order.source, memory.last_data(), 0,
       [](int64_t r, int64_t c) { return static_cast<int32_t>(10 * r + c); });

  REQUIRE_OK_AND_ASSIGN(const ExecutionRequest request,
                        BindPlan(order, kSelf, memory.buffers));
  // Groups of 2 query rows: [0,2) [2,4) [4,6) [6,8).
  std::vector<Interval> rows;
  for (const BoundPiece& piece : request.transfers[0].pieces) {
    rows.push_back(piece.box.dim(0));
    CHECK(piece.box.dim(1) == Interval{0, 3});
    CHECK(At(*piece.source) == 10 * piece.box.dim(0).lo);
  }
  CHECK(rows == std::vector<Interval>{{1, 2}, {2, 4}, {4, 6}, {6, 8}});
}

TEST_CASE("views that cut an inner dimension give one row per piece",
          "[agent]") {
  Memory memory;
  auto model = std::make_shared<ModelSpec>();
  model->tensors = {{"t", DType::kU8, {2, 4}}};
  auto layout = std::make_shared<RankLayout>();
  layout->params = {{"a", DType::kU8, {2, 2}, 0},
                    {"b", DType::kU8, {2, 2}, 256}};
  layout->views = {{TensorIndex(0), Box({{0, 2}, {0, 2}}), 0, 0, {2, 1}},
                   {TensorIndex(0), Box({{0, 2}, {2, 4}}), 1, 0, {2, 1}}};
  layout->buffer_bytes = 512;
  PrepareExecution order = Order({ParamTransfer(
      0, kSelf, kPeer, Box({{0, 2}, {0, 4}}), {0, 1, 1}, 8, DType::kU8)});
  order.source = Bound(model, layout, memory);
  REQUIRE_OK_AND_ASSIGN(const ExecutionRequest request,
                        BindPlan(order, kSelf, memory.buffers));
  std::vector<Box> boxes;
  for (const BoundPiece& piece : request.transfers[0].pieces) {
    boxes.push_back(piece.box);
  }
  // Row-major order of the whole box: row 0 left, row 0 right, row 1 ...
  CHECK(boxes == std::vector<Box>{Box({{0, 1}, {0, 2}}), Box({{0, 1}, {2, 4}}),
                                  Box({{1, 2}, {0, 2}}),
                                  Box({{1, 2}, {2, 4}})});
}

TEST_CASE("source and puller that cut differently copy every element",
          "[agent]") {
  Memory theirs, ours;
  const auto model = QkModel();
  const std::vector<Transfer> transfers = {
      ParamTransfer(0, kPeer, kSelf, Box({{0, 8}, {0, 3}}), {0, 1, 1}, 96),
      ParamTransfer(1, kPeer, kSelf, Box({{0, 4}, {0, 3}}), {1, 1, 1}, 48)};
  // The source interleaves in 4 groups, the puller in 2.
  PrepareExecution give = Order(transfers);
  give.source = Bound(model, QkLayout(*model, 4), theirs);
  PrepareExecution take = Order(transfers);
  take.destinations = {Bound(model, QkLayout(*model, 2), ours)};
  for (int32_t tensor : {0, 1}) {
    Fill(*give.source, theirs.last_data(), tensor, [&](int64_t r, int64_t c) {
      return static_cast<int32_t>(100 * (tensor + 1) + 10 * r + c);
    });
  }
  REQUIRE_OK_AND_ASSIGN(const ExecutionRequest source,
                        BindPlan(give, kPeer, theirs.buffers));
  REQUIRE_OK_AND_ASSIGN(const ExecutionRequest puller,
                        BindPlan(take, kSelf, ours.buffers));

  for (size_t t = 0; t < transfers.size(); ++t) {
    PeerTransferSource lent;
    for (const BoundPiece& piece : source.transfers[t].pieces) {
      lent.pieces.push_back(*piece.source);
      lent.boxes.push_back(piece.box);
    }
    REQUIRE_OK_AND_ASSIGN(const std::vector<MatchedPiece> matches,
                          MatchPieces(puller.transfers[t].pieces, lent));
    for (const MatchedPiece& match : matches) {
      const BoundPiece& piece = puller.transfers[t].pieces[match.piece];
      REQUIRE(match.destinations.size() == 1);
      const BoundPlace& to = match.destinations[0];
      REQUIRE_OK_AND_ASSIGN(
          const BoxCopy copy,
          BoxCopy::Create(
              piece.dtype, piece.shape, match.box,
              {match.source.offset_bytes, match.source.strides_bytes},
              {to.offset_bytes, to.strides_bytes}));
      CopyBox(copy, match.source.memory->data(), to.memory->data(),
              Stores::kCached, nullptr);
    }
  }
  // What a fill of the destination would have written is what arrived.
  const BoundPlacement& landed = *take.destinations[0];
  const std::vector<std::byte> arrived(
      ours.last_data(), ours.last_data() + landed.layout->buffer_bytes + 64);
  for (int32_t tensor : {0, 1}) {
    Fill(landed, ours.last_data(), tensor, [&](int64_t r, int64_t c) {
      return static_cast<int32_t>(100 * (tensor + 1) + 10 * r + c);
    });
  }
  CHECK(std::memcmp(arrived.data(), ours.last_data(), arrived.size()) == 0);
}

// Rows [0,2) of a 3 x 4 tensor alone, in one parameter of the type.
BoundPlacement TwoRows(std::shared_ptr<const ModelSpec> model, DType dtype,
                       Memory& memory) {
  auto layout = std::make_shared<RankLayout>();
  layout->params = {{"rows", dtype, {2, 4}, 0}};
  layout->views = {{TensorIndex(0), Box({{0, 2}, {0, 4}}), 0, 0, {4, 1}}};
  layout->buffer_bytes = 256;
  return Bound(std::move(model), std::move(layout), memory);
}

TEST_CASE("each side casts between what it holds and what crosses", "[agent]") {
  Memory memory;
  auto model = std::make_shared<ModelSpec>();
  model->tensors = {{"w", DType::kBF16, {3, 4}}};
  // Row 1, columns 1 and 2, as two BF16: from F32 to F64.
  PrepareExecution order =
      Order({ParamTransfer(0, kSelf, kSelf, Box({{1, 2}, {1, 3}}), {0, 1, 1},
                           /*bytes=*/4, DType::kBF16)});
  order.source = TwoRows(model, DType::kF32, memory);
  order.destinations = {TwoRows(model, DType::kF64, memory)};
  REQUIRE_OK_AND_ASSIGN(const ExecutionRequest request,
                        BindPlan(order, kSelf, memory.buffers));
  REQUIRE(request.transfers[0].pieces.size() == 1);
  const BoundPiece& piece = request.transfers[0].pieces[0];
  CHECK(piece.dtype == DType::kBF16);
  CHECK(request.transfers[0].bytes == 4);
  CHECK(piece.source->dtype == DType::kF32);
  // The buffer lies 64 bytes on; element 5 of the parameter.
  CHECK(piece.source->offset_bytes == 64 + 5 * 4);
  CHECK(piece.source->strides_bytes == std::vector<int64_t>{16, 4});
  CHECK(piece.destinations[0].dtype == DType::kF64);
  CHECK(piece.destinations[0].offset_bytes == 64 + 5 * 8);

  Transfer untyped = order.part->transfers[0];
  untyped.wire_dtype = DType::kUnspecified;
  PrepareExecution bad = Order({untyped});
  bad.source = order.source;
  bad.destinations = order.destinations;
  CHECK_THAT(BindPlan(bad, kSelf, memory.buffers),
             StatusIs(absl::StatusCode::kInvalidArgument, "element type"));
}

TEST_CASE("a local copy is cut along the views of both sides", "[agent]") {
  Memory memory;
  const auto model = QkModel();
  PrepareExecution order = Order(
      {ParamTransfer(0, kSelf, kSelf, Box({{0, 8}, {0, 3}}), {0, 1, 1}, 96)});
  order.source = Bound(model, QkLayout(*model, 4), memory);
  order.destinations = {Bound(model, QkLayout(*model, 0), memory)};
  REQUIRE_OK_AND_ASSIGN(const ExecutionRequest request,
                        BindPlan(order, kSelf, memory.buffers));
  CHECK(request.transfers[0].pieces.size() == 4);
  for (const BoundPiece& piece : request.transfers[0].pieces) {
    CHECK(piece.source.has_value());
    CHECK(piece.destinations.size() == 1);
  }
}

TEST_CASE("a relay reads the copy that the earlier transfer fills", "[agent]") {
  Memory memory;
  const auto model = QkModel();
  Transfer in =
      ParamTransfer(0, kPeer, kSelf, Box({{0, 4}, {0, 3}}), {0, 1, 1}, 48);
  Transfer out =
      ParamTransfer(1, kSelf, Rank(2), Box({{1, 3}, {0, 3}}), {0, 1, 1}, 24);
  out.round = 1;
  out.reads_after = 0;
  PrepareExecution order = Order({in, out});
  order.destinations = {std::nullopt,
                        Bound(model, QkLayout(*model, 0), memory)};
  const_cast<PlanPart&>(*order.part).transfers[0].destination_placement = 1;
  REQUIRE_OK_AND_ASSIGN(const ExecutionRequest request,
                        BindPlan(order, kSelf, memory.buffers));
  const BoundPlace& lands = request.transfers[0].pieces[0].destinations[0];
  const BoundPlace& read = *request.transfers[1].pieces[0].source;
  CHECK(read.memory == lands.memory);
  CHECK(read.offset_bytes == lands.offset_bytes + 12);  // one row further
  CHECK(request.transfers[1].reads_after == 0u);
}

TEST_CASE("samples are bound byte by byte; a repeated one lands elsewhere",
          "[agent]") {
  Memory memory;
  SampleEntry entry{"s1", "rewards", DType::kF32, {3}, {}};
  Transfer in;
  in.id = 0;
  in.source = kPeer;
  in.destination = kSelf;
  in.bytes = 12;
  in.samples = {0};
  Transfer out = in;
  out.id = 1;
  out.source = kSelf;
  out.destination = kPeer;
  PrepareExecution order = Order({in, out});
  const_cast<PlanPart&>(*order.part).entries = {entry};
  const BufferId held = memory.Add(4096);
  const BufferId spare = memory.Add(4096);
  order.samples = {{entry, held, 64}};
  order.landings = {SamplePlace{entry, spare, 128}};
  REQUIRE_OK_AND_ASSIGN(const ExecutionRequest request,
                        BindPlan(order, kSelf, memory.buffers));
  const BoundPiece& piece = request.transfers[0].pieces[0];
  CHECK(piece.tensor == "s1/rewards");
  CHECK(piece.dtype == DType::kU8);
  CHECK(piece.box == Box({{0, 12}}));
  CHECK(piece.destinations[0].offset_bytes == 128);
  CHECK(request.transfers[1].pieces[0].source->offset_bytes == 64);
}

TEST_CASE("what cannot be bound is refused, by name", "[agent]") {
  Memory memory;
  const auto model = QkModel();
  const auto bind = [&](Transfer transfer) {
    PrepareExecution order = Order({std::move(transfer)});
    order.source = Bound(model, QkLayout(*model, 0), memory);
    return BindPlan(order, kSelf, memory.buffers).status();
  };
  const Box all({{0, 8}, {0, 3}});
  using Code = absl::StatusCode;
  CHECK_THAT(bind(ParamTransfer(0, kSelf, kPeer, all, {0, 1, 1}, 95)),
             StatusIs(Code::kInvalidArgument, "95"));
  CHECK_THAT(bind(ParamTransfer(0, kSelf, kPeer, all, {0, 2, 1}, 192)),
             StatusIs(Code::kInvalidArgument, "l.0.k"));
  CHECK_THAT(bind(ParamTransfer(0, kSelf, kPeer, all, {0, 1 << 30, 1}, 96)),
             StatusIs(Code::kInvalidArgument, "tensors"));
  CHECK_THAT(bind(ParamTransfer(0, kPeer, Rank(2), all, {0, 1, 1}, 96)),
             StatusIs(Code::kInvalidArgument, "rank 0"));
  CHECK_THAT(bind(ParamTransfer(0, kPeer, kSelf, all, {0, 1, 1}, 96)),
             StatusIs(Code::kInvalidArgument, "destination placement"));
  CHECK_THAT(bind(ParamTransfer(100, kSelf, kPeer, all, {0, 1, 1}, 96)),
             StatusIs(Code::kInvalidArgument, "100"));
  Transfer relay = ParamTransfer(0, kSelf, kPeer, all, {0, 1, 1}, 96);
  relay.reads_after = 5;
  CHECK_THAT(bind(relay), StatusIs(Code::kInvalidArgument, "5"));
}

TEST_CASE("a box that is not held, or memory too small, is a precondition",
          "[agent]") {
  Memory memory;
  auto model = std::make_shared<ModelSpec>();
  model->tensors = {{"t", DType::kU8, {8}}};
  auto layout = std::make_shared<RankLayout>();
  layout->params = {{"a", DType::kU8, {4}, 0}};
  layout->views = {{TensorIndex(0), Box({{0, 4}}), 0, 0, {1}}};
  layout->buffer_bytes = 256;
  PrepareExecution order = Order({ParamTransfer(0, kSelf, kPeer, Box({{2, 6}}),
                                                {0, 1, 1}, 4, DType::kU8)});
  order.source = Bound(model, layout, memory);
  CHECK_THAT(BindPlan(order, kSelf, memory.buffers),
             StatusIs(absl::StatusCode::kFailedPrecondition, "[4,6)"));
  order.source->offset_bytes = 128;  // 256 bytes from there on; it has 320
  CHECK_THAT(BindPlan(order, kSelf, memory.buffers),
             StatusIs(absl::StatusCode::kFailedPrecondition, "256"));
  memory.buffers.Remove(order.source->buffer);
  CHECK_THAT(BindPlan(order, kSelf, memory.buffers),
             StatusIs(absl::StatusCode::kNotFound));
}

TEST_CASE("pieces that are no cuts of one stream do not match", "[agent]") {
  Memory memory;
  memory.Add(4096);
  HostDevice device;
  REQUIRE_OK_AND_ASSIGN(const auto data, device.Allocate(100, "source"));
  BoundPiece piece;
  piece.tensor = "t";
  piece.dtype = DType::kU8;
  piece.shape = {100};
  piece.box = Box({{0, 50}});
  piece.destinations = {{data, 0, {1}}};
  const auto match = [&](std::vector<Box> boxes, int64_t offset) {
    PeerTransferSource source;
    source.boxes = std::move(boxes);
    source.pieces.assign(source.boxes.size(), {data, offset, {1}});
    return MatchPieces({&piece, 1}, source).status();
  };
  CHECK_OK(match({Box({{0, 20}}), Box({{20, 50}})}, 0));
  CHECK_FALSE(match({Box({{0, 20}})}, 0).ok());
  CHECK_FALSE(match({Box({{0, 20}}), Box({{21, 50}})}, 0).ok());
  CHECK_FALSE(match({Box({{0, 50}}), Box({{50, 51}})}, 0).ok());
  CHECK_FALSE(match({Box({{0, 50}, {0, 1}})}, 0).ok());
  // The source's word is checked against its memory.
  CHECK_FALSE(match({Box({{0, 50}})}, 51).ok());
}

}  // namespace
}  // namespace sluice::agent
