#include "agent/cuda/pinned_host_device.h"

#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace sluice::agent::cuda {
namespace {

// Pinned already; unpinned before it is unmapped.
class PinnedMemory final : public MappedMemory {
 public:
  PinnedMemory(CudaRuntime* runtime, int device,
               std::shared_ptr<MappedMemory> host)
      : runtime_(runtime), device_(device), host_(std::move(host)) {}
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;
  ~PinnedMemory() override {
    absl::Status status = runtime_->Use(device_);
    // What is queued may still touch it.
    if (status.ok()) status = runtime_->SynchronizeDevice();
    const absl::Status unpinned = runtime_->Unpin(host_->data());
    if (status.ok()) status = unpinned;
    if (!status.ok()) LogWarn("memory not unpinned", {{"status", status}});
  }

  std::byte* data() const override { return host_->data(); }
  int64_t size() const override { return host_->size(); }
  MemorySpace space() const override { return MemorySpace::kPinned; }
  int descriptor() const override { return host_->descriptor(); }

 private:
  CudaRuntime* const runtime_;
  const int device_;
  const std::shared_ptr<MappedMemory> host_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<MappedMemory>> PinnedHostDevice::Allocate(
    int64_t bytes, absl::string_view label) {
  SLUICE_ASSIGN_OR_RETURN(auto host, host_.Allocate(bytes, label));
  return Pin(std::move(host),
             absl::StrCat("arena \"", label, "\" of the host"));
}

absl::StatusOr<std::shared_ptr<MappedMemory>> PinnedHostDevice::Adopt(
    UniqueFd descriptor) {
  SLUICE_ASSIGN_OR_RETURN(auto host, host_.Adopt(std::move(descriptor)));
  return Pin(std::move(host), "memory that a worker lends");
}

absl::StatusOr<std::shared_ptr<MappedMemory>> PinnedHostDevice::Pin(
    std::shared_ptr<MappedMemory> host, absl::string_view what) {
  SLUICE_RETURN_IF_ERROR(runtime_->Use(device_));
  SLUICE_RETURN_IF_ERROR(
      Annotate(runtime_->Pin(host->data(), host->size()), what));
  return std::make_shared<PinnedMemory>(runtime_, device_, std::move(host));
}

}  // namespace sluice::agent::cuda
