#include "agent/cuda/device_packer.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "agent/cuda/cuda_device.h"
#include "agent/cuda/cuda_piece_mover.h"
#include "agent/cuda/handles.h"
#include "agent/device/device.h"
#include "agent/device/host_device.h"
#include "agent/device/mapped_memory.h"
#include "agent/executor/piece_mover.h"
#include "agent/executor_interface.h"
#include "common/box.h"
#include "common/digest_value.h"
#include "common/dtype.h"
#include "tests/fakes/cuda/process_gpu.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent::cuda {
namespace {

constexpr int64_t kBytes = 5000;  // of a piece
constexpr int kPieces = 4;

// Pieces in turn in memory of the GPU and of the host.
struct Rig {
  Rig() {
    for (int i = 0; i < kPieces; ++i) {
      BoundPiece piece;
      piece.tensor = "w";
      piece.dtype = DType::kU8;
      piece.shape = {kBytes};
      piece.box = Box::Whole({kBytes});
      piece.source = Place(i % 2 == 0);
      // To the GPU, to the host, and to both.
      if (i != 1) piece.destinations.push_back(Place(true));
      if (i != 2) piece.destinations.push_back(Place(false));
      Write(*piece.source, static_cast<uint8_t>(i + 1));
      pieces.push_back(std::move(piece));
    }
  }

  BoundPlace Place(bool on_device) {
    Device& from =
        on_device ? static_cast<Device&>(*device) : static_cast<Device&>(host);
    return {from.Allocate(kBytes, "piece").value(), 0, {1}};
  }
  // Byte j of piece i is i * 50 + j, in a byte.
  static std::vector<std::byte> Content(uint8_t piece) {
    std::vector<std::byte> content(kBytes);
    for (size_t j = 0; j < content.size(); ++j) {
      content[j] = static_cast<std::byte>(piece * 50 + j);
    }
    return content;
  }
  void Copy(void* to, const void* from) {
    auto stream = CudaStream::Create(runtime, 0).value();
    CHECK_OK(runtime.Copy(to, from, kBytes, stream.get()));
    CHECK_OK(runtime.Synchronize(stream.get()));
  }
  void Write(const BoundPlace& place, uint8_t piece) {
    const auto content = Content(piece);
    Copy(place.memory->data(), content.data());
  }
  std::vector<std::byte> Read(const void* from) {
    std::vector<std::byte> content(kBytes);
    Copy(content.data(), from);
    return content;
  }

  std::vector<PieceRange> Ranges(std::vector<Digest>* digests) {
    digests->assign(kPieces, Digest{});
    std::vector<PieceRange> ranges;
    for (size_t i = 0; i < pieces.size(); ++i) {
      ranges.push_back({&pieces[i], &*pieces[i].source, pieces[i].destinations,
                        0, kBytes, static_cast<int64_t>(i) * kBytes,
                        &(*digests)[i]});
    }
    return ranges;
  }

  ProcessGpuRuntime runtime;
  HostDevice host;
  std::unique_ptr<CudaDevice> device = CudaDevice::Open(&runtime, 0).value();
  CudaPieceMover mover{&runtime, 0, /*max_blocks=*/3};
  DevicePacker packer{mover, runtime, 0};
  std::vector<BoundPiece> pieces;
};

TEST_CASE("messages in memory of the GPU are packed from and to any memory",
          "[device_packer]") {
  Rig rig;
  std::byte* const packed = rig.packer.AllocateStaging(kPieces * kBytes);
  REQUIRE(packed != nullptr);
  REQUIRE_OK_AND_ASSIGN(const MemoryBounds bounds,
                        rig.runtime.BoundsOf(packed));
  CHECK(bounds.base == packed);
  std::vector<Digest> sent, received;
  REQUIRE_OK(rig.packer.Pack(rig.Ranges(&sent), packed));
  for (int i = 0; i < kPieces; ++i) {
    CAPTURE(i);
    const auto content = Rig::Content(static_cast<uint8_t>(i + 1));
    CHECK(rig.Read(packed + i * kBytes) == content);
  }
  REQUIRE_OK(rig.packer.Unpack(rig.Ranges(&received), packed));
  for (size_t i = 0; i < rig.pieces.size(); ++i) {
    CAPTURE(i);
    const auto content = Rig::Content(static_cast<uint8_t>(i + 1));
    for (const BoundPlace& place : rig.pieces[i].destinations) {
      CHECK(rig.Read(place.memory->data()) == content);
    }
    CHECK(sent[i] == received[i]);
    CHECK_FALSE(sent[i] == Digest{});
  }
  rig.packer.FreeStaging(packed);
}

}  // namespace
}  // namespace sluice::agent::cuda
