#ifndef SLUICE_AGENT_CUDA_DRIVER_MEMORY_H_
#define SLUICE_AGENT_CUDA_DRIVER_MEMORY_H_

// What the driver's management library (NVML) says of a GPU's memory. It is
// found when first asked, and needs no context on the device.

#include <cstdint>

#include "absl/status/statusor.h"

namespace sluice::agent::cuda {

// Bytes of the GPU at a PCI address ("0000:3b:00.0") that all processes use.
// Thread-safe. Errors: UNIMPLEMENTED - there is no libnvidia-ml.so.1, or not
// the functions; UNAVAILABLE - it answers with an error.
absl::StatusOr<int64_t> DriverMemoryInUse(const char* pci_address);

}  // namespace sluice::agent::cuda

#endif  // SLUICE_AGENT_CUDA_DRIVER_MEMORY_H_
