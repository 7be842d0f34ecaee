#include "tests/fakes/cuda/process_gpu.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <iterator>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "agent/cuda/cuda_status.h"
#include "agent/device/memory_file.h"
#include "agent/device/unique_fd.h"
#include "common/status_macros.h"
#include "tests/fakes/nccl/stream_abi.h"

namespace sluice::agent::cuda {
namespace {

constexpr absl::Duration kPoll = absl::Microseconds(100);
constexpr char kMemoryKind[] = "gpu-memory";
constexpr char kEventKind[] = "gpu-event";

// As the real runtime has it, of each thread.
// -1: the thread has no context, and a driver answers nothing.
thread_local int current_device = -1;

// What a handle's bytes are.
struct Named {
  char kind[16];
  int32_t process;
  int32_t descriptor;
  int32_t device;
  uint64_t inode;  // tells later files under the same descriptor apart
};
static_assert(sizeof(Named) <= kIpcHandleBytes);

absl::Status Invalid(const char* what) {
  return CudaStatus(kCudaInvalidValue, "cudaErrorInvalidValue", what);
}

absl::Status NeedsContext(const char* what) {
  if (current_device >= 0) return absl::OkStatus();
  return CudaStatus(kCudaInvalidContext, "cudaErrorDeviceUninitialized", what);
}

absl::StatusOr<IpcHandle> Name(const char* kind, int fd, int device) {
  struct stat info {};
  if (fstat(fd, &info) != 0) return Invalid(kind);
  Named named{};
  std::strncpy(named.kind, kind, sizeof(named.kind) - 1);
  named.process = getpid();
  named.descriptor = fd;
  named.device = device;
  named.inode = info.st_ino;
  IpcHandle handle{};
  std::memcpy(handle.data(), &named, sizeof(named));
  return handle;
}

// Maps what a handle names, if its process lives and still has it.
absl::StatusOr<std::pair<std::shared_ptr<MappedMemory>, int>> Open(
    const char* kind, const IpcHandle& handle) {
  Named named{};
  std::memcpy(&named, handle.data(), sizeof(named));
  if (std::strncmp(named.kind, kind, sizeof(named.kind)) != 0) {
    return Invalid(kind);
  }
  if (named.process == getpid()) {
    return CudaStatus(kCudaInvalidContext, "cudaErrorDeviceUninitialized",
                      kind);
  }
  UniqueFd fd(open(
      absl::StrCat("/proc/", named.process, "/fd/", named.descriptor).c_str(),
      O_RDWR | O_CLOEXEC));
  struct stat info {};
  if (!fd.valid() || fstat(fd.get(), &info) != 0 ||
      info.st_ino != named.inode) {
    return Invalid(kind);
  }
  SLUICE_ASSIGN_OR_RETURN(
      auto mapping,
      MapMemoryFile(std::move(fd), info.st_size, Access::kReadWrite));
  return std::pair(std::move(mapping), named.process);
}

int DeviceOf(const IpcHandle& handle) {
  Named named{};
  std::memcpy(&named, handle.data(), sizeof(named));
  return named.device;
}

std::string KeyOf(const IpcHandle& handle) {
  return std::string(handle.begin(), handle.end());
}

template <typename Map, typename SizeOf>
typename Map::const_iterator Around(const Map& map, const void* address,
                                    const SizeOf& size_of) {
  const auto* at = static_cast<const std::byte*>(address);
  auto found = map.upper_bound(at);
  if (found == map.begin()) return map.end();
  --found;
  return at < found->first + size_of(found->second) ? found : map.end();
}

}  // namespace

// A thread that runs functions in order. What the fake NCCL library queues runs
// there too: its handle is the address of that library's interface.
class ProcessGpuRuntime::Stream : public CUstream_st {
 public:
  Stream() : thread_([this] { Run(); }) {
    enqueue = [](CUstream_st* stream, void (*work)(void*), void* argument) {
      static_cast<Stream*>(stream)->Add([work, argument] { work(argument); });
    };
  }
  ~Stream() {
    {
      MutexLock lock(mutex_);
      ending_ = true;
    }
    changed_.SignalAll();
    thread_.join();
  }

  void Add(std::function<void()> run) {
    MutexLock lock(mutex_);
    queue_.push_back(std::move(run));
    changed_.SignalAll();
  }
  void WaitUntilIdle() {
    MutexLock lock(mutex_);
    while (!queue_.empty()) changed_.Wait(mutex_);
  }

 private:
  void Run() {
    while (true) {
      std::function<void()> run;
      {
        MutexLock lock(mutex_);
        while (queue_.empty() && !ending_) changed_.Wait(mutex_);
        if (queue_.empty()) return;
        run = queue_.front();
      }
      run();
      MutexLock lock(mutex_);
      queue_.pop_front();
      changed_.SignalAll();
    }
  }

  Mutex mutex_;
  CondVar changed_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

ProcessGpuRuntime::~ProcessGpuRuntime() = default;

ProcessGpuHoldings ProcessGpuRuntime::holdings() const {
  MutexLock lock(mutex_);
  return {own_.size(), pinned_.size(), imported_.size(), streams_.size(),
          events_.size()};
}

absl::StatusOr<DeviceInfo> ProcessGpuRuntime::Describe(int device) {
  if (device < 0 || device >= options_.devices) return Invalid("Describe");
  return DeviceInfo{.name = "fake GPU of shared memory",
                    .major = 9,
                    .minor = 0,
                    .multiprocessors = 4,
                    .memory_bytes = int64_t{64} << 30,
                    .pci_bus_id = absl::StrCat("0000:00:0", device, ".0")};
}

absl::Status ProcessGpuRuntime::Use(int device) {
  if (device < 0 || device >= options_.devices) return Invalid("Use");
  current_device = device;
  MutexLock lock(mutex_);
  contexts_.insert(device);
  return absl::OkStatus();
}

absl::StatusOr<bool> ProcessGpuRuntime::CanAccessPeer(int device, int peer) {
  return Reaches(device, peer);
}

absl::StatusOr<bool> ProcessGpuRuntime::UsesMps(int) {
  return std::getenv("CUDA_MPS_PIPE_DIRECTORY") != nullptr;
}

absl::StatusOr<int64_t> ProcessGpuRuntime::MemoryInUse(int device) {
  MutexLock lock(mutex_);
  int64_t bytes = contexts_.contains(device) ? kContextBytes : 0;
  for (const auto& [base, memory] : own_) {
    if (memory.device == device) bytes += memory.mapping->size();
  }
  return bytes;
}

absl::Status ProcessGpuRuntime::SynchronizeDevice() {
  std::vector<std::shared_ptr<Stream>> streams;
  {
    MutexLock lock(mutex_);
    for (const auto& [handle, stream] : streams_) streams.push_back(stream);
  }
  for (const auto& stream : streams) stream->WaitUntilIdle();
  return absl::OkStatus();
}

absl::StatusOr<void*> ProcessGpuRuntime::Allocate(int64_t bytes) {
  SLUICE_RETURN_IF_ERROR(NeedsContext("Allocate"));
  SLUICE_ASSIGN_OR_RETURN(UniqueFd fd, CreateMemoryFile(bytes, kMemoryKind));
  SLUICE_ASSIGN_OR_RETURN(
      auto mapping, MapMemoryFile(std::move(fd), bytes, Access::kReadWrite));
  // Poisoned, so that nobody relies on zeros; large ones at their start only,
  // for their pages are made when touched.
  std::memset(mapping->data(), 0xdd,
              static_cast<size_t>(std::min(bytes, int64_t{16} << 20)));
  MutexLock lock(mutex_);
  std::byte* base = mapping->data();
  own_[base] = {std::move(mapping), 0, current_device};
  return static_cast<void*>(base);
}

absl::Status ProcessGpuRuntime::Free(void* memory) {
  SLUICE_RETURN_IF_ERROR(SynchronizeDevice());  // as cudaFree
  MutexLock lock(mutex_);
  return own_.erase(static_cast<std::byte*>(memory)) == 1 ? absl::OkStatus()
                                                          : Invalid("Free");
}

absl::StatusOr<void*> ProcessGpuRuntime::AllocatePinned(int64_t bytes) {
  SLUICE_RETURN_IF_ERROR(NeedsContext("AllocatePinned"));
  if (bytes < 1) return Invalid("AllocatePinned");
  void* memory = std::aligned_alloc(
      4096, static_cast<size_t>((bytes + 4095) / 4096 * 4096));
  if (memory == nullptr) {
    return CudaStatus(kCudaMemoryAllocation, "cudaErrorMemoryAllocation",
                      "AllocatePinned");
  }
  MutexLock lock(mutex_);
  pinned_[static_cast<std::byte*>(memory)] = bytes;
  return memory;
}

absl::Status ProcessGpuRuntime::FreePinned(void* memory) {
  SLUICE_RETURN_IF_ERROR(NeedsContext("FreePinned"));
  SLUICE_RETURN_IF_ERROR(SynchronizeDevice());
  MutexLock lock(mutex_);
  if (pinned_.erase(static_cast<std::byte*>(memory)) == 0) {
    return Invalid("FreePinned");
  }
  std::free(memory);
  return absl::OkStatus();
}

absl::Status ProcessGpuRuntime::Pin(void* memory, int64_t bytes) {
  MutexLock lock(mutex_);
  if (bytes > options_.most_pinned_bytes - pinned_bytes_) {
    return CudaStatus(kCudaMemoryAllocation, "cudaErrorMemoryAllocation",
                      "Pin");
  }
  const bool inserted =
      pinned_.emplace(static_cast<std::byte*>(memory), bytes).second;
  if (!inserted) return Invalid("Pin");
  pinned_bytes_ += bytes;
  return absl::OkStatus();
}

absl::Status ProcessGpuRuntime::Unpin(void* memory) {
  MutexLock lock(mutex_);
  const auto it = pinned_.find(static_cast<std::byte*>(memory));
  if (it == pinned_.end()) return Invalid("Unpin");
  pinned_bytes_ -= it->second;
  pinned_.erase(it);
  return absl::OkStatus();
}

bool ProcessGpuRuntime::IsKnown(const void* address) {
  if (BoundsOf(address).ok()) return true;
  MutexLock lock(mutex_);
  return Around(pinned_, address, [](int64_t bytes) { return bytes; }) !=
         pinned_.end();
}

absl::StatusOr<MemoryBounds> ProcessGpuRuntime::BoundsOf(const void* address) {
  SLUICE_RETURN_IF_ERROR(NeedsContext("BoundsOf"));
  MutexLock lock(mutex_);
  for (const auto* map : {&own_, &imported_}) {
    const auto found = Around(*map, address, [](const Memory& memory) {
      return memory.mapping->size();
    });
    if (found == map->end()) continue;
    return MemoryBounds{found->second.mapping->data(),
                        found->second.mapping->size()};
  }
  return Invalid("BoundsOf");
}

absl::StatusOr<IpcHandle> ProcessGpuRuntime::ExportMemory(void* base) {
  MutexLock lock(mutex_);
  const auto found = own_.find(static_cast<std::byte*>(base));
  if (found == own_.end()) return Invalid("ExportMemory");
  return Name(kMemoryKind, found->second.mapping->descriptor(),
              found->second.device);
}

absl::StatusOr<void*> ProcessGpuRuntime::ImportMemory(const IpcHandle& handle) {
  {
    MutexLock lock(mutex_);
    const auto known = import_of_.find(KeyOf(handle));
    if (known != import_of_.end()) {
      Memory& memory = imported_.at(known->second);
      ++memory.imports;
      return static_cast<void*>(memory.mapping->data());
    }
  }
  SLUICE_ASSIGN_OR_RETURN(auto opened, Open(kMemoryKind, handle));
  if (!Reaches(current_device, DeviceOf(handle))) {
    return CudaStatus(kCudaPeerAccessUnsupported,
                      "cudaErrorPeerAccessUnsupported", "ImportMemory");
  }
  MutexLock lock(mutex_);
  std::byte* base = opened.first->data();
  imported_[base] = {std::move(opened.first), 1, 0};
  import_of_[KeyOf(handle)] = base;
  return static_cast<void*>(base);
}

absl::Status ProcessGpuRuntime::CloseImported(void* base) {
  SLUICE_RETURN_IF_ERROR(NeedsContext("CloseImported"));
  MutexLock lock(mutex_);
  const auto found = imported_.find(static_cast<std::byte*>(base));
  if (found == imported_.end()) return Invalid("CloseImported");
  if (--found->second.imports > 0) return absl::OkStatus();
  for (auto it = import_of_.begin(); it != import_of_.end();) {
    it = it->second == found->first ? import_of_.erase(it) : std::next(it);
  }
  imported_.erase(found);
  return absl::OkStatus();
}

EventHandle ProcessGpuRuntime::Keep(std::shared_ptr<Event> event) {
  MutexLock lock(mutex_);
  void* handle = event.get();
  events_[handle] = std::move(event);
  return handle;
}

std::shared_ptr<ProcessGpuRuntime::Event> ProcessGpuRuntime::FindEvent(
    EventHandle event) {
  MutexLock lock(mutex_);
  const auto found = events_.find(event);
  return found == events_.end() ? nullptr : found->second;
}

absl::StatusOr<EventHandle> ProcessGpuRuntime::CreateEvent(EventKind kind) {
  SLUICE_ASSIGN_OR_RETURN(UniqueFd fd, CreateMemoryFile(4096, kEventKind));
  auto event = std::make_shared<Event>();
  SLUICE_ASSIGN_OR_RETURN(
      event->page, MapMemoryFile(std::move(fd), 4096, Access::kReadWrite));
  event->interprocess = kind == EventKind::kInterprocess;
  event->owner = getpid();
  return Keep(std::move(event));
}

absl::Status ProcessGpuRuntime::DestroyEvent(EventHandle event) {
  MutexLock lock(mutex_);
  return events_.erase(event) == 1 ? absl::OkStatus() : Invalid("DestroyEvent");
}

absl::StatusOr<IpcHandle> ProcessGpuRuntime::ExportEvent(EventHandle event) {
  const std::shared_ptr<Event> found = FindEvent(event);
  if (found == nullptr || !found->interprocess || found->owner != getpid()) {
    return Invalid("ExportEvent");
  }
  return Name(kEventKind, found->page->descriptor(), 0);
}

absl::StatusOr<EventHandle> ProcessGpuRuntime::ImportEvent(
    const IpcHandle& handle) {
  SLUICE_ASSIGN_OR_RETURN(auto opened, Open(kEventKind, handle));
  auto event = std::make_shared<Event>();
  event->page = std::move(opened.first);
  event->owner = opened.second;
  return Keep(std::move(event));
}

absl::Status ProcessGpuRuntime::Record(EventHandle event, StreamHandle stream) {
  SLUICE_RETURN_IF_ERROR(NeedsContext("Record"));
  const std::shared_ptr<Event> recorded = FindEvent(event);
  if (recorded == nullptr) return Invalid("Record");
  const uint64_t ticket = ++recorded->counters().recorded;
  return Queue(stream, "Record", [recorded, ticket] {
    std::atomic<uint64_t>& reached = recorded->counters().reached;
    uint64_t before = reached.load();
    while (before < ticket && !reached.compare_exchange_weak(before, ticket)) {
    }
  });
}

absl::Status ProcessGpuRuntime::Wait(StreamHandle stream, EventHandle event) {
  SLUICE_RETURN_IF_ERROR(NeedsContext("Wait"));
  const std::shared_ptr<Event> awaited = FindEvent(event);
  if (awaited == nullptr) return Invalid("Wait");
  const uint64_t ticket = awaited->counters().recorded;
  // For ever if the process that recorded it ends before: so does a GPU's.
  return Queue(stream, "Wait", [awaited, ticket] {
    while (awaited->counters().reached < ticket) absl::SleepFor(kPoll);
  });
}

absl::StatusOr<bool> ProcessGpuRuntime::IsDone(EventHandle event) {
  SLUICE_RETURN_IF_ERROR(NeedsContext("IsDone"));
  const std::shared_ptr<Event> asked = FindEvent(event);
  if (asked == nullptr) return Invalid("IsDone");
  return asked->counters().reached >= asked->counters().recorded;
}

absl::StatusOr<double> ProcessGpuRuntime::ElapsedSeconds(EventHandle,
                                                         EventHandle) {
  return CudaStatus(kCudaNotSupported, "cudaErrorNotSupported",
                    "ElapsedSeconds");
}

absl::StatusOr<StreamHandle> ProcessGpuRuntime::CreateStream() {
  auto stream = std::make_shared<Stream>();
  MutexLock lock(mutex_);
  void* handle = static_cast<CUstream_st*>(stream.get());
  streams_[handle] = std::move(stream);
  return handle;
}

std::shared_ptr<ProcessGpuRuntime::Stream> ProcessGpuRuntime::Find(
    StreamHandle stream) {
  MutexLock lock(mutex_);
  const auto found = streams_.find(stream);
  return found == streams_.end() ? nullptr : found->second;
}

absl::Status ProcessGpuRuntime::DestroyStream(StreamHandle stream) {
  std::shared_ptr<Stream> ended;  // runs what is queued outside of the lock
  MutexLock lock(mutex_);
  const auto found = streams_.find(stream);
  if (found == streams_.end()) return Invalid("DestroyStream");
  ended = std::move(found->second);
  streams_.erase(found);
  return absl::OkStatus();
}

absl::Status ProcessGpuRuntime::Synchronize(StreamHandle stream) {
  const std::shared_ptr<Stream> found = Find(stream);
  if (found == nullptr) return Invalid("Synchronize");
  found->WaitUntilIdle();
  return absl::OkStatus();
}

absl::Status ProcessGpuRuntime::Queue(StreamHandle stream, const char* what,
                                      std::function<void()> run) {
  const std::shared_ptr<Stream> found = Find(stream);
  if (found == nullptr) return Invalid(what);
  found->Add(std::move(run));
  return absl::OkStatus();
}

absl::Status ProcessGpuRuntime::Copy(void* dst, const void* src, int64_t bytes,
                                     StreamHandle stream) {
  SLUICE_RETURN_IF_ERROR(Queue(stream, "Copy", [=] {
    std::memcpy(dst, src, static_cast<size_t>(bytes));
  }));
  // As the real one, it does not return before memory of the host that is not
  // pinned has been read or written.
  if (IsKnown(dst) && IsKnown(src)) return absl::OkStatus();
  return Synchronize(stream);
}

absl::Status ProcessGpuRuntime::Delay(int64_t nanoseconds,
                                      StreamHandle stream) {
  return Queue(stream, "Delay",
               [=] { absl::SleepFor(absl::Nanoseconds(nanoseconds)); });
}

}  // namespace sluice::agent::cuda
