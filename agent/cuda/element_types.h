#ifndef SLUICE_AGENT_CUDA_ELEMENT_TYPES_H_
#define SLUICE_AGENT_CUDA_ELEMENT_TYPES_H_

// The element types that kernels cast, as the rest of the tree names them.

#include "absl/status/statusor.h"
#include "agent/cuda/descriptors.h"
#include "common/dtype.h"

namespace sluice::agent::cuda {

DType DTypeOf(Element element);

// Errors: UNIMPLEMENTED - no kernel casts the type.
absl::StatusOr<Element> ElementOf(DType dtype);

}  // namespace sluice::agent::cuda

#endif  // SLUICE_AGENT_CUDA_ELEMENT_TYPES_H_
