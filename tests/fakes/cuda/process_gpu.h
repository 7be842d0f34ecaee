#ifndef SLUICE_TESTS_FAKES_CUDA_PROCESS_GPU_H_
#define SLUICE_TESTS_FAKES_CUDA_PROCESS_GPU_H_

// A CUDA runtime without a GPU whose memory and events real processes share:
// the memory of the device is memfds, a handle names the process and descriptor
// of one, an event is two counters in a page that all its processes map.
//
// A context takes kContextBytes of its device, as long as the process lives.
// MPS is on where the environment has a CUDA_MPS_PIPE_DIRECTORY.
//
// Each stream is a thread that runs what is queued at once, and Delay takes its
// time: what somebody forgets to wait for is read too early. Unmapping memory
// that a stream still uses ends the process, as the real one may.

#include <atomic>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/cuda/cuda_runtime.h"
#include "agent/device/mapped_memory.h"
#include "common/mutex.h"
#include "tests/fakes/cuda/queued_kernels.h"

namespace sluice::agent::cuda {

inline constexpr int64_t kContextBytes = int64_t{500} << 20;

// What this process holds.
struct ProcessGpuHoldings {
  size_t allocations = 0;
  size_t pinned = 0;
  size_t imports = 0;
  size_t streams = 0;
  size_t events = 0;
  friend bool operator==(const ProcessGpuHoldings&,
                         const ProcessGpuHoldings&) = default;
};

class ProcessGpuRuntime : public QueuedKernels {
 public:
  struct Options {
    int devices = 8;  // that are seen
    // Of them, so many that follow one another reach each other's memory, and
    // no others'; 0: all reach all.
    int reach = 0;
    // By Pin, together: then there is no more memory.
    int64_t most_pinned_bytes = std::numeric_limits<int64_t>::max();
  };

  ProcessGpuRuntime() : ProcessGpuRuntime(Options()) {}
  explicit ProcessGpuRuntime(const Options& options) : options_(options) {}
  ~ProcessGpuRuntime() override;

  ProcessGpuHoldings holdings() const;

  absl::StatusOr<int> DeviceCount() override { return options_.devices; }
  absl::StatusOr<int> RuntimeVersion() override { return 13000; }
  absl::StatusOr<int> DriverVersion() override { return 13010; }
  absl::StatusOr<DeviceInfo> Describe(int device) override;
  absl::Status Use(int device) override;
  absl::StatusOr<bool> CanAccessPeer(int device, int peer) override;
  absl::StatusOr<bool> UsesMps(int device) override;
  absl::StatusOr<int64_t> MemoryInUse(int device) override;
  absl::Status SynchronizeDevice() override;
  absl::StatusOr<void*> Allocate(int64_t bytes) override;
  absl::Status Free(void* memory) override;
  absl::StatusOr<void*> AllocatePinned(int64_t bytes) override;
  absl::Status FreePinned(void* memory) override;
  absl::Status Pin(void* memory, int64_t bytes) override;
  absl::Status Unpin(void* memory) override;
  absl::StatusOr<MemoryBounds> BoundsOf(const void* address) override;
  absl::StatusOr<IpcHandle> ExportMemory(void* base) override;
  absl::StatusOr<void*> ImportMemory(const IpcHandle& handle) override;
  absl::Status CloseImported(void* base) override;
  absl::StatusOr<IpcHandle> ExportEvent(EventHandle event) override;
  absl::StatusOr<EventHandle> ImportEvent(const IpcHandle& handle) override;
  absl::StatusOr<StreamHandle> CreateStream() override;
  absl::Status DestroyStream(StreamHandle stream) override;
  absl::Status Synchronize(StreamHandle stream) override;
  absl::StatusOr<EventHandle> CreateEvent(EventKind kind) override;
  absl::Status DestroyEvent(EventHandle event) override;
  absl::Status Record(EventHandle event, StreamHandle stream) override;
  absl::Status Wait(StreamHandle stream, EventHandle event) override;
  absl::StatusOr<bool> IsDone(EventHandle event) override;
  absl::StatusOr<double> ElapsedSeconds(EventHandle from,
                                        EventHandle to) override;
  absl::Status Copy(void* dst, const void* src, int64_t bytes,
                    StreamHandle stream) override;
  absl::Status Delay(int64_t nanoseconds, StreamHandle stream) override;

 protected:
  absl::Status Queue(StreamHandle stream, const char* what,
                     std::function<void()> run) override;

 private:
  bool Reaches(int device, int peer) const {
    return options_.reach == 0 ||
           device / options_.reach == peer / options_.reach;
  }
  class Stream;
  struct Counters {
    std::atomic<uint64_t> recorded;  // Records queued so far
    std::atomic<uint64_t> reached;   // of them, those a stream has come to
  };
  // An event as one process sees it.
  struct Event {
    std::shared_ptr<MappedMemory> page;
    bool interprocess = false;
    int owner = 0;  // process
    Counters& counters() const {
      return *reinterpret_cast<Counters*>(page->data());
    }
  };
  struct Memory {
    std::shared_ptr<MappedMemory> mapping;
    int imports = 0;  // of another process's memory: how often
    int device = 0;   // of this process's
  };

  std::shared_ptr<Stream> Find(StreamHandle stream);
  std::shared_ptr<Event> FindEvent(EventHandle event);
  EventHandle Keep(std::shared_ptr<Event> event);
  // Whether it is memory of the device or pinned.
  bool IsKnown(const void* address);

  const Options options_;
  mutable Mutex mutex_;
  // Devices that this process has a context on: those it has used.
  std::set<int> contexts_ ABSL_GUARDED_BY(mutex_);
  // By first byte.
  std::map<const std::byte*, Memory> own_ ABSL_GUARDED_BY(mutex_);
  std::map<const std::byte*, Memory> imported_ ABSL_GUARDED_BY(mutex_);
  std::map<const std::byte*, int64_t> pinned_ ABSL_GUARDED_BY(mutex_);
  int64_t pinned_bytes_ ABSL_GUARDED_BY(mutex_) = 0;  // of those, by Pin
  std::map<std::string, const std::byte*> import_of_ ABSL_GUARDED_BY(mutex_);
  std::map<void*, std::shared_ptr<Stream>> streams_ ABSL_GUARDED_BY(mutex_);
  std::map<void*, std::shared_ptr<Event>> events_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice::agent::cuda

#endif  // SLUICE_TESTS_FAKES_CUDA_PROCESS_GPU_H_
