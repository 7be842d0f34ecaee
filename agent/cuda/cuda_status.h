#ifndef SLUICE_AGENT_CUDA_CUDA_STATUS_H_
#define SLUICE_AGENT_CUDA_CUDA_STATUS_H_

// Errors of the CUDA runtime as statuses, without its headers.

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace sluice::agent::cuda {

// The numbers this tree tells apart (cudaError_t).
inline constexpr int kCudaSuccess = 0;
inline constexpr int kCudaInvalidValue = 1;
inline constexpr int kCudaMemoryAllocation = 2;
inline constexpr int kCudaInsufficientDriver = 35;
inline constexpr int kCudaNoDevice = 100;
inline constexpr int kCudaInvalidDevice = 101;
inline constexpr int kCudaInvalidContext = 201;
inline constexpr int kCudaMapFailed = 205;
inline constexpr int kCudaPeerAccessUnsupported = 217;
inline constexpr int kCudaOperatingSystem = 304;
inline constexpr int kCudaInvalidResourceHandle = 400;
inline constexpr int kCudaNotReady = 600;
inline constexpr int kCudaIllegalAddress = 700;
inline constexpr int kCudaNotSupported = 801;

// Returns OK for 0, else "WHAT: NAME (CODE)" with what to do where that is
// known. RESOURCE_EXHAUSTED - no memory; FAILED_PRECONDITION - no driver, too
// old a driver, no device; INVALID_ARGUMENT - a value, device or handle that is
// none; UNIMPLEMENTED - not supported; INTERNAL - anything else, after which
// the process's work on the device is lost in most cases.
absl::Status CudaStatus(int code, absl::string_view name,
                        absl::string_view what);

// Whether after this error every call of the process fails, for ever: its
// context is lost (a kernel's illegal access, an uncorrectable error of memory,
// a fault of another client of MPS).
bool IsContextLost(int code);

}  // namespace sluice::agent::cuda

#endif  // SLUICE_AGENT_CUDA_CUDA_STATUS_H_
