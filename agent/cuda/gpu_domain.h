#ifndef SLUICE_AGENT_CUDA_GPU_DOMAIN_H_
#define SLUICE_AGENT_CUDA_GPU_DOMAIN_H_

// Which GPUs of a node reach each other's memory.

#include <string>

#include "absl/status/statusor.h"
#include "agent/cuda/cuda_runtime.h"

namespace sluice::agent::cuda {

// Divides the GPUs that this process sees into domains, in each of which every
// GPU reaches the memory of all others: in the order of their PCI addresses,
// each joins the first domain that it can. So processes that see the same GPUs
// have the same domains.
//
// Returns the PCI address of the first GPU of the domain of `device`; "" where
// there is one domain only. Errors: those of the runtime.
absl::StatusOr<std::string> GpuDomain(CudaRuntime& runtime, int device);

}  // namespace sluice::agent::cuda

#endif  // SLUICE_AGENT_CUDA_GPU_DOMAIN_H_
