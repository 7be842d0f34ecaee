#include "agent/nccl/cuda_stream.h"

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "agent/cuda/handles.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

class CudaNcclStream final : public NcclStream {
 public:
  static absl::StatusOr<std::unique_ptr<NcclStream>> Create(
      cuda::CudaRuntime& runtime, int device) {
    SLUICE_ASSIGN_OR_RETURN(auto stream,
                            cuda::CudaStream::Create(runtime, device));
    SLUICE_ASSIGN_OR_RETURN(
        auto event,
        cuda::CudaEvent::Create(runtime, device, cuda::EventKind::kPlain));
    SLUICE_ASSIGN_OR_RETURN(void* const scratch,
                            runtime.Allocate(kScratchBytes));
    std::unique_ptr<CudaNcclStream> made(new CudaNcclStream(
        runtime, device, std::move(stream), std::move(event), scratch));
    SLUICE_RETURN_IF_ERROR(
        runtime.Fill(scratch, 0, kScratchBytes, made->stream_.get()));
    return made;
  }

  // The scratch memory goes when nothing on the stream touches it any more.
  ~CudaNcclStream() override {
    for (const absl::Status& status :
         {runtime_.Use(device_), runtime_.Synchronize(stream_.get()),
          runtime_.Free(scratch_)}) {
      if (!status.ok()) {
        LogWarn("stream of NCCL not freed", {{"reason", status.ToString()}});
      }
    }
  }

  NcclStreamHandle handle() const override {
    return static_cast<NcclStreamHandle>(stream_.get());
  }
  void* scratch() const override { return scratch_; }
  absl::Status HoldBack(void* event) override {
    return runtime_.Wait(stream_.get(), event);
  }
  absl::Status Record() override { return event_.Record(stream_); }
  absl::StatusOr<bool> Reached() override { return event_.IsDone(); }

 private:
  CudaNcclStream(cuda::CudaRuntime& runtime, int device,
                 cuda::CudaStream stream, cuda::CudaEvent event, void* scratch)
      : runtime_(runtime),
        device_(device),
        stream_(std::move(stream)),
        event_(std::move(event)),
        scratch_(scratch) {}

  cuda::CudaRuntime& runtime_;
  const int device_;
  cuda::CudaStream stream_;
  cuda::CudaEvent event_;
  void* const scratch_;
};

class CudaNcclDevice final : public NcclDevice {
 public:
  CudaNcclDevice(cuda::CudaRuntime& runtime, int device, std::string bus_id)
      : runtime_(runtime), device_(device), bus_id_(std::move(bus_id)) {}

  absl::Status Use() override { return runtime_.Use(device_); }
  std::string BusId() const override { return bus_id_; }
  absl::StatusOr<std::unique_ptr<NcclStream>> NewStream() override {
    SLUICE_RETURN_IF_ERROR(Use());
    return CudaNcclStream::Create(runtime_, device_);
  }

 private:
  cuda::CudaRuntime& runtime_;
  const int device_;
  const std::string bus_id_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<NcclDevice>> MakeCudaNcclDevice(
    cuda::CudaRuntime& runtime, int device) {
  SLUICE_ASSIGN_OR_RETURN(cuda::DeviceInfo info, runtime.Describe(device));
  return std::make_unique<CudaNcclDevice>(runtime, device,
                                          std::move(info.pci_bus_id));
}

}  // namespace sluice::agent
