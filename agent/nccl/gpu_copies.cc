#include "agent/nccl/gpu_copies.h"

#include <cstddef>
#include <cstring>
#include <deque>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "agent/cuda/box_list.h"
#include "agent/cuda/descriptors.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// A batch's memory grows in steps of so many descriptors.
constexpr size_t kBoxesPerStep = 256;

// A worker's, with the event behind which it may be touched.
class LentGpuMemory final : public MappedMemory {
 public:
  LentGpuMemory(std::shared_ptr<cuda::CudaMemory> memory,
                std::optional<cuda::CudaEvent> touched)
      : memory_(std::move(memory)), touched_(std::move(touched)) {}

  std::byte* data() const override { return memory_->data(); }
  int64_t size() const override { return memory_->size(); }
  absl::StatusOr<bool> IsHandedOver() override {
    if (!touched_.has_value()) return true;
    return touched_->IsDone();
  }

 private:
  const std::shared_ptr<cuda::CudaMemory> memory_;
  const std::optional<cuda::CudaEvent> touched_;
};

class GpuReduceCopies final : public ReduceCopies {
 public:
  static absl::StatusOr<std::unique_ptr<ReduceCopies>> Create(
      GpuSeat seat, Device& buckets, uint32_t max_blocks) {
    SLUICE_ASSIGN_OR_RETURN(auto stream,
                            cuda::CudaStream::Create(seat.runtime, seat.index));
    SLUICE_ASSIGN_OR_RETURN(
        auto ready, cuda::CudaEvent::Create(seat.runtime, seat.index,
                                            cuda::EventKind::kInterprocess));
    SLUICE_ASSIGN_OR_RETURN(const cuda::IpcHandle handle, ready.Export());
    return std::unique_ptr<ReduceCopies>(
        new GpuReduceCopies(seat, buckets, max_blocks, std::move(stream),
                            std::move(ready), handle));
  }

  ~GpuReduceCopies() override {
    const absl::Status drained = Drain();
    if (!drained.ok()) LogWarn("GPU copies not drained", {{"status", drained}});
    for (const Batch& batch : batches_) {
      const absl::Status freed = seat_.runtime.FreePinned(batch.boxes);
      if (!freed.ok()) LogWarn("pinned memory not freed", {{"status", freed}});
    }
  }

  Device& device() override { return buckets_; }
  absl::string_view space() const override { return "GPU memory"; }
  std::string ready_handle() const override {
    return std::string(handle_.begin(), handle_.end());
  }

  absl::Status Copy(std::byte* to, const std::byte* from,
                    int64_t bytes) override {
    const int64_t stride = 1;
    cuda::BoxPlace place;
    place.extents = absl::MakeConstSpan(&bytes, 1);
    place.src = reinterpret_cast<uintptr_t>(from);
    place.dst = reinterpret_cast<uintptr_t>(to);
    place.src_strides = place.dst_strides = absl::MakeConstSpan(&stride, 1);
    return Note([&] { return waiting_->Add(place, /*element=*/1); });
  }

  absl::StatusOr<std::shared_ptr<void>> SendOff() override {
    std::shared_ptr<cuda::CudaEvent> event;
    SLUICE_RETURN_IF_ERROR(Note([&]() -> absl::Status {
      SLUICE_RETURN_IF_ERROR(Launch());
      SLUICE_ASSIGN_OR_RETURN(auto made, NewEvent());
      event = std::make_shared<cuda::CudaEvent>(std::move(made));
      return event->Record(stream_);
    }));
    void* const handle = event->get();
    return std::shared_ptr<void>(std::move(event), handle);
  }

  absl::Status Deliver() override {
    return Note([&]() -> absl::Status {
      SLUICE_RETURN_IF_ERROR(Launch());
      return ready_.Record(stream_);
    });
  }

  absl::Status Drain() override {
    waiting_.emplace(cuda::BoxList::ForCopies());
    SLUICE_RETURN_IF_ERROR(seat_.runtime.Use(seat_.index));
    return seat_.runtime.Synchronize(stream_.get());
  }

 private:
  // Descriptors of a launch, which read them until `done`.
  struct Batch {
    cuda::BoxDescriptor* boxes = nullptr;
    size_t room = 0;
    cuda::CudaEvent done;
  };

  GpuReduceCopies(GpuSeat seat, Device& buckets, uint32_t max_blocks,
                  cuda::CudaStream stream, cuda::CudaEvent ready,
                  const cuda::IpcHandle& handle)
      : seat_(seat),
        buckets_(buckets),
        max_blocks_(max_blocks),
        stream_(std::move(stream)),
        ready_(std::move(ready)),
        handle_(handle),
        waiting_(cuda::BoxList::ForCopies()) {}

  // After a failure nothing is begun any more: what waits may name memory that
  // is let go of.
  template <typename Work>
  absl::Status Note(const Work& work) {
    if (failure_.ok()) failure_ = seat_.runtime.Use(seat_.index);
    if (failure_.ok()) failure_ = work();
    return failure_;
  }

  absl::StatusOr<cuda::CudaEvent> NewEvent() {
    return cuda::CudaEvent::Create(seat_.runtime, seat_.index,
                                   cuda::EventKind::kPlain);
  }

  // Queues all copies that wait, as one launch.
  absl::Status Launch() {
    const std::vector<cuda::BoxDescriptor>& boxes = waiting_->boxes();
    if (boxes.empty()) return absl::OkStatus();
    SLUICE_RETURN_IF_ERROR(TakeBatch(boxes.size()));
    Batch& batch = batches_.back();
    std::memcpy(batch.boxes, boxes.data(), boxes.size() * sizeof boxes[0]);
    SLUICE_RETURN_IF_ERROR(seat_.runtime.CopyBoxes(waiting_->Batch(batch.boxes),
                                                   max_blocks_, stream_.get()));
    waiting_.emplace(cuda::BoxList::ForCopies());
    return batch.done.Record(stream_);
  }

  // Makes one that nobody reads, with room for so many boxes, the last.
  absl::Status TakeBatch(size_t boxes) {
    if (!batches_.empty() && batches_.front().room >= boxes) {
      SLUICE_ASSIGN_OR_RETURN(const bool done, batches_.front().done.IsDone());
      if (done) {
        batches_.push_back(std::move(batches_.front()));
        batches_.pop_front();
        return absl::OkStatus();
      }
    }
    const size_t room =
        (boxes + kBoxesPerStep - 1) / kBoxesPerStep * kBoxesPerStep;
    SLUICE_ASSIGN_OR_RETURN(auto done, NewEvent());
    SLUICE_ASSIGN_OR_RETURN(void* const memory,
                            seat_.runtime.AllocatePinned(static_cast<int64_t>(
                                room * sizeof(cuda::BoxDescriptor))));
    batches_.push_back(
        {static_cast<cuda::BoxDescriptor*>(memory), room, std::move(done)});
    return absl::OkStatus();
  }

  const GpuSeat seat_;
  Device& buckets_;
  const uint32_t max_blocks_;
  const cuda::CudaStream stream_;
  const cuda::CudaEvent ready_;
  const cuda::IpcHandle handle_;
  absl::Status failure_;
  // Always there; made anew, because a list cannot be emptied.
  std::optional<cuda::BoxList> waiting_;
  std::deque<Batch> batches_;  // the oldest first
};

}  // namespace

absl::StatusOr<std::shared_ptr<MappedMemory>> AdoptGpuMemory(
    GpuSeat seat, const GpuMemoryOffer& offer) {
  const std::string& own = seat.device.info().pci_bus_id;
  if (!offer.bus_id.empty() && offer.bus_id != own) {
    return absl::InvalidArgumentError(absl::StrCat(
        "lent memory lies on GPU ", offer.bus_id, ": this agent serves GPU ",
        own, "; attach to the agent of the worker's own GPU"));
  }
  SLUICE_ASSIGN_OR_RETURN(auto memory, seat.device.AdoptRange(offer.range));
  std::optional<cuda::CudaEvent> touched;
  if (offer.event.has_value()) {
    absl::StatusOr<cuda::CudaEvent> event =
        cuda::CudaEvent::Import(seat.runtime, seat.index, *offer.event);
    if (!event.ok()) return Annotate(event.status(), "event of lent memory");
    touched.emplace(*std::move(event));
  }
  return std::make_shared<LentGpuMemory>(std::move(memory), std::move(touched));
}

absl::StatusOr<std::unique_ptr<ReduceCopies>> MakeGpuReduceCopies(
    GpuSeat seat, Device& buckets, uint32_t max_blocks) {
  return GpuReduceCopies::Create(seat, buckets, max_blocks);
}

}  // namespace sluice::agent
