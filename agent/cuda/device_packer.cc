#include "agent/cuda/device_packer.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "agent/cuda/handles.h"
#include "agent/cuda/piece_ranges.h"
#include "agent/cuda/workspace.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace sluice::agent::cuda {
namespace {

bool FromDevice(const PieceRange& range) { return OnDevice(*range.source); }

bool ToDevice(const PieceRange& range) {
  return std::all_of(range.destinations.begin(), range.destinations.end(),
                     OnDevice);
}

// The same ranges, packed from the start of a buffer of their own.
std::vector<PieceRange> FromStart(absl::Span<const PieceRange> ranges) {
  std::vector<PieceRange> moved(ranges.begin(), ranges.end());
  for (PieceRange& range : moved) range.packed -= ranges.front().packed;
  return moved;
}

}  // namespace

absl::Status DevicePacker::Pass(std::byte* to, const std::byte* from,
                                int64_t bytes) {
  SLUICE_ASSIGN_OR_RETURN(const CudaStream stream,
                          CudaStream::Create(runtime_, device_));
  SLUICE_RETURN_IF_ERROR(runtime_.Copy(to, from, bytes, stream.get()));
  return runtime_.Synchronize(stream.get());
}

absl::Status DevicePacker::Pack(absl::Span<const PieceRange> ranges,
                                std::byte* packed) {
  return ForRuns(
      ranges, FromDevice,
      [&](absl::Span<const PieceRange> run, bool direct) -> absl::Status {
        // Its copy to `packed` takes any memory.
        if (direct) return mover_.Pack(run, packed);
        SLUICE_RETURN_IF_ERROR(runtime_.Use(device_));
        SLUICE_ASSIGN_OR_RETURN(
            const PinnedBuffer bounce,
            PinnedBuffer::Create(runtime_, device_, PackedBytes(run)));
        SLUICE_RETURN_IF_ERROR(mover_.Pack(FromStart(run), bounce.data()));
        return Pass(packed + run.front().packed, bounce.data(),
                    PackedBytes(run));
      });
}

absl::Status DevicePacker::Unpack(absl::Span<const PieceRange> ranges,
                                  const std::byte* packed) {
  return ForRuns(
      ranges, ToDevice,
      [&](absl::Span<const PieceRange> run, bool direct) -> absl::Status {
        if (direct) return mover_.Unpack(run, packed);
        SLUICE_RETURN_IF_ERROR(runtime_.Use(device_));
        SLUICE_ASSIGN_OR_RETURN(
            const PinnedBuffer bounce,
            PinnedBuffer::Create(runtime_, device_, PackedBytes(run)));
        SLUICE_RETURN_IF_ERROR(
            Pass(bounce.data(), packed + run.front().packed, PackedBytes(run)));
        return mover_.Unpack(FromStart(run), bounce.data());
      });
}

void DevicePacker::StartPack(absl::Span<const PieceRange> ranges,
                             std::byte* packed, Done done) {
  if (std::all_of(ranges.begin(), ranges.end(), FromDevice)) {
    mover_.StartPack(ranges, packed, std::move(done));
  } else {
    std::move(done)(Pack(ranges, packed));
  }
}

void DevicePacker::StartUnpack(absl::Span<const PieceRange> ranges,
                               const std::byte* packed, Done done) {
  if (std::all_of(ranges.begin(), ranges.end(), ToDevice)) {
    mover_.StartUnpack(ranges, packed, std::move(done));
  } else {
    std::move(done)(Unpack(ranges, packed));
  }
}

std::byte* DevicePacker::AllocateStaging(int64_t bytes) {
  if (!runtime_.Use(device_).ok()) return nullptr;
  const absl::StatusOr<void*> memory = runtime_.Allocate(bytes);
  if (memory.ok()) return static_cast<std::byte*>(*memory);
  LogWarn("no memory of the GPU for messages", {{"status", memory.status()}});
  return nullptr;
}

void DevicePacker::FreeStaging(std::byte* memory) {
  absl::Status freed = runtime_.Use(device_);
  if (freed.ok()) freed = runtime_.Free(memory);
  if (!freed.ok()) {
    LogWarn("memory of messages not freed", {{"status", freed}});
  }
}

}  // namespace sluice::agent::cuda
