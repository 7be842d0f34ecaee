#include "agent/cuda/driver_memory.h"

#include <dlfcn.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace sluice::agent::cuda {
namespace {

constexpr char kLibrary[] = "libnvidia-ml.so.1";

// As nvml.h declares them; that header is no part of the toolkit everywhere.
using NvmlDevice = struct nvmlDevice_st*;
struct NvmlMemory {
  unsigned long long total;
  unsigned long long free;
  unsigned long long used;
};
using NvmlInit = int (*)();
using NvmlFindDevice = int (*)(const char* pci_address, NvmlDevice* device);
using NvmlMemoryInfo = int (*)(NvmlDevice device, NvmlMemory* memory);

// Never closed: other libraries of the process use it as well.
struct Nvml {
  int started = -1;  // nvmlReturn_t of its start, negative without the library
  NvmlFindDevice find = nullptr;
  NvmlMemoryInfo memory = nullptr;

  Nvml() {
    void* const library = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return;
    const auto init = reinterpret_cast<NvmlInit>(dlsym(library, "nvmlInit_v2"));
    find = reinterpret_cast<NvmlFindDevice>(
        dlsym(library, "nvmlDeviceGetHandleByPciBusId_v2"));
    memory = reinterpret_cast<NvmlMemoryInfo>(
        dlsym(library, "nvmlDeviceGetMemoryInfo"));
    if (init == nullptr || find == nullptr || memory == nullptr) return;
    started = init();
  }
};

absl::Status Failed(absl::string_view what, int code) {
  return absl::UnavailableError(absl::StrCat(what, ": NVML error ", code));
}

}  // namespace

absl::StatusOr<int64_t> DriverMemoryInUse(const char* pci_address) {
  static const Nvml nvml;
  if (nvml.started < 0) {
    return absl::UnimplementedError(
        absl::StrCat(kLibrary, ": not found, or without its functions"));
  }
  if (nvml.started != 0) return Failed("starting NVML", nvml.started);
  NvmlDevice device = nullptr;
  if (const int code = nvml.find(pci_address, &device); code != 0) {
    return Failed(absl::StrCat("finding the GPU at ", pci_address), code);
  }
  NvmlMemory memory{};
  if (const int code = nvml.memory(device, &memory); code != 0) {
    return Failed(absl::StrCat("asking for the memory of ", pci_address), code);
  }
  return static_cast<int64_t>(memory.used);
}

}  // namespace sluice::agent::cuda
