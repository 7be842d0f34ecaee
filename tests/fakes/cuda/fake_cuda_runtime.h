#ifndef SLUICE_TESTS_FAKES_CUDA_FAKE_CUDA_RUNTIME_H_
#define SLUICE_TESTS_FAKES_CUDA_FAKE_CUDA_RUNTIME_H_

// A GPU made of host memory, and the CUDA runtimes of several processes on it.
//
// What is queued on a stream runs late: only when somebody waits for it, so
// that a forgotten wait reads what was there before. Everything that must be
// given back is counted, and any call can be made to fail.

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/cuda/cuda_runtime.h"
#include "common/mutex.h"
#include "tests/fakes/cuda/queued_kernels.h"

namespace sluice::agent::cuda {

// What is held; all zero once everything was given back.
struct CudaHoldings {
  int allocations = 0;
  int pinned = 0;
  int imports = 0;
  int streams = 0;
  int events = 0;
  friend bool operator==(const CudaHoldings&, const CudaHoldings&) = default;
};

// The GPU itself; outlives its runtimes. Thread-safe.
class FakeGpu {
 public:
  struct Allocation {
    std::vector<uint64_t> words;  // aligned
    int64_t bytes = 0;
    int process = 0;
    bool exportable = true;
    bool pinned = false;
  };
  struct Stream;
  struct Event {
    int process = 0;
    bool interprocess = false;
    uint64_t recorded = 0;     // Records queued so far
    uint64_t reached = 0;      // of them, those the stream has come to
    Stream* stream = nullptr;  // of the last Record
  };
  struct Operation {
    std::function<void()> run;
    Event* event = nullptr;  // to wait for
    uint64_t ticket = 0;
    Stream* stream = nullptr;  // on which the event was recorded
  };
  struct Stream {
    std::deque<Operation> operations;
  };

  CudaHoldings holdings() const;
  // Unmappings while something was still queued: it could touch the memory.
  int early_unmappings() const;
  // Makes the `nth` fallible call from now (0 is the next) fail with this code;
  // calls that give something back do not fail. Negative: none. After an error
  // by which a context is lost, all later calls fail, too.
  void FailCall(int nth, int code);
  // Whether that call has come.
  bool Failed() const;
  // Whether a GPU has room for no more than so many bytes.
  void LimitMemory(int64_t bytes);
  // As if the process had been killed: its handles lead nowhere from now on.
  void EndProcess(int process);
  // Memory that cannot be exported, as expandable segments.
  void* AllocateVirtual(int process, int64_t bytes);

 private:
  friend class FakeCudaRuntime;
  mutable Mutex mutex_;
  std::map<uintptr_t, Allocation> allocations_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, uintptr_t> exported_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Event*> exported_events_ ABSL_GUARDED_BY(mutex_);
  std::map<Event*, std::unique_ptr<Event>> events_ ABSL_GUARDED_BY(mutex_);
  std::map<int, bool> ended_ ABSL_GUARDED_BY(mutex_);
  CudaHoldings holdings_ ABSL_GUARDED_BY(mutex_);
  int64_t limit_ ABSL_GUARDED_BY(mutex_) = int64_t{1} << 40;
  int64_t used_ ABSL_GUARDED_BY(mutex_) = 0;
  int early_unmappings_ ABSL_GUARDED_BY(mutex_) = 0;
  int fail_in_ ABSL_GUARDED_BY(mutex_) = -1;
  int fail_code_ ABSL_GUARDED_BY(mutex_) = 0;
  bool failed_ ABSL_GUARDED_BY(mutex_) = false;
};

class FakeCudaRuntime final : public QueuedKernels {
 public:
  FakeCudaRuntime(FakeGpu* gpu, int process) : gpu_(gpu), process_(process) {}
  ~FakeCudaRuntime() override;

  absl::StatusOr<int> DeviceCount() override;
  absl::StatusOr<int> RuntimeVersion() override { return 13000; }
  absl::StatusOr<int> DriverVersion() override { return 13000; }
  absl::StatusOr<DeviceInfo> Describe(int device) override;
  absl::Status Use(int device) override;
  absl::StatusOr<bool> CanAccessPeer(int device, int peer) override;
  absl::StatusOr<bool> UsesMps(int) override { return false; }
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

 private:
  using Stream = FakeGpu::Stream;

  // The failure that was asked for, if its turn has come.
  absl::Status Call(const char* what)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(gpu_->mutex_);
  // Whether it is memory of the device or pinned.
  bool IsKnown(const void* address) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(gpu_->mutex_);
  absl::StatusOr<void*> Take(int64_t bytes, bool pinned);
  absl::Status GiveBack(void* memory, bool pinned);
  absl::Status Queue(StreamHandle stream, const char* what,
                     std::function<void()> run) override;
  // Runs the front operations of a stream: all, or until an event is reached.
  static void Run(Stream& stream, const FakeGpu::Event* until, uint64_t ticket);

  FakeGpu* const gpu_;
  const int process_;
  std::map<Stream*, std::unique_ptr<Stream>> streams_
      ABSL_GUARDED_BY(gpu_->mutex_);
  std::map<uintptr_t, int> imports_ ABSL_GUARDED_BY(gpu_->mutex_);
};

}  // namespace sluice::agent::cuda

#endif  // SLUICE_TESTS_FAKES_CUDA_FAKE_CUDA_RUNTIME_H_
