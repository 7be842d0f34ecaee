#include "agent/cuda/cuda_device.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace sluice::agent::cuda {
namespace {

constexpr int kLeastMajor = 8;

// What was being released cannot be given back a second time: said, not passed.
void WarnIfFailed(const absl::Status& status) {
  if (!status.ok()) LogWarn("GPU memory not released", {{"status", status}});
}

std::string ToBytes(const IpcHandle& handle) {
  return std::string(handle.begin(), handle.end());
}

}  // namespace

absl::StatusOr<SharedRange> ShareRange(CudaRuntime& runtime, const void* memory,
                                       int64_t bytes) {
  SLUICE_ASSIGN_OR_RETURN(const MemoryBounds bounds, runtime.BoundsOf(memory));
  const auto* base = static_cast<const std::byte*>(bounds.base);
  const int64_t offset = static_cast<const std::byte*>(memory) - base;
  if (bytes < 1 || offset > bounds.bytes - bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(bytes, " bytes at byte ", offset, " of an allocation of ",
                     bounds.bytes, " bytes of the GPU"));
  }
  const absl::StatusOr<IpcHandle> handle = runtime.ExportMemory(bounds.base);
  if (!handle.ok()) {
    if (!absl::IsInvalidArgument(handle.status())) return handle.status();
    return absl::FailedPreconditionError(absl::StrCat(
        "this memory of the GPU cannot be shared between processes (",
        handle.status().message(),
        "): it is no plain cudaMalloc allocation. In PyTorch set "
        "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:False (and not "
        "backend:cudaMallocAsync) before the first allocation; elsewhere use "
        "cudaMalloc instead of cuMemCreate or a memory pool"));
  }
  return SharedRange{*handle, offset, bytes};
}

absl::StatusOr<IpcHandle> ToHandle(absl::string_view bytes) {
  IpcHandle handle;
  if (bytes.size() != handle.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("CUDA IPC handle: expected ", handle.size(),
                     " bytes, found ", bytes.size()));
  }
  std::copy(bytes.begin(), bytes.end(), handle.begin());
  return handle;
}

absl::Status CudaMemory::HoldBackFor(absl::string_view event,
                                     std::weak_ptr<const void> reader) {
  SLUICE_ASSIGN_OR_RETURN(const IpcHandle handle, ToHandle(event));
  SLUICE_ASSIGN_OR_RETURN(CudaEvent imported,
                          CudaEvent::Import(*runtime_, index_, handle));
  MutexLock lock(reads_mutex_);
  // A version may be read many times before it is written over.
  DropOverLocked();
  reads_.push_back({std::move(imported), std::move(reader)});
  return absl::OkStatus();
}

absl::StatusOr<bool> CudaMemory::IsHandedOver() {
  if (lender_.has_value()) {
    SLUICE_ASSIGN_OR_RETURN(const bool done, lender_->IsDone());
    if (!done) return false;
  }
  MutexLock lock(reads_mutex_);
  DropOverLocked();
  return reads_.empty();
}

void CudaMemory::DropOverLocked() {
  const auto over = [](const Read& read) {
    // The kernels of a process that is gone have ended, its events have not.
    if (read.reader.expired()) return true;
    const absl::StatusOr<bool> done = read.over.IsDone();
    WarnIfFailed(done.status());
    return done.value_or(true);
  };
  reads_.erase(std::remove_if(reads_.begin(), reads_.end(), over),
               reads_.end());
}

// Memory of this process.
class CudaDevice::Arena final : public CudaMemory {
 public:
  Arena(CudaRuntime* runtime, int device, void* base, int64_t size)
      : CudaMemory(runtime, device),
        runtime_(runtime),
        device_(device),
        base_(base),
        size_(size) {}
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() override {
    WarnIfFailed(runtime_->Use(device_));
    WarnIfFailed(runtime_->SynchronizeDevice());
    WarnIfFailed(runtime_->Free(base_));
  }

  std::byte* data() const override { return static_cast<std::byte*>(base_); }
  int64_t size() const override { return size_; }
  int device() const override { return device_; }
  absl::StatusOr<SharedRange> Share() const override {
    SLUICE_RETURN_IF_ERROR(runtime_->Use(device_));
    return ShareRange(*runtime_, base_, size_);
  }
  absl::StatusOr<DeviceRange> ToRange() const override {
    SLUICE_ASSIGN_OR_RETURN(const SharedRange range, Share());
    MutexLock lock(mutex_);
    if (!written_.has_value()) {
      SLUICE_ASSIGN_OR_RETURN(
          written_,
          CudaEvent::Create(*runtime_, device_, EventKind::kInterprocess));
    }
    SLUICE_ASSIGN_OR_RETURN(const IpcHandle event, written_->Export());
    return DeviceRange{ToBytes(range.handle), range.offset_bytes,
                       range.size_bytes, ToBytes(event)};
  }
  absl::Status AfterWriting(const CudaStream& stream) override {
    MutexLock lock(mutex_);
    // Nobody has been shown the memory before.
    if (!written_.has_value()) return absl::OkStatus();
    return written_->Record(stream);
  }

 private:
  CudaRuntime* const runtime_;
  const int device_;
  void* const base_;
  const int64_t size_;
  mutable Mutex mutex_;
  mutable std::optional<CudaEvent> written_ ABSL_GUARDED_BY(mutex_);
};

// One allocation of another process, mapped.
class CudaDevice::Import {
 public:
  Import(CudaRuntime* runtime, int device, void* base, const IpcHandle& handle)
      : runtime_(runtime), device_(device), base_(base), handle_(handle) {}
  Import(const Import&) = delete;
  Import& operator=(const Import&) = delete;
  ~Import() {
    WarnIfFailed(runtime_->Use(device_));
    // Unmapping, unlike cudaFree, waits for nothing.
    WarnIfFailed(runtime_->SynchronizeDevice());
    WarnIfFailed(runtime_->CloseImported(base_));
  }

  int device() const { return device_; }
  std::byte* base() const { return static_cast<std::byte*>(base_); }
  CudaRuntime* runtime() const { return runtime_; }
  const IpcHandle& handle() const { return handle_; }

 private:
  CudaRuntime* const runtime_;
  const int device_;
  void* const base_;
  const IpcHandle handle_;
};

class CudaDevice::ImportedRange final : public CudaMemory {
 public:
  // `event` is its lender's, and `name` that event's handle; or none and "".
  ImportedRange(std::shared_ptr<Import> import, const SharedRange& range,
                std::optional<CudaEvent> event, absl::string_view name)
      : CudaMemory(import->runtime(), import->device(), std::move(event)),
        import_(std::move(import)),
        offset_(range.offset_bytes),
        size_(range.size_bytes),
        event_name_(name) {}

  std::byte* data() const override { return import_->base() + offset_; }
  int64_t size() const override { return size_; }
  int device() const override { return import_->device(); }
  absl::StatusOr<SharedRange> Share() const override {
    return SharedRange{import_->handle(), offset_, size_};
  }
  absl::StatusOr<DeviceRange> ToRange() const override {
    return DeviceRange{ToBytes(import_->handle()), offset_, size_, event_name_};
  }
  // What is written here is told of when it has ended.
  absl::Status AfterWriting(const CudaStream&) override {
    return absl::OkStatus();
  }

 private:
  const std::shared_ptr<Import> import_;
  const int64_t offset_;
  const int64_t size_;
  const std::string event_name_;
};

absl::StatusOr<std::unique_ptr<CudaDevice>> CudaDevice::Open(
    CudaRuntime* runtime, int device) {
  SLUICE_ASSIGN_OR_RETURN(const int count, runtime->DeviceCount());
  if (device < 0 || device >= count) {
    return absl::InvalidArgumentError(
        absl::StrCat("GPU ", device, ": this process sees ", count,
                     " (numbered from 0; see CUDA_VISIBLE_DEVICES)"));
  }
  SLUICE_ASSIGN_OR_RETURN(DeviceInfo info, runtime->Describe(device));
  if (info.major < kLeastMajor) {
    return absl::FailedPreconditionError(
        absl::StrCat("GPU ", device, " (", info.name,
                     ") has compute capability ", info.major, ".", info.minor,
                     ": expected ", kLeastMajor, ".0 at least"));
  }
  SLUICE_RETURN_IF_ERROR(runtime->Use(device));
  SLUICE_RETURN_IF_ERROR(runtime->LoadKernels());
  return std::unique_ptr<CudaDevice>(
      new CudaDevice(runtime, device, std::move(info)));
}

CudaDevice::CudaDevice(CudaRuntime* runtime, int device, DeviceInfo info)
    : runtime_(runtime), device_(device), info_(std::move(info)) {}

CudaDevice::~CudaDevice() = default;

absl::StatusOr<std::shared_ptr<CudaMemory>> CudaDevice::AllocateArena(
    int64_t bytes, absl::string_view label) {
  if (bytes < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "arena \"", label, "\" of ", bytes, " bytes: expected at least 1"));
  }
  SLUICE_RETURN_IF_ERROR(runtime_->Use(device_));
  absl::StatusOr<void*> base = runtime_->Allocate(bytes);
  if (!base.ok()) {
    return Annotate(base.status(),
                    absl::StrCat("arena \"", label, "\" on GPU ", device_));
  }
  return std::make_shared<Arena>(runtime_, device_, *base, bytes);
}

absl::StatusOr<std::shared_ptr<MappedMemory>> CudaDevice::Allocate(
    int64_t bytes, absl::string_view label) {
  return AllocateArena(bytes, label);
}

absl::StatusOr<std::shared_ptr<MappedMemory>> CudaDevice::Adopt(UniqueFd) {
  return absl::InvalidArgumentError(
      "a descriptor is memory of the host: memory of a GPU is lent by its "
      "CUDA IPC handle");
}

absl::StatusOr<std::shared_ptr<CudaDevice::Import>> CudaDevice::FindOrMap(
    const IpcHandle& handle) {
  absl::erase_if(imports_,
                 [](const auto& entry) { return entry.second.expired(); });
  std::weak_ptr<Import>& known =
      imports_[std::string(handle.data(), handle.size())];
  if (std::shared_ptr<Import> import = known.lock()) return import;
  SLUICE_ASSIGN_OR_RETURN(void* base, runtime_->ImportMemory(handle));
  auto import = std::make_shared<Import>(runtime_, device_, base, handle);
  known = import;
  return import;
}

absl::StatusOr<std::shared_ptr<CudaMemory>> CudaDevice::AdoptRange(
    const SharedRange& range, absl::string_view event) {
  std::shared_ptr<Import> import;
  // The driver answers only a thread that has a context.
  SLUICE_RETURN_IF_ERROR(runtime_->Use(device_));
  {
    MutexLock lock(mutex_);
    SLUICE_ASSIGN_OR_RETURN(import, FindOrMap(range.handle));
  }
  SLUICE_ASSIGN_OR_RETURN(const MemoryBounds bounds,
                          runtime_->BoundsOf(import->base()));
  if (range.offset_bytes < 0 || range.size_bytes < 1 ||
      range.size_bytes > bounds.bytes ||
      range.offset_bytes > bounds.bytes - range.size_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "lent range of ", range.size_bytes, " bytes at byte ",
        range.offset_bytes, ": the GPU's allocation has ", bounds.bytes));
  }
  std::optional<CudaEvent> imported;
  if (!event.empty()) {
    SLUICE_ASSIGN_OR_RETURN(const IpcHandle handle, ToHandle(event));
    SLUICE_ASSIGN_OR_RETURN(imported,
                            CudaEvent::Import(*runtime_, device_, handle));
  }
  return std::make_shared<ImportedRange>(std::move(import), range,
                                         std::move(imported), event);
}

absl::StatusOr<std::shared_ptr<MappedMemory>> CudaDevice::AdoptRange(
    const DeviceRange& range) {
  SLUICE_ASSIGN_OR_RETURN(const IpcHandle handle, ToHandle(range.handle));
  return AdoptRange(SharedRange{handle, range.offset_bytes, range.size_bytes},
                    range.event);
}

}  // namespace sluice::agent::cuda
