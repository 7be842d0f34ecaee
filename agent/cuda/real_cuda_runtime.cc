// The CUDA runtime, linked statically; the driver is found when first used.

#include <cuda_runtime_api.h>

#include <cstring>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "agent/cuda/cuda_status.h"
#include "agent/cuda/driver_memory.h"
#include "agent/cuda/kernels.h"
#include "agent/cuda/load_cuda_runtime.h"
#include "common/status_macros.h"

namespace sluice::agent::cuda {
namespace {

static_assert(kCudaInvalidValue == cudaErrorInvalidValue);
static_assert(kCudaMemoryAllocation == cudaErrorMemoryAllocation);
static_assert(kCudaInsufficientDriver == cudaErrorInsufficientDriver);
static_assert(kCudaNoDevice == cudaErrorNoDevice);
static_assert(kCudaInvalidDevice == cudaErrorInvalidDevice);
static_assert(kCudaInvalidContext == cudaErrorDeviceUninitialized);
static_assert(kCudaPeerAccessUnsupported == cudaErrorPeerAccessUnsupported);
static_assert(kCudaMapFailed == cudaErrorMapBufferObjectFailed);
static_assert(kCudaOperatingSystem == cudaErrorOperatingSystem);
static_assert(kCudaIllegalAddress == cudaErrorIllegalAddress);
static_assert(kCudaInvalidResourceHandle == cudaErrorInvalidResourceHandle);
static_assert(kCudaNotReady == cudaErrorNotReady);
static_assert(kCudaNotSupported == cudaErrorNotSupported);
static_assert(sizeof(cudaIpcMemHandle_t) == kIpcHandleBytes);
static_assert(sizeof(cudaIpcEventHandle_t) == kIpcHandleBytes);

cudaStream_t AsStream(StreamHandle stream) {
  return static_cast<cudaStream_t>(stream);
}
cudaEvent_t AsEvent(EventHandle event) {
  return static_cast<cudaEvent_t>(event);
}

// cuMemGetAddressRange, which the runtime has no counterpart of.
using AddressRangeFunction = int (*)(unsigned long long* base, size_t* bytes,
                                     unsigned long long address);

class RealCudaRuntime final : public CudaRuntime {
 public:
  absl::StatusOr<int> DeviceCount() override {
    int count = 0;  // not written on failure
    SLUICE_RETURN_IF_ERROR(Check(cudaGetDeviceCount(&count), "counting GPUs"));
    return count;
  }
  absl::StatusOr<int> RuntimeVersion() override {
    int version = 0;
    SLUICE_RETURN_IF_ERROR(
        Check(cudaRuntimeGetVersion(&version), "asking the runtime's version"));
    return version;
  }
  absl::StatusOr<int> DriverVersion() override {
    int version = 0;
    SLUICE_RETURN_IF_ERROR(
        Check(cudaDriverGetVersion(&version), "asking the driver's version"));
    return version;
  }
  absl::StatusOr<DeviceInfo> Describe(int device) override {
    cudaDeviceProp found;
    SLUICE_RETURN_IF_ERROR(
        Check(cudaGetDeviceProperties(&found, device),
              absl::StrCat("asking for the properties of GPU ", device)));
    char bus[32] = {};
    SLUICE_RETURN_IF_ERROR(
        Check(cudaDeviceGetPCIBusId(bus, sizeof(bus), device),
              absl::StrCat("asking for the bus of GPU ", device)));
    return DeviceInfo{
        .name = found.name,
        .major = found.major,
        .minor = found.minor,
        .multiprocessors = found.multiProcessorCount,
        .memory_bytes = static_cast<int64_t>(found.totalGlobalMem),
        .pci_bus_id = bus};
  }
  absl::Status Use(int device) override {
    return Check(cudaSetDevice(device), absl::StrCat("using GPU ", device));
  }
  absl::StatusOr<bool> CanAccessPeer(int device, int peer) override {
    int can = 0;
    SLUICE_RETURN_IF_ERROR(
        Check(cudaDeviceCanAccessPeer(&can, device, peer),
              absl::StrCat("asking whether GPU ", device, " reaches ", peer)));
    return can != 0;
  }
  absl::StatusOr<bool> UsesMps(int device) override {
    int shared = 0;
    SLUICE_RETURN_IF_ERROR(Check(
        cudaDeviceGetAttribute(&shared, cudaDevAttrMpsEnabled, device),
        absl::StrCat("asking whether GPU ", device, " is shared by MPS")));
    return shared != 0;
  }
  absl::StatusOr<int64_t> MemoryInUse(int device) override {
    char bus[32] = {};
    SLUICE_RETURN_IF_ERROR(
        Check(cudaDeviceGetPCIBusId(bus, sizeof(bus), device),
              absl::StrCat("asking for the bus of GPU ", device)));
    return DriverMemoryInUse(bus);
  }
  absl::Status LoadKernels() override {
    return Check(PreloadKernels(), "loading the kernels");
  }
  absl::Status SynchronizeDevice() override {
    return Check(cudaDeviceSynchronize(), "waiting for the GPU");
  }

  absl::StatusOr<void*> Allocate(int64_t bytes) override {
    void* memory = nullptr;
    SLUICE_RETURN_IF_ERROR(
        Check(cudaMalloc(&memory, static_cast<size_t>(bytes)),
              absl::StrCat("allocating ", bytes, " bytes of the GPU")));
    return memory;
  }
  absl::Status Free(void* memory) override {
    return Check(cudaFree(memory), "freeing memory of the GPU");
  }
  absl::StatusOr<void*> AllocatePinned(int64_t bytes) override {
    void* memory = nullptr;
    SLUICE_RETURN_IF_ERROR(
        Check(cudaHostAlloc(&memory, static_cast<size_t>(bytes),
                            cudaHostAllocPortable),
              absl::StrCat("allocating ", bytes, " bytes of pinned memory")));
    return memory;
  }
  absl::Status FreePinned(void* memory) override {
    return Check(cudaFreeHost(memory), "freeing pinned memory");
  }
  absl::Status Pin(void* memory, int64_t bytes) override {
    return Check(cudaHostRegister(memory, static_cast<size_t>(bytes),
                                  cudaHostRegisterPortable),
                 absl::StrCat("pinning ", bytes, " bytes"));
  }
  absl::Status Unpin(void* memory) override {
    return Check(cudaHostUnregister(memory), "unpinning memory");
  }
  absl::StatusOr<MemoryBounds> BoundsOf(const void* address) override {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    SLUICE_RETURN_IF_ERROR(Check(
        cudaGetDriverEntryPointByVersion("cuMemGetAddressRange", &function,
                                         12000, cudaEnableDefault, &found),
        "asking the driver for cuMemGetAddressRange"));
    if (found != cudaDriverEntryPointSuccess || function == nullptr) {
      return absl::UnimplementedError("the driver has no cuMemGetAddressRange");
    }
    unsigned long long base = 0;
    size_t bytes = 0;
    const int code = reinterpret_cast<AddressRangeFunction>(function)(
        &base, &bytes, reinterpret_cast<uintptr_t>(address));
    if (code != 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "an address that is in no memory of the GPU (driver error ", code,
          ")"));
    }
    return MemoryBounds{reinterpret_cast<void*>(static_cast<uintptr_t>(base)),
                        static_cast<int64_t>(bytes)};
  }

  absl::StatusOr<IpcHandle> ExportMemory(void* base) override {
    cudaIpcMemHandle_t handle;
    SLUICE_RETURN_IF_ERROR(Check(cudaIpcGetMemHandle(&handle, base),
                                 "exporting memory of the GPU"));
    return ToBytes(handle);
  }
  absl::StatusOr<void*> ImportMemory(const IpcHandle& handle) override {
    void* base = nullptr;
    SLUICE_RETURN_IF_ERROR(CheckImport(
        cudaIpcOpenMemHandle(&base, FromBytes<cudaIpcMemHandle_t>(handle),
                             cudaIpcMemLazyEnablePeerAccess),
        "mapping GPU memory of another process"));
    return base;
  }
  absl::Status CloseImported(void* base) override {
    return Check(cudaIpcCloseMemHandle(base),
                 "unmapping GPU memory of another process");
  }
  absl::StatusOr<IpcHandle> ExportEvent(EventHandle event) override {
    cudaIpcEventHandle_t handle;
    SLUICE_RETURN_IF_ERROR(Check(cudaIpcGetEventHandle(&handle, AsEvent(event)),
                                 "exporting an event"));
    return ToBytes(handle);
  }
  absl::StatusOr<EventHandle> ImportEvent(const IpcHandle& handle) override {
    cudaEvent_t event = nullptr;
    SLUICE_RETURN_IF_ERROR(CheckImport(
        cudaIpcOpenEventHandle(&event, FromBytes<cudaIpcEventHandle_t>(handle)),
        "opening another process's event"));
    return static_cast<EventHandle>(event);
  }

  absl::StatusOr<StreamHandle> CreateStream() override {
    cudaStream_t stream = nullptr;
    SLUICE_RETURN_IF_ERROR(
        Check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
              "making a stream"));
    return static_cast<StreamHandle>(stream);
  }
  absl::Status DestroyStream(StreamHandle stream) override {
    return Check(cudaStreamDestroy(AsStream(stream)), "ending a stream");
  }
  absl::Status Synchronize(StreamHandle stream) override {
    return Check(cudaStreamSynchronize(AsStream(stream)),
                 "waiting for a stream");
  }
  absl::StatusOr<EventHandle> CreateEvent(EventKind kind) override {
    unsigned flags = cudaEventDisableTiming;
    if (kind == EventKind::kTimed) flags = cudaEventDefault;
    if (kind == EventKind::kInterprocess) flags |= cudaEventInterprocess;
    cudaEvent_t event = nullptr;
    SLUICE_RETURN_IF_ERROR(
        Check(cudaEventCreateWithFlags(&event, flags), "making an event"));
    return static_cast<EventHandle>(event);
  }
  absl::Status DestroyEvent(EventHandle event) override {
    return Check(cudaEventDestroy(AsEvent(event)), "ending an event");
  }
  absl::Status Record(EventHandle event, StreamHandle stream) override {
    return Check(cudaEventRecord(AsEvent(event), AsStream(stream)),
                 "recording an event");
  }
  absl::Status Wait(StreamHandle stream, EventHandle event) override {
    return Check(cudaStreamWaitEvent(AsStream(stream), AsEvent(event), 0),
                 "letting a stream wait for an event");
  }
  absl::StatusOr<bool> IsDone(EventHandle event) override {
    const cudaError_t code = cudaEventQuery(AsEvent(event));
    if (code == cudaErrorNotReady) {
      static_cast<void>(cudaGetLastError());
      return false;
    }
    SLUICE_RETURN_IF_ERROR(Check(code, "asking an event"));
    return true;
  }
  absl::StatusOr<double> ElapsedSeconds(EventHandle from,
                                        EventHandle to) override {
    float milliseconds = 0;
    SLUICE_RETURN_IF_ERROR(
        Check(cudaEventElapsedTime(&milliseconds, AsEvent(from), AsEvent(to)),
              "asking the time between events"));
    return static_cast<double>(milliseconds) / 1e3;
  }

  absl::Status Copy(void* dst, const void* src, int64_t bytes,
                    StreamHandle stream) override {
    return Check(cudaMemcpyAsync(dst, src, static_cast<size_t>(bytes),
                                 cudaMemcpyDefault, AsStream(stream)),
                 absl::StrCat("copying ", bytes, " bytes"));
  }
  absl::Status CopyRows(void* dst, int64_t dst_pitch, const void* src,
                        int64_t src_pitch, int64_t width, int64_t rows,
                        StreamHandle stream) override {
    return Check(
        cudaMemcpy2DAsync(dst, static_cast<size_t>(dst_pitch), src,
                          static_cast<size_t>(src_pitch),
                          static_cast<size_t>(width), static_cast<size_t>(rows),
                          cudaMemcpyDefault, AsStream(stream)),
        absl::StrCat("copying ", rows, " rows of ", width, " bytes"));
  }
  absl::Status Fill(void* dst, uint8_t value, int64_t bytes,
                    StreamHandle stream) override {
    return Check(cudaMemsetAsync(dst, value, static_cast<size_t>(bytes),
                                 AsStream(stream)),
                 absl::StrCat("filling ", bytes, " bytes"));
  }

  absl::Status CopyBoxes(const BoxBatch& batch, uint32_t max_blocks,
                         StreamHandle stream) override {
    return Check(LaunchCopy(batch, max_blocks, stream), "copying boxes");
  }
  absl::Status CastBoxes(const BoxBatch& batch, Element from, Element to,
                         uint32_t max_blocks, StreamHandle stream) override {
    return Check(LaunchCast(batch, from, to, max_blocks, stream),
                 "casting boxes");
  }
  absl::Status BlendBoxes(const BoxBatch& batch, Element from, Element to,
                          float eta, uint32_t max_blocks,
                          StreamHandle stream) override {
    return Check(LaunchBlend(batch, from, to, eta, max_blocks, stream),
                 "blending boxes");
  }
  absl::Status DigestBoxes(const BoxBatch& batch, DigestSlot* slots,
                           uint32_t max_blocks, StreamHandle stream) override {
    return Check(LaunchDigest(batch, slots, max_blocks, stream),
                 "digesting boxes");
  }
  absl::Status Quantise(const QuantBatch& batch, Element plain,
                        uint32_t max_blocks, StreamHandle stream) override {
    return Check(LaunchQuantise(batch, plain, max_blocks, stream),
                 "quantising matrices");
  }
  absl::Status Dequantise(const QuantBatch& batch, Element plain,
                          uint32_t max_blocks, StreamHandle stream) override {
    return Check(LaunchDequantise(batch, plain, max_blocks, stream),
                 "dequantising matrices");
  }
  absl::Status ReadPass(const void* data, int64_t bytes,
                        unsigned long long* sum, uint32_t max_blocks,
                        StreamHandle stream) override {
    return Check(LaunchReadPass(data, static_cast<uint64_t>(bytes), sum,
                                max_blocks, stream),
                 "reading memory");
  }
  absl::Status Delay(int64_t nanoseconds, StreamHandle stream) override {
    return Check(LaunchDelay(static_cast<uint64_t>(nanoseconds), stream),
                 "delaying a stream");
  }

 private:
  template <typename Handle>
  static IpcHandle ToBytes(const Handle& handle) {
    IpcHandle bytes;
    std::memcpy(bytes.data(), &handle, bytes.size());
    return bytes;
  }
  absl::Status Check(int code, absl::string_view what) {
    if (code == kCudaSuccess) return absl::OkStatus();
    // Not left behind for the next call that asks for the last error.
    static_cast<void>(cudaGetLastError());
    absl::Status status = CudaStatus(
        code, cudaGetErrorName(static_cast<cudaError_t>(code)), what);
    if (IsContextLost(code)) TellLost(status);
    return status;
  }
  // What the driver says of a handle whose process has ended is not documented.
  absl::Status CheckImport(int code, absl::string_view what) {
    const absl::Status status = Check(code, what);
    const bool of_handle = absl::IsInvalidArgument(status) ||
                           code == kCudaMapFailed ||
                           code == kCudaOperatingSystem;
    if (!of_handle) return status;
    return absl::InvalidArgumentError(
        absl::StrCat(status.message(),
                     " (its process must live, see this GPU, share /dev/shm "
                     "and the IPC namespace, and have another process id)"));
  }

  template <typename Handle>
  static Handle FromBytes(const IpcHandle& bytes) {
    Handle handle;
    std::memcpy(&handle, bytes.data(), bytes.size());
    return handle;
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<CudaRuntime>> LoadCudaRuntime() {
  auto runtime = std::make_unique<RealCudaRuntime>();
  const absl::StatusOr<int> count = runtime->DeviceCount();
  if (!count.ok()) {
    const int driver = runtime->DriverVersion().value_or(0);
    const int needed = runtime->RuntimeVersion().value_or(CUDART_VERSION);
    return absl::Status(
        count.status().code(),
        absl::StrCat(count.status().message(), "; the driver offers CUDA ",
                     driver, ", this program needs ", needed));
  }
  if (*count == 0) return CudaStatus(kCudaNoDevice, "no device", "CUDA");
  return runtime;
}

}  // namespace sluice::agent::cuda
