#include "agent/agent_device.h"

#include <cstdlib>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "agent/cuda/gpu_domain.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// The number of the GPU; nullopt for the host.
absl::StatusOr<std::optional<int>> Parse(absl::string_view name) {
  if (name == "host") return std::optional<int>();
  absl::string_view number = name;
  if (name == "cuda") return std::optional<int>(0);
  int index = 0;
  if (absl::ConsumePrefix(&number, "cuda:") && !number.empty() &&
      number.find_first_not_of("0123456789") == absl::string_view::npos &&
      absl::SimpleAtoi(number, &index)) {
    return std::optional<int>(index);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "device: expected \"host\", \"cuda\" or \"cuda:N\", found \"", name,
      "\""));
}

// 13010 is 13.1.
std::string VersionText(int version) {
  return absl::StrCat(version / 1000, ".", version % 1000 / 10);
}

// What a context took, which others may have changed a little meanwhile.
std::string ContextText(const absl::StatusOr<int64_t>& before,
                        const absl::StatusOr<int64_t>& after) {
  if (!before.ok() || !after.ok()) return "";
  return absl::StrFormat(", context %.0f MB",
                         static_cast<double>(*after - *before) / 1e6);
}

std::string MpsText(const absl::StatusOr<bool>& uses) {
  if (!uses.ok()) return "";
  return *uses ? ", MPS on"
               : ", MPS off (kernels of workers and of this agent take turns; "
                 "see docs/gpu.md)";
}

}  // namespace

std::string AgentDevice::NameFromEnvironment() {
  const char* name = std::getenv("SLUICE_DEVICE");
  return name != nullptr && *name != '\0' ? name : "host";
}

absl::Status AgentDevice::Check(absl::string_view name) {
  return Parse(name).status();
}

absl::StatusOr<std::unique_ptr<AgentDevice>> AgentDevice::Open(
    absl::string_view name, const LoadCuda& load, uint32_t gpu_blocks) {
  SLUICE_ASSIGN_OR_RETURN(const std::optional<int> index, Parse(name));
  std::unique_ptr<AgentDevice> out(new AgentDevice);
  if (index.has_value()) {
    SLUICE_RETURN_IF_ERROR(Annotate(out->OpenCuda(*index, load, gpu_blocks),
                                    absl::StrCat("device \"", name, "\"")));
  }
  return out;
}

absl::Status AgentDevice::OpenCuda(int index, const LoadCuda& load,
                                   uint32_t gpu_blocks) {
  if (load == nullptr) {
    return absl::UnimplementedError("this program serves no GPU");
  }
  SLUICE_ASSIGN_OR_RETURN(runtime_, load());
  const absl::StatusOr<int64_t> before = runtime_->MemoryInUse(index);
  SLUICE_ASSIGN_OR_RETURN(cuda_, cuda::CudaDevice::Open(runtime_.get(), index));
  const absl::StatusOr<int64_t> after = runtime_->MemoryInUse(index);
  SLUICE_ASSIGN_OR_RETURN(const std::string domain,
                          cuda::GpuDomain(*runtime_, index));
  kind_ = domain.empty() ? "cuda" : absl::StrCat("cuda@", domain);
  SLUICE_ASSIGN_OR_RETURN(const int runtime, runtime_->RuntimeVersion());
  SLUICE_ASSIGN_OR_RETURN(const int driver, runtime_->DriverVersion());
  mover_ =
      std::make_unique<cuda::CudaPieceMover>(runtime_.get(), index, gpu_blocks);
  pinned_ = std::make_unique<cuda::PinnedHostDevice>(runtime_.get(), index);
  device_packer_ =
      std::make_unique<cuda::DevicePacker>(*mover_, *runtime_, index);
  const cuda::DeviceInfo& info = cuda_->info();
  index_ = index;
  description_ = absl::StrFormat(
      "%s (GPU %d at %s), %.0f GB, compute capability %d.%d, CUDA runtime %s, "
      "driver %s",
      info.name, index, info.pci_bus_id,
      static_cast<double>(info.memory_bytes) / 1e9, info.major, info.minor,
      VersionText(runtime), VersionText(driver));
  absl::StrAppend(&description_, ContextText(before, after),
                  MpsText(runtime_->UsesMps(index)));
  return absl::OkStatus();
}

}  // namespace sluice::agent
