#include "tests/fakes/cuda/fake_cuda_runtime.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/cuda/cuda_status.h"
#include "common/status_macros.h"

namespace sluice::agent::cuda {
namespace {

absl::Status Invalid(const char* what) {
  return CudaStatus(kCudaInvalidValue, "cudaErrorInvalidValue", what);
}

uintptr_t Address(const void* memory) {
  return reinterpret_cast<uintptr_t>(memory);
}

IpcHandle HandleOf(const char* kind, uintptr_t value) {
  IpcHandle handle{};
  const std::string text = absl::StrCat(kind, value);
  std::copy(text.begin(), text.end(), handle.begin());
  return handle;
}

std::string KeyOf(const IpcHandle& handle) {
  return std::string(handle.begin(), handle.end());
}

}  // namespace

CudaHoldings FakeGpu::holdings() const {
  MutexLock lock(mutex_);
  return holdings_;
}

int FakeGpu::early_unmappings() const {
  MutexLock lock(mutex_);
  return early_unmappings_;
}

void FakeGpu::FailCall(int nth, int code) {
  MutexLock lock(mutex_);
  fail_in_ = nth;
  fail_code_ = code;
  failed_ = false;
}

bool FakeGpu::Failed() const {
  MutexLock lock(mutex_);
  return failed_;
}

void FakeGpu::LimitMemory(int64_t bytes) {
  MutexLock lock(mutex_);
  limit_ = bytes;
}

void FakeGpu::EndProcess(int process) {
  MutexLock lock(mutex_);
  ended_[process] = true;
}

void* FakeGpu::AllocateVirtual(int process, int64_t bytes) {
  MutexLock lock(mutex_);
  Allocation allocation{std::vector<uint64_t>(size_t(bytes) / 8 + 1), bytes,
                        process, /*exportable=*/false, /*pinned=*/false};
  void* memory = allocation.words.data();
  ++holdings_.allocations;
  used_ += bytes;
  allocations_.emplace(Address(memory), std::move(allocation));
  return memory;
}

FakeCudaRuntime::~FakeCudaRuntime() = default;

absl::Status FakeCudaRuntime::Call(const char* what) {
  if (gpu_->fail_in_ < 0 || gpu_->fail_in_-- > 0) return absl::OkStatus();
  gpu_->failed_ = true;
  absl::Status status = CudaStatus(gpu_->fail_code_, "injected", what);
  if (IsContextLost(gpu_->fail_code_)) {
    gpu_->fail_in_ = 0;  // the next one, too
    TellLost(status);
  }
  return status;
}

absl::StatusOr<int> FakeCudaRuntime::DeviceCount() {
  MutexLock lock(gpu_->mutex_);
  SLUICE_RETURN_IF_ERROR(Call("DeviceCount"));
  return 1;
}

absl::StatusOr<DeviceInfo> FakeCudaRuntime::Describe(int device) {
  MutexLock lock(gpu_->mutex_);
  SLUICE_RETURN_IF_ERROR(Call("Describe"));
  if (device != 0) return Invalid("Describe");
  return DeviceInfo{.name = "fake GPU of host memory",
                    .major = 9,
                    .minor = 0,
                    .multiprocessors = 4,
                    .memory_bytes = gpu_->limit_,
                    .pci_bus_id = "0000:00:00.0"};
}

absl::Status FakeCudaRuntime::Use(int device) {
  return device == 0 ? absl::OkStatus() : Invalid("Use");
}

absl::StatusOr<bool> FakeCudaRuntime::CanAccessPeer(int device, int peer) {
  return device == peer;
}

absl::StatusOr<int64_t> FakeCudaRuntime::MemoryInUse(int) {
  MutexLock lock(gpu_->mutex_);
  return gpu_->used_;
}

absl::Status FakeCudaRuntime::SynchronizeDevice() {
  MutexLock lock(gpu_->mutex_);
  for (const auto& [stream, owner] : streams_) Run(*stream, nullptr, 0);
  return absl::OkStatus();
}

absl::StatusOr<void*> FakeCudaRuntime::Take(int64_t bytes, bool pinned) {
  MutexLock lock(gpu_->mutex_);
  SLUICE_RETURN_IF_ERROR(Call("Allocate"));
  if (bytes < 0) return Invalid("Allocate");
  if (!pinned && gpu_->used_ + bytes > gpu_->limit_) {
    return CudaStatus(kCudaMemoryAllocation, "cudaErrorMemoryAllocation",
                      absl::StrCat("allocating ", bytes, " bytes"));
  }
  FakeGpu::Allocation allocation{
      // Two words more, to begin at a multiple of 16 as the real one does.
      std::vector<uint64_t>(static_cast<size_t>(bytes) / 8 + 3,
                            0xdddddddddddddddd),
      bytes, process_, /*exportable=*/!pinned, pinned};
  const uintptr_t first = Address(allocation.words.data());
  const uintptr_t base = (first + 15) / 16 * 16;
  (pinned ? gpu_->holdings_.pinned : gpu_->holdings_.allocations) += 1;
  if (!pinned) gpu_->used_ += bytes;
  gpu_->allocations_.emplace(base, std::move(allocation));
  return reinterpret_cast<void*>(base);
}

absl::Status FakeCudaRuntime::GiveBack(void* memory, bool pinned) {
  // As cudaFree, it waits for what was queued.
  SLUICE_RETURN_IF_ERROR(SynchronizeDevice());
  MutexLock lock(gpu_->mutex_);
  const auto found = gpu_->allocations_.find(Address(memory));
  if (found == gpu_->allocations_.end() || found->second.pinned != pinned) {
    return Invalid("Free");
  }
  (pinned ? gpu_->holdings_.pinned : gpu_->holdings_.allocations) -= 1;
  if (!pinned) gpu_->used_ -= found->second.bytes;
  gpu_->allocations_.erase(found);
  return absl::OkStatus();
}

absl::StatusOr<void*> FakeCudaRuntime::Allocate(int64_t bytes) {
  return Take(bytes, /*pinned=*/false);
}
absl::Status FakeCudaRuntime::Free(void* memory) {
  return GiveBack(memory, /*pinned=*/false);
}
absl::StatusOr<void*> FakeCudaRuntime::AllocatePinned(int64_t bytes) {
  return Take(bytes, /*pinned=*/true);
}
absl::Status FakeCudaRuntime::FreePinned(void* memory) {
  return GiveBack(memory, /*pinned=*/true);
}

absl::Status FakeCudaRuntime::Pin(void* memory, int64_t bytes) {
  MutexLock lock(gpu_->mutex_);
  SLUICE_RETURN_IF_ERROR(Call("Pin"));
  const FakeGpu::Allocation pinned{{},
                                   bytes,
                                   process_,
                                   /*exportable=*/false,
                                   /*pinned=*/true};
  if (!gpu_->allocations_.emplace(Address(memory), pinned).second) {
    return Invalid("Pin");
  }
  ++gpu_->holdings_.pinned;
  return absl::OkStatus();
}
absl::Status FakeCudaRuntime::Unpin(void* memory) {
  MutexLock lock(gpu_->mutex_);
  const auto found = gpu_->allocations_.find(Address(memory));
  // What it allocated itself has words.
  if (found == gpu_->allocations_.end() || !found->second.words.empty()) {
    return Invalid("Unpin");
  }
  for (const auto& [stream, owner] : streams_) {
    if (!stream->operations.empty()) ++gpu_->early_unmappings_;
  }
  gpu_->allocations_.erase(found);
  --gpu_->holdings_.pinned;
  return absl::OkStatus();
}

bool FakeCudaRuntime::IsKnown(const void* address) const {
  const auto found = gpu_->allocations_.upper_bound(Address(address));
  if (found == gpu_->allocations_.begin()) return false;
  const auto& [base, allocation] = *std::prev(found);
  return Address(address) < base + static_cast<uintptr_t>(allocation.bytes);
}

absl::StatusOr<MemoryBounds> FakeCudaRuntime::BoundsOf(const void* address) {
  MutexLock lock(gpu_->mutex_);
  SLUICE_RETURN_IF_ERROR(Call("BoundsOf"));
  if (!IsKnown(address)) return Invalid("BoundsOf");
  const auto found =
      std::prev(gpu_->allocations_.upper_bound(Address(address)));
  return MemoryBounds{reinterpret_cast<void*>(found->first),
                      found->second.bytes};
}

absl::StatusOr<IpcHandle> FakeCudaRuntime::ExportMemory(void* base) {
  MutexLock lock(gpu_->mutex_);
  SLUICE_RETURN_IF_ERROR(Call("ExportMemory"));
  const auto found = gpu_->allocations_.find(Address(base));
  if (found == gpu_->allocations_.end() || !found->second.exportable) {
    return Invalid("ExportMemory");
  }
  const IpcHandle handle = HandleOf("memory-", Address(base));
  gpu_->exported_[KeyOf(handle)] = Address(base);
  return handle;
}

absl::StatusOr<void*> FakeCudaRuntime::ImportMemory(const IpcHandle& handle) {
  MutexLock lock(gpu_->mutex_);
  SLUICE_RETURN_IF_ERROR(Call("ImportMemory"));
  const auto found = gpu_->exported_.find(KeyOf(handle));
  if (found == gpu_->exported_.end()) return Invalid("ImportMemory");
  const auto memory = gpu_->allocations_.find(found->second);
  if (memory == gpu_->allocations_.end() ||
      gpu_->ended_[memory->second.process]) {
    return Invalid("ImportMemory");
  }
  if (memory->second.process == process_) {
    return CudaStatus(kCudaInvalidContext, "cudaErrorDeviceUninitialized",
                      "ImportMemory");
  }
  if (imports_[found->second]++ == 0) ++gpu_->holdings_.imports;
  return reinterpret_cast<void*>(found->second);
}

absl::Status FakeCudaRuntime::CloseImported(void* base) {
  MutexLock lock(gpu_->mutex_);
  const auto found = imports_.find(Address(base));
  if (found == imports_.end()) return Invalid("CloseImported");
  for (const auto& [stream, owner] : streams_) {
    if (!stream->operations.empty()) ++gpu_->early_unmappings_;
  }
  if (--found->second == 0) {
    imports_.erase(found);
    --gpu_->holdings_.imports;
  }
  return absl::OkStatus();
}

absl::StatusOr<IpcHandle> FakeCudaRuntime::ExportEvent(EventHandle event) {
  MutexLock lock(gpu_->mutex_);
  SLUICE_RETURN_IF_ERROR(Call("ExportEvent"));
  auto* exported = static_cast<FakeGpu::Event*>(event);
  if (!exported->interprocess) return Invalid("ExportEvent");
  const IpcHandle handle = HandleOf("event-", Address(event));
  gpu_->exported_events_[KeyOf(handle)] = exported;
  return handle;
}

absl::StatusOr<EventHandle> FakeCudaRuntime::ImportEvent(
    const IpcHandle& handle) {
  MutexLock lock(gpu_->mutex_);
  SLUICE_RETURN_IF_ERROR(Call("ImportEvent"));
  const auto found = gpu_->exported_events_.find(KeyOf(handle));
  if (found == gpu_->exported_events_.end() ||
      gpu_->ended_[found->second->process]) {
    return Invalid("ImportEvent");
  }
  ++gpu_->holdings_.events;
  return static_cast<EventHandle>(found->second);
}

absl::StatusOr<StreamHandle> FakeCudaRuntime::CreateStream() {
  MutexLock lock(gpu_->mutex_);
  SLUICE_RETURN_IF_ERROR(Call("CreateStream"));
  auto stream = std::make_unique<Stream>();
  Stream* handle = stream.get();
  streams_.emplace(handle, std::move(stream));
  ++gpu_->holdings_.streams;
  return static_cast<StreamHandle>(handle);
}

absl::Status FakeCudaRuntime::DestroyStream(StreamHandle stream) {
  MutexLock lock(gpu_->mutex_);
  auto* ended = static_cast<Stream*>(stream);
  const auto found = streams_.find(ended);
  if (found == streams_.end()) return Invalid("DestroyStream");
  Run(*ended, nullptr, 0);
  for (const auto& [event, owner] : gpu_->events_) {
    if (event->stream == ended) event->stream = nullptr;
  }
  streams_.erase(found);
  --gpu_->holdings_.streams;
  return absl::OkStatus();
}

absl::Status FakeCudaRuntime::Synchronize(StreamHandle stream) {
  MutexLock lock(gpu_->mutex_);
  auto* waited = static_cast<Stream*>(stream);
  const absl::Status failed = Call("Synchronize");
  // After an asynchronous error nothing that was queued runs any more.
  if (!failed.ok()) waited->operations.clear();
  SLUICE_RETURN_IF_ERROR(failed);
  Run(*waited, nullptr, 0);
  return absl::OkStatus();
}

absl::StatusOr<EventHandle> FakeCudaRuntime::CreateEvent(EventKind kind) {
  MutexLock lock(gpu_->mutex_);
  SLUICE_RETURN_IF_ERROR(Call("CreateEvent"));
  auto event = std::make_unique<FakeGpu::Event>();
  event->process = process_;
  event->interprocess = kind == EventKind::kInterprocess;
  FakeGpu::Event* handle = event.get();
  gpu_->events_.emplace(handle, std::move(event));
  ++gpu_->holdings_.events;
  return static_cast<EventHandle>(handle);
}

// Events stay until the GPU goes: others may still wait for them.
absl::Status FakeCudaRuntime::DestroyEvent(EventHandle) {
  MutexLock lock(gpu_->mutex_);
  --gpu_->holdings_.events;
  return absl::OkStatus();
}

absl::Status FakeCudaRuntime::Record(EventHandle event, StreamHandle stream) {
  MutexLock lock(gpu_->mutex_);
  SLUICE_RETURN_IF_ERROR(Call("Record"));
  auto* recorded = static_cast<FakeGpu::Event*>(event);
  auto* on = static_cast<Stream*>(stream);
  const uint64_t ticket = ++recorded->recorded;
  recorded->stream = on;
  on->operations.push_back(
      {.run = [recorded, ticket] { recorded->reached = ticket; }});
  return absl::OkStatus();
}

absl::Status FakeCudaRuntime::Wait(StreamHandle stream, EventHandle event) {
  MutexLock lock(gpu_->mutex_);
  SLUICE_RETURN_IF_ERROR(Call("Wait"));
  auto* awaited = static_cast<FakeGpu::Event*>(event);
  static_cast<Stream*>(stream)->operations.push_back(
      {.run = [] {},
       .event = awaited,
       .ticket = awaited->recorded,
       .stream = awaited->stream});
  return absl::OkStatus();
}

absl::StatusOr<bool> FakeCudaRuntime::IsDone(EventHandle event) {
  MutexLock lock(gpu_->mutex_);
  SLUICE_RETURN_IF_ERROR(Call("IsDone"));
  const auto* asked = static_cast<FakeGpu::Event*>(event);
  return asked->reached == asked->recorded;
}

absl::StatusOr<double> FakeCudaRuntime::ElapsedSeconds(EventHandle,
                                                       EventHandle) {
  MutexLock lock(gpu_->mutex_);
  SLUICE_RETURN_IF_ERROR(Call("ElapsedSeconds"));
  return 1e-3;  // no time passes on this GPU
}

void FakeCudaRuntime::Run(Stream& stream, const FakeGpu::Event* until,
                          uint64_t ticket) {
  while (!stream.operations.empty() &&
         (until == nullptr || until->reached < ticket)) {
    FakeGpu::Operation operation = std::move(stream.operations.front());
    stream.operations.pop_front();
    if (operation.event != nullptr && operation.stream != nullptr &&
        operation.event->reached < operation.ticket) {
      Run(*operation.stream, operation.event, operation.ticket);
    }
    operation.run();
  }
}

absl::Status FakeCudaRuntime::Queue(StreamHandle stream, const char* what,
                                    std::function<void()> run) {
  MutexLock lock(gpu_->mutex_);
  SLUICE_RETURN_IF_ERROR(Call(what));
  auto* on = static_cast<Stream*>(stream);
  if (streams_.find(on) == streams_.end()) return Invalid(what);
  on->operations.push_back({.run = std::move(run)});
  return absl::OkStatus();
}

absl::Status FakeCudaRuntime::Copy(void* dst, const void* src, int64_t bytes,
                                   StreamHandle stream) {
  SLUICE_RETURN_IF_ERROR(Queue(stream, "Copy", [=] {
    std::memcpy(dst, src, static_cast<size_t>(bytes));
  }));
  MutexLock lock(gpu_->mutex_);
  // As the real one, it does not return before memory of the host that is not
  // pinned has been read or written.
  if (!IsKnown(dst) || !IsKnown(src)) {
    Run(*static_cast<Stream*>(stream), nullptr, 0);
  }
  return absl::OkStatus();
}

absl::Status FakeCudaRuntime::Delay(int64_t, StreamHandle stream) {
  return Queue(stream, "Delay", [] {});
}

}  // namespace sluice::agent::cuda
