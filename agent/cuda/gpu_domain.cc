#include "agent/cuda/gpu_domain.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "common/status_macros.h"

namespace sluice::agent::cuda {
namespace {

struct Gpu {
  std::string address;  // PCI
  int index = 0;        // as this process counts
};
using Domain = std::vector<Gpu>;

// Whether the GPU and all of the domain reach each other.
absl::StatusOr<bool> Fits(CudaRuntime& runtime, int gpu, const Domain& domain) {
  for (const Gpu& other : domain) {
    SLUICE_ASSIGN_OR_RETURN(const bool there,
                            runtime.CanAccessPeer(gpu, other.index));
    SLUICE_ASSIGN_OR_RETURN(const bool back,
                            runtime.CanAccessPeer(other.index, gpu));
    if (!there || !back) return false;
  }
  return true;
}

absl::Status Join(CudaRuntime& runtime, Gpu gpu, std::vector<Domain>& domains) {
  for (Domain& domain : domains) {
    SLUICE_ASSIGN_OR_RETURN(const bool fits, Fits(runtime, gpu.index, domain));
    if (!fits) continue;
    domain.push_back(std::move(gpu));
    return absl::OkStatus();
  }
  domains.push_back({std::move(gpu)});
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> GpuDomain(CudaRuntime& runtime, int device) {
  SLUICE_ASSIGN_OR_RETURN(const int count, runtime.DeviceCount());
  std::vector<Gpu> gpus;
  for (int i = 0; i < count; ++i) {
    SLUICE_ASSIGN_OR_RETURN(const DeviceInfo info, runtime.Describe(i));
    gpus.push_back({info.pci_bus_id, i});
  }
  std::sort(gpus.begin(), gpus.end(), [](const Gpu& a, const Gpu& b) {
    return std::pair(a.address, a.index) < std::pair(b.address, b.index);
  });
  std::vector<Domain> domains;
  for (Gpu& gpu : gpus) {
    SLUICE_RETURN_IF_ERROR(Join(runtime, std::move(gpu), domains));
  }
  if (domains.size() == 1) return std::string();
  for (const Domain& domain : domains) {
    for (const Gpu& gpu : domain) {
      if (gpu.index == device) return domain.front().address;
    }
  }
  return absl::InternalError("a GPU that is in no domain");
}

}  // namespace sluice::agent::cuda
