#include "agent/cuda/workspace.h"

#include <algorithm>
#include <cstring>

#include "common/logging.h"
#include "common/status_macros.h"

namespace sluice::agent::cuda {
namespace {

constexpr int64_t kLeastBytes = 64 << 10;

// Makes room in a buffer; what it held is lost.
template <typename Buffer>
absl::Status Grow(CudaRuntime& runtime, int device, int64_t bytes,
                  std::optional<Buffer>& buffer) {
  if (buffer.has_value() && buffer->size() >= bytes) return absl::OkStatus();
  int64_t size = kLeastBytes;
  while (size < bytes) size *= 2;
  buffer.reset();
  SLUICE_ASSIGN_OR_RETURN(buffer, Buffer::Create(runtime, device, size));
  return absl::OkStatus();
}

template <typename Visit>
void ForLists(const BoxStage& stage, const Visit& visit) {
  visit(stage.copies);
  for (const auto& [types, list] : stage.casts) visit(list);
  visit(stage.digests);
}

}  // namespace

absl::StatusOr<PinnedBuffer> PinnedBuffer::Create(CudaRuntime& runtime,
                                                  int device, int64_t bytes) {
  SLUICE_RETURN_IF_ERROR(runtime.Use(device));
  SLUICE_ASSIGN_OR_RETURN(void* data, runtime.AllocatePinned(bytes));
  return PinnedBuffer(runtime, device, data, bytes);
}

PinnedBuffer& PinnedBuffer::operator=(PinnedBuffer&& other) noexcept {
  if (this != &other) {
    Reset();
    runtime_ = std::exchange(other.runtime_, nullptr);
    device_ = other.device_;
    data_ = other.data_;
    size_ = other.size_;
  }
  return *this;
}

void PinnedBuffer::Reset() {
  if (runtime_ == nullptr) return;
  absl::Status freed = runtime_->Use(device_);
  freed.Update(runtime_->FreePinned(data_));
  if (!freed.ok()) LogWarn("pinned memory not freed", {{"status", freed}});
  runtime_ = nullptr;
}

absl::StatusOr<Workspace> Workspace::Create(CudaRuntime& runtime, int device,
                                            uint32_t max_blocks) {
  SLUICE_ASSIGN_OR_RETURN(CudaStream stream,
                          CudaStream::Create(runtime, device));
  return Workspace(runtime, device, max_blocks, std::move(stream));
}

absl::StatusOr<uint64_t> Workspace::Scratch(int64_t bytes) {
  SLUICE_RETURN_IF_ERROR(Grow(*runtime_, device_, bytes, scratch_));
  return scratch_->address();
}

absl::StatusOr<std::byte*> Workspace::Bounce(int64_t bytes) {
  SLUICE_RETURN_IF_ERROR(Grow(*runtime_, device_, bytes, bounce_));
  return bounce_->data();
}

absl::Status Workspace::Upload(const std::vector<BoxStage>& stages) {
  size_t boxes = 0;
  for (const BoxStage& stage : stages) {
    ForLists(stage, [&](const BoxList& list) { boxes += list.boxes().size(); });
  }
  if (boxes == 0) return absl::OkStatus();
  const auto bytes = static_cast<int64_t>(boxes * sizeof(BoxDescriptor));
  SLUICE_RETURN_IF_ERROR(Grow(*runtime_, device_, bytes, lists_));
  SLUICE_RETURN_IF_ERROR(Grow(*runtime_, device_, bytes, pinned_lists_));
  std::byte* at = pinned_lists_->data();
  for (const BoxStage& stage : stages) {
    ForLists(stage, [&](const BoxList& list) {
      const size_t size = list.boxes().size() * sizeof(BoxDescriptor);
      if (size > 0) std::memcpy(at, list.boxes().data(), size);
      at += size;
    });
  }
  return runtime_->Copy(lists_->data(), pinned_lists_->data(), bytes,
                        stream_.get());
}

absl::Status Workspace::CopyRows(const RowCopy& copy) {
  void* const dst = reinterpret_cast<void*>(copy.dst);
  const void* const src = reinterpret_cast<const void*>(copy.src);
  if (copy.rows == 1) {
    return runtime_->Copy(dst, src, copy.width, stream_.get());
  }
  return runtime_->CopyRows(dst, copy.dst_pitch, src, copy.src_pitch,
                            copy.width, copy.rows, stream_.get());
}

absl::Status Workspace::Launch(const BoxStage& stage,
                               const BoxDescriptor*& at) {
  for (const RowCopy& copy : stage.rows) {
    SLUICE_RETURN_IF_ERROR(CopyRows(copy));
  }
  const auto batch = [&at](const BoxList& list) {
    const BoxBatch out = list.Batch(at);
    at += list.boxes().size();
    return out;
  };
  const BoxBatch copies = batch(stage.copies);
  if (copies.count > 0) {
    SLUICE_RETURN_IF_ERROR(
        runtime_->CopyBoxes(copies, max_blocks_, stream_.get()));
  }
  for (const auto& [types, list] : stage.casts) {
    const BoxBatch casts = batch(list);
    if (casts.count == 0) continue;
    SLUICE_RETURN_IF_ERROR(runtime_->CastBoxes(casts, types.first, types.second,
                                               max_blocks_, stream_.get()));
  }
  const BoxBatch digests = batch(stage.digests);
  if (digests.count == 0) return absl::OkStatus();
  return runtime_->DigestBoxes(digests,
                               reinterpret_cast<DigestSlot*>(slots_->data()),
                               max_blocks_, stream_.get());
}

absl::Status Workspace::Queue(const std::vector<BoxStage>& stages,
                              size_t num_slots) {
  SLUICE_RETURN_IF_ERROR(runtime_->Use(device_));
  num_slots_ = num_slots;
  const auto bytes = static_cast<int64_t>(num_slots * sizeof(DigestSlot));
  if (num_slots > 0) {
    SLUICE_RETURN_IF_ERROR(Grow(*runtime_, device_, bytes, slots_));
    SLUICE_RETURN_IF_ERROR(Grow(*runtime_, device_, bytes, pinned_slots_));
    SLUICE_RETURN_IF_ERROR(
        runtime_->Fill(slots_->data(), 0, bytes, stream_.get()));
  }
  SLUICE_RETURN_IF_ERROR(Upload(stages));
  const BoxDescriptor* at =
      lists_.has_value()
          ? reinterpret_cast<const BoxDescriptor*>(lists_->data())
          : nullptr;
  for (const BoxStage& stage : stages) {
    SLUICE_RETURN_IF_ERROR(Launch(stage, at));
  }
  if (num_slots == 0) return absl::OkStatus();
  return runtime_->Copy(pinned_slots_->data(), slots_->data(), bytes,
                        stream_.get());
}

absl::StatusOr<std::vector<Digest>> Workspace::Finish() {
  SLUICE_RETURN_IF_ERROR(runtime_->Use(device_));
  SLUICE_RETURN_IF_ERROR(runtime_->Synchronize(stream_.get()));
  std::vector<Digest> digests(std::exchange(num_slots_, 0));
  for (size_t i = 0; i < digests.size(); ++i) {
    DigestSlot slot;
    std::memcpy(&slot, pinned_slots_->data() + i * sizeof(slot), sizeof(slot));
    digests[i] = {slot.lane0, slot.lane1};
  }
  return digests;
}

void Workspace::Settle() {
  num_slots_ = 0;
  const absl::Status settled = runtime_->Synchronize(stream_.get());
  if (!settled.ok()) LogWarn("stream not settled", {{"status", settled}});
}

}  // namespace sluice::agent::cuda
