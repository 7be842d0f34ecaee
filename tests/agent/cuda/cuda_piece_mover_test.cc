// What the GPU's mover queues, and by which way bytes go.

#include "agent/cuda/cuda_piece_mover.h"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "agent/cuda/cuda_device.h"
#include "agent/device/host_device.h"
#include "agent/device/mapped_memory.h"
#include "agent/executor/piece_mover.h"
#include "agent/executor_interface.h"
#include "common/box.h"
#include "common/digest_value.h"
#include "common/dtype.h"
#include "tests/fakes/cuda/held_gpu.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent::cuda {
namespace {

using ::sluice::testing::StatusIs;

constexpr std::byte kUntouched{0xEE};

// A matrix of F32 in memory of the device, rows `pitch` elements apart; or its
// columns, of a transposed one.
struct Layout {
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t pitch = 0;
  bool transposed = false;

  int64_t bytes() const { return rows * cols * 4; }
  int64_t memory() const { return (transposed ? cols : rows) * pitch * 4; }
};

class Fixture {
 public:
  BoundPlace NewPlace(const Layout& layout) {
    BoundPlace place;
    place.memory = device_->Allocate(layout.memory(), "test").value();
    std::memset(place.memory->data(), static_cast<int>(kUntouched),
                static_cast<size_t>(layout.memory()));
    place.strides_bytes = {layout.pitch * 4, 4};
    if (layout.transposed)
      std::swap(place.strides_bytes[0], place.strides_bytes[1]);
    return place;
  }
  BoundPiece NewPiece(const Layout& layout) {
    BoundPiece piece;
    piece.tensor = "w";
    piece.dtype = DType::kF32;
    piece.shape = {layout.rows, layout.cols};
    piece.box = Box::Whole(piece.shape);
    piece.source = NewPlace(layout);
    std::byte* const data = piece.source->memory->data();
    for (int64_t i = 0; i < layout.memory(); ++i) {
      data[i] = static_cast<std::byte>(i * 37 + i / 251);
    }
    piece.destinations = {NewPlace(layout)};
    return piece;
  }
  std::byte* NewStaging(int64_t bytes) {
    return static_cast<std::byte*>(gpu.AllocatePinned(bytes).value());
  }

  HeldGpu gpu;

 private:
  std::unique_ptr<CudaDevice> device_ = CudaDevice::Open(&gpu, 0).value();

 public:
  CudaPieceMover mover{&gpu, 0, /*max_blocks=*/3};
};

PieceRange RangeOf(const BoundPiece& piece, int64_t lo, int64_t hi) {
  PieceRange range;
  range.piece = &piece;
  range.source = &*piece.source;
  range.destinations = piece.destinations;
  range.lo = lo;
  range.hi = hi;
  return range;
}

// The host's own mover reads the fake's memory as well.
std::vector<std::byte> PackedByHost(PieceRange range, Digest& digest) {
  std::vector<std::byte> out(static_cast<size_t>(range.hi - range.lo));
  range.digest = &digest;
  CHECK_OK(TheHostMover().Pack({&range, 1}, out.data()));
  return out;
}

std::vector<std::byte> BytesOf(const BoundPlace& place) {
  return {place.memory->data(), place.memory->data() + place.memory->size()};
}

struct Case {
  const char* what;
  Layout layout;
  int64_t cut;  // bytes left out at both ends
  bool engines;
};

const std::array<Case, 7>& Cases() {
  static const std::array<Case, 7> kCases = {{
      {"in one run", {64, 4096, 4096}, 0, true},
      {"a part of one run", {64, 4096, 4096}, 1002, true},
      {"long rows", {64, 4096, 5000}, 0, true},
      {"long rows, the ends within rows", {64, 4096, 5000}, 1002, true},
      {"short rows", {4096, 64, 70}, 0, false},
      {"little in one run", {16, 16, 16}, 0, false},
      {"transposed", {512, 512, 512, /*transposed=*/true}, 0, false},
  }};
  return kCases;
}

TEST_CASE("copy engines take long rows, kernels the rest", "[cuda_mover]") {
  const Case& c = Cases()[static_cast<size_t>(GENERATE(range(0, 7)))];
  CAPTURE(c.what);
  Fixture f;
  const BoundPiece piece = f.NewPiece(c.layout);
  PieceRange range = RangeOf(piece, c.cut, c.layout.bytes() - c.cut);
  Digest expected_digest;
  const std::vector<std::byte> expected = PackedByHost(range, expected_digest);
  std::byte* const packed = f.NewStaging(c.layout.bytes());

  Digest sent, landed, copied;
  range.digest = &sent;
  REQUIRE_OK(f.mover.Pack({&range, 1}, packed));
  CHECK((f.gpu.Count("CopyBoxes") == 0) == c.engines);
  CHECK(std::equal(expected.begin(), expected.end(), packed));
  CHECK(sent == expected_digest);

  f.gpu.Forget();
  range.digest = &landed;
  REQUIRE_OK(f.mover.Unpack({&range, 1}, packed));
  CHECK((f.gpu.Count("CopyBoxes") == 0) == c.engines);
  CHECK(landed == expected_digest);
  // What the host unpacks is all that may have been written.
  const std::vector<std::byte> unpacked = BytesOf(piece.destinations[0]);
  BoundPiece again = piece;
  again.destinations = {f.NewPlace(c.layout)};
  PieceRange host = RangeOf(again, range.lo, range.hi);
  REQUIRE_OK(TheHostMover().Unpack({&host, 1}, expected.data()));
  CHECK(unpacked == BytesOf(again.destinations[0]));

  f.gpu.Forget();
  again.destinations = {f.NewPlace(c.layout)};
  PieceRange copy = RangeOf(again, range.lo, range.hi);
  copy.digest = &copied;
  REQUIRE_OK(f.mover.Copy({&copy, 1}));
  // A place and its like, transposed both, are one run.
  const bool engines = c.engines || c.layout.transposed;
  CHECK((f.gpu.Count("CopyBoxes") == 0) == engines);
  CHECK(copied == expected_digest);
  CHECK(unpacked == BytesOf(again.destinations[0]));
  REQUIRE_OK(f.gpu.FreePinned(packed));
}

TEST_CASE("rows at a pitch are one call", "[cuda_mover]") {
  Fixture f;
  const BoundPiece piece = f.NewPiece({64, 4096, 5000});
  const PieceRange range = RangeOf(piece, 0, 64 * 4096 * 4);
  std::byte* const packed = f.NewStaging(range.hi);
  REQUIRE_OK(f.mover.Pack({&range, 1}, packed));
  REQUIRE(f.gpu.queued().size() == 1);
  CHECK(f.gpu.queued()[0].what == "CopyRows");
  REQUIRE_OK(f.gpu.FreePinned(packed));
}

TEST_CASE("a message for two places of the device crosses to it once",
          "[cuda_mover]") {
  Fixture f;
  const Layout layout{64, 4096, 4096};
  BoundPiece piece = f.NewPiece(layout);
  piece.destinations.push_back(f.NewPlace(layout));
  PieceRange range = RangeOf(piece, 0, layout.bytes());
  std::byte* const packed = f.NewStaging(layout.bytes());
  REQUIRE_OK(f.mover.Pack({&range, 1}, packed));
  f.gpu.Forget();
  REQUIRE_OK(f.mover.Unpack({&range, 1}, packed));
  // To the scratch, and from there to both.
  CHECK(f.gpu.Count("Copy") == 3);
  CHECK(BytesOf(piece.destinations[0]) == BytesOf(*piece.source));
  CHECK(BytesOf(piece.destinations[1]) == BytesOf(*piece.source));
  REQUIRE_OK(f.gpu.FreePinned(packed));
}

// Whether a movement was begun, and later how it ended.
struct Begun {
  std::promise<absl::Status> promise;
  std::future<absl::Status> ended = promise.get_future();

  PieceMover::Done Done() {
    return [this](absl::Status status) { promise.set_value(status); };
  }
  bool IsOver() const {
    return ended.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  }
};

TEST_CASE("messages are packed and unpacked side by side, none awaited",
          "[cuda_mover]") {
  Fixture f;
  const Layout layout{512, 512, 600};  // 1 MiB in short rows
  const BoundPiece outgoing = f.NewPiece(layout);
  const BoundPiece incoming = f.NewPiece(layout);
  const PieceRange out = RangeOf(outgoing, 0, layout.bytes());
  const PieceRange in = RangeOf(incoming, 0, layout.bytes());
  std::array<std::byte*, 3> messages;
  for (std::byte*& m : messages) m = f.NewStaging(layout.bytes());
  Digest digest;
  const std::vector<std::byte> expected = PackedByHost(out, digest);
  std::copy(expected.begin(), expected.end(), messages[2]);

  // Nothing that is queued ends before LetGo: calls that waited for it would
  // not return.
  f.gpu.Hold();
  std::array<Begun, 3> begun;
  f.mover.StartPack({&out, 1}, messages[0], begun[0].Done());
  f.mover.StartPack({&out, 1}, messages[1], begun[1].Done());
  f.mover.StartUnpack({&in, 1}, messages[2], begun[2].Done());
  const size_t streams = f.gpu.Streams();
  const size_t kernels = f.gpu.Count("CopyBoxes");
  const bool early =
      begun[0].IsOver() || begun[1].IsOver() || begun[2].IsOver();
  f.gpu.LetGo();
  for (Begun& one : begun) CHECK_OK(one.ended.get());
  CHECK(kernels == 3);
  CHECK(streams == 3);
  CHECK(!early);
  CHECK(std::equal(expected.begin(), expected.end(), messages[0]));
  CHECK(std::equal(expected.begin(), expected.end(), messages[1]));
  CHECK(BytesOf(incoming.destinations[0])[0] == expected[0]);
  for (std::byte* m : messages) REQUIRE_OK(f.gpu.FreePinned(m));
}

TEST_CASE("copies are begun side by side, none awaited", "[cuda_mover]") {
  Fixture f;
  const Layout layout{512, 512, 600};
  const BoundPiece inside = f.NewPiece(layout);
  BoundPiece leaving = f.NewPiece(layout);
  leaving.destinations[0].memory =
      HostDevice().Allocate(layout.memory(), "test").value();
  std::array<Digest, 2> digests;
  std::array<PieceRange, 2> ranges = {RangeOf(inside, 0, layout.bytes()),
                                      RangeOf(leaving, 0, layout.bytes())};
  for (size_t i = 0; i < 2; ++i) ranges[i].digest = &digests[i];

  f.gpu.Hold();
  auto in_place = f.mover.BeginCopy({&ranges[0], 1});
  auto by_bounce = f.mover.BeginCopy({&ranges[1], 1});
  const size_t streams = f.gpu.Streams();
  f.gpu.LetGo();
  CHECK(streams == 2);
  REQUIRE_OK(in_place.status());
  REQUIRE_OK(by_bounce.status());
  REQUIRE(*in_place != nullptr);
  REQUIRE(*by_bounce != nullptr);
  CHECK_OK((*by_bounce)->End());
  CHECK_OK((*in_place)->End());
  for (size_t i = 0; i < 2; ++i) {
    CAPTURE(i);
    Digest expected_digest, digest;
    const BoundPiece& piece = *ranges[i].piece;
    const std::vector<std::byte> expected =
        PackedByHost(RangeOf(piece, 0, layout.bytes()), expected_digest);
    PieceRange back = RangeOf(piece, 0, layout.bytes());
    back.source = &piece.destinations[0];
    CHECK(PackedByHost(back, digest) == expected);
    CHECK(digests[i] == expected_digest);
  }
}

TEST_CASE("a copy that nobody ends is waited for", "[cuda_mover]") {
  Fixture f;
  const Layout layout{512, 512, 600};
  const BoundPiece piece = f.NewPiece(layout);
  const PieceRange range = RangeOf(piece, 0, layout.bytes());
  REQUIRE_OK(f.mover.BeginCopy({&range, 1}).status());
  CHECK(BytesOf(piece.destinations[0])[0] == BytesOf(*piece.source)[0]);
  // Its workspace serves the next one.
  f.gpu.Forget();
  REQUIRE_OK(f.mover.Copy({&range, 1}));
  REQUIRE_OK(f.mover.Copy({&range, 1}));
  const size_t streams = f.gpu.Streams();
  CHECK(streams == 1);
}

TEST_CASE("what cannot be begun ends once, with the reason", "[cuda_mover]") {
  Fixture f;
  const Layout layout{64, 64, 64};
  BoundPiece piece = f.NewPiece(layout);
  piece.source->dtype = DType::kI64;
  piece.source->strides_bytes = {64 * 8, 8};
  piece.source->memory = f.NewPlace({64, 64, 128}).memory;
  const PieceRange range = RangeOf(piece, 0, layout.bytes());
  std::byte* const packed = f.NewStaging(layout.bytes());
  Begun begun;
  f.mover.StartPack({&range, 1}, packed, begun.Done());
  CHECK_THAT(begun.ended.get(), StatusIs(absl::StatusCode::kUnimplemented));

  // The next one is not harmed.
  const BoundPiece plain = f.NewPiece(layout);
  const PieceRange next = RangeOf(plain, 0, layout.bytes());
  Digest digest;
  Begun second;
  f.mover.StartPack({&next, 1}, packed, second.Done());
  CHECK_OK(second.ended.get());
  const std::vector<std::byte> expected = PackedByHost(next, digest);
  CHECK(std::equal(expected.begin(), expected.end(), packed));
  REQUIRE_OK(f.gpu.FreePinned(packed));
}

}  // namespace
}  // namespace sluice::agent::cuda
