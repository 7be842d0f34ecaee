#include "agent/cuda/cuda_piece_mover.h"

#include <utility>

#include "agent/cuda/piece_ranges.h"
#include "agent/device/mapped_memory.h"
#include "agent/executor_interface.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace sluice::agent::cuda {
namespace {

// How a range is moved.
enum class Way {
  kHost,    // the GPU has no part in it
  kDevice,  // the GPU reaches all its places
  kBounce,  // through pinned memory
};

MemorySpace SpaceOf(const BoundPlace& place) { return place.memory->space(); }

bool AnyOnDevice(absl::Span<const BoundPlace> places) {
  for (const BoundPlace& place : places) {
    if (OnDevice(place)) return true;
  }
  return false;
}

Way WayOfCopy(const PieceRange& range) {
  if (!OnDevice(*range.source) && !AnyOnDevice(range.destinations)) {
    return Way::kHost;
  }
  bool host = SpaceOf(*range.source) == MemorySpace::kHost;
  for (const BoundPlace& place : range.destinations) {
    host |= SpaceOf(place) == MemorySpace::kHost;
  }
  return host ? Way::kBounce : Way::kDevice;
}

Way WayOfSource(const PieceRange& range) {
  return OnDevice(*range.source) ? Way::kDevice : Way::kHost;
}

Way WayOfDestinations(const PieceRange& range) {
  return AnyOnDevice(range.destinations) ? Way::kDevice : Way::kHost;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Workspace>> CudaPieceMover::Take() {
  {
    MutexLock lock(mutex_);
    if (!free_.empty()) {
      std::unique_ptr<Workspace> workspace = std::move(free_.back());
      free_.pop_back();
      return workspace;
    }
  }
  uint32_t blocks = max_blocks_;
  if (blocks == 0) {
    SLUICE_ASSIGN_OR_RETURN(const DeviceInfo info, runtime_->Describe(device_));
    blocks = static_cast<uint32_t>(info.multiprocessors);
  }
  SLUICE_ASSIGN_OR_RETURN(Workspace workspace,
                          Workspace::Create(*runtime_, device_, blocks));
  return std::make_unique<Workspace>(std::move(workspace));
}

void CudaPieceMover::Return(std::unique_ptr<Workspace> workspace) {
  MutexLock lock(mutex_);
  free_.push_back(std::move(workspace));
}

template <typename Queue>
absl::Status CudaPieceMover::Run(const Queue& queue) {
  SLUICE_ASSIGN_OR_RETURN(std::unique_ptr<PieceCall> call, Begin(queue));
  return End(std::move(call));
}

template <typename Queue>
absl::StatusOr<std::unique_ptr<PieceCall>> CudaPieceMover::Begin(
    const Queue& queue) {
  SLUICE_RETURN_IF_ERROR(runtime_->Use(device_));
  SLUICE_ASSIGN_OR_RETURN(std::unique_ptr<Workspace> workspace, Take());
  auto call = std::make_unique<PieceCall>(*runtime_, std::move(workspace));
  const absl::Status queued = queue(*call);
  if (queued.ok()) return call;
  call->workspace().Settle();
  Return(call->TakeWorkspace());
  return queued;
}

absl::Status CudaPieceMover::End(std::unique_ptr<PieceCall> call) {
  if (call == nullptr) return absl::OkStatus();
  const absl::Status status = call->Finish();
  if (!status.ok()) call->workspace().Settle();
  Return(call->TakeWorkspace());
  return status;
}

absl::Status CudaPieceMover::BeginPack(absl::Span<const PieceRange> ranges,
                                       std::byte* packed,
                                       std::unique_ptr<PieceCall>& last) {
  return ForRuns(
      ranges, WayOfSource,
      [&](absl::Span<const PieceRange> part, Way way) -> absl::Status {
        if (way == Way::kHost) return host_.Pack(part, packed);
        SLUICE_RETURN_IF_ERROR(End(std::move(last)));
        SLUICE_ASSIGN_OR_RETURN(last, Begin([&](PieceCall& call) {
                                  return call.Pack(part, packed);
                                }));
        return absl::OkStatus();
      });
}

absl::Status CudaPieceMover::BeginUnpack(absl::Span<const PieceRange> ranges,
                                         const std::byte* packed,
                                         std::unique_ptr<PieceCall>& last) {
  return ForRuns(
      ranges, WayOfDestinations,
      [&](absl::Span<const PieceRange> part, Way way) -> absl::Status {
        if (way == Way::kHost) return host_.Unpack(part, packed);
        // Copies of theirs that the host has; digests are the device's.
        for (PieceRange range : part) {
          range.digest = nullptr;
          const absl::Span<const BoundPlace> places = range.destinations;
          for (size_t i = 0; i < places.size(); ++i) {
            if (OnDevice(places[i])) continue;
            range.destinations = places.subspan(i, 1);
            SLUICE_RETURN_IF_ERROR(host_.Unpack({&range, 1}, packed));
          }
        }
        SLUICE_RETURN_IF_ERROR(End(std::move(last)));
        SLUICE_ASSIGN_OR_RETURN(last, Begin([&](PieceCall& call) {
                                  return call.Unpack(part, packed);
                                }));
        return absl::OkStatus();
      });
}

absl::Status CudaPieceMover::EndAfter(absl::Status begun,
                                      std::unique_ptr<PieceCall> last) {
  absl::Status ended = End(std::move(last));
  return begun.ok() ? ended : begun;
}

absl::Status CudaPieceMover::Pack(absl::Span<const PieceRange> ranges,
                                  std::byte* packed) {
  std::unique_ptr<PieceCall> last;
  absl::Status begun = BeginPack(ranges, packed, last);
  return EndAfter(std::move(begun), std::move(last));
}

absl::Status CudaPieceMover::Unpack(absl::Span<const PieceRange> ranges,
                                    const std::byte* packed) {
  std::unique_ptr<PieceCall> last;
  absl::Status begun = BeginUnpack(ranges, packed, last);
  return EndAfter(std::move(begun), std::move(last));
}

void CudaPieceMover::EndLater(absl::Status begun,
                              std::unique_ptr<PieceCall> last, ThreadPool& lane,
                              Done done) {
  if (!begun.ok() || last == nullptr) {
    std::move(done)(EndAfter(std::move(begun), std::move(last)));
    return;
  }
  lane.Post([this, last = std::move(last), done = std::move(done)]() mutable {
    absl::Status ended = runtime_->Use(device_);
    absl::Status moved = End(std::move(last));
    std::move(done)(ended.ok() ? std::move(moved) : std::move(ended));
  });
}

void CudaPieceMover::StartPack(absl::Span<const PieceRange> ranges,
                               std::byte* packed, Done done) {
  std::unique_ptr<PieceCall> last;
  absl::Status begun = BeginPack(ranges, packed, last);
  EndLater(std::move(begun), std::move(last), packs_, std::move(done));
}

void CudaPieceMover::StartUnpack(absl::Span<const PieceRange> ranges,
                                 const std::byte* packed, Done done) {
  std::unique_ptr<PieceCall> last;
  absl::Status begun = BeginUnpack(ranges, packed, last);
  EndLater(std::move(begun), std::move(last), unpacks_, std::move(done));
}

// What of a copy is queued, one run of ranges at a time.
class CudaPieceMover::CopyUnderWay final : public PieceMover::Copying {
 public:
  explicit CopyUnderWay(CudaPieceMover& mover) : mover_(mover) {}
  ~CopyUnderWay() override { End().IgnoreError(); }

  // Queues; what was queued before is over.
  absl::Status BeginInPlace(absl::Span<const PieceRange> ranges) {
    SLUICE_ASSIGN_OR_RETURN(last_, mover_.Begin([&](PieceCall& call) {
      return call.Copy(ranges);
    }));
    return absl::OkStatus();
  }
  absl::Status BeginByBounce(absl::Span<const PieceRange> ranges) {
    SLUICE_RETURN_IF_ERROR(mover_.runtime_->Use(mover_.device_));
    SLUICE_ASSIGN_OR_RETURN(bounce_, mover_.Take());
    SLUICE_ASSIGN_OR_RETURN(packed_, bounce_->Bounce(PackedBytes(ranges)));
    std::vector<PieceRange> parts(ranges.begin(), ranges.end());
    for (PieceRange& range : parts) range.packed -= ranges[0].packed;
    SLUICE_RETURN_IF_ERROR(mover_.BeginPack(parts, packed_, last_));
    for (PieceRange& range : parts) range.digest = nullptr;
    to_unpack_ = std::move(parts);
    return last_ == nullptr ? BeginUnpack() : absl::OkStatus();
  }
  bool over() const { return last_ == nullptr && to_unpack_.empty(); }

  absl::Status End() override {
    absl::Status status = mover_.End(std::move(last_));
    if (status.ok() && !to_unpack_.empty()) {
      status = mover_.EndAfter(BeginUnpack(), std::move(last_));
    }
    to_unpack_.clear();
    if (bounce_ != nullptr) mover_.Return(std::move(bounce_));
    return status;
  }

 private:
  absl::Status BeginUnpack() {
    const std::vector<PieceRange> parts = std::exchange(to_unpack_, {});
    return mover_.BeginUnpack(parts, packed_, last_);
  }

  CudaPieceMover& mover_;
  std::unique_ptr<PieceCall> last_;
  // Of a copy by way of pinned memory: that, and what is still to leave it.
  std::unique_ptr<Workspace> bounce_;
  std::byte* packed_ = nullptr;
  std::vector<PieceRange> to_unpack_;
};

absl::StatusOr<std::unique_ptr<PieceMover::Copying>> CudaPieceMover::BeginCopy(
    absl::Span<const PieceRange> ranges) {
  auto copying = std::make_unique<CopyUnderWay>(*this);
  SLUICE_RETURN_IF_ERROR(
      ForRuns(ranges, WayOfCopy,
              [&](absl::Span<const PieceRange> part, Way way) -> absl::Status {
                if (way == Way::kHost) return host_.Copy(part);
                SLUICE_RETURN_IF_ERROR(copying->End());
                return way == Way::kBounce ? copying->BeginByBounce(part)
                                           : copying->BeginInPlace(part);
              }));
  if (copying->over()) {
    SLUICE_RETURN_IF_ERROR(copying->End());
    return nullptr;
  }
  return copying;
}

absl::Status CudaPieceMover::Copy(absl::Span<const PieceRange> ranges) {
  SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<Copying> copying,
                          BeginCopy(ranges));
  return copying == nullptr ? absl::OkStatus() : copying->End();
}

absl::Status CudaPieceMover::DigestOf(absl::Span<const PieceRange> ranges) {
  return ForRuns(
      ranges, WayOfSource, [&](absl::Span<const PieceRange> part, Way way) {
        if (way == Way::kHost) return host_.DigestOf(part);
        return Run([&](PieceCall& call) { return call.DigestOf(part); });
      });
}

std::byte* CudaPieceMover::AllocateStaging(int64_t bytes) {
  if (!runtime_->Use(device_).ok()) return nullptr;
  const absl::StatusOr<void*> memory = runtime_->AllocatePinned(bytes);
  if (memory.ok()) return static_cast<std::byte*>(*memory);
  LogWarn("staging memory is not pinned", {{"status", memory.status()}});
  return nullptr;
}

void CudaPieceMover::FreeStaging(std::byte* memory) {
  absl::Status freed = runtime_->Use(device_);
  freed.Update(runtime_->FreePinned(memory));
  if (!freed.ok()) LogWarn("staging memory not freed", {{"status", freed}});
}

}  // namespace sluice::agent::cuda
