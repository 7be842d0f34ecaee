#include "agent/cuda/cuda_status.h"

#include "absl/strings/str_cat.h"

namespace sluice::agent::cuda {

absl::Status CudaStatus(int code, absl::string_view name,
                        absl::string_view what) {
  if (code == kCudaSuccess) return absl::OkStatus();
  const std::string message = absl::StrCat(what, ": ", name, " (", code, ")");
  switch (code) {
    case kCudaMemoryAllocation:
      return absl::ResourceExhaustedError(message);
    case kCudaInsufficientDriver:
      return absl::FailedPreconditionError(
          absl::StrCat(message,
                       ": no NVIDIA driver, or one too old for this program's "
                       "CUDA runtime"));
    case kCudaNoDevice:
      return absl::FailedPreconditionError(absl::StrCat(
          message, ": no GPU is visible (see CUDA_VISIBLE_DEVICES)"));
    case kCudaInvalidValue:
    case kCudaInvalidDevice:
    case kCudaInvalidContext:
    case kCudaInvalidResourceHandle:
      return absl::InvalidArgumentError(message);
    case kCudaPeerAccessUnsupported:
      return absl::FailedPreconditionError(absl::StrCat(
          message,
          ": these GPUs do not reach each other's memory. Agents find that out "
          "where they see all GPUs of their node: choose with --device cuda:N, "
          "not with CUDA_VISIBLE_DEVICES"));
    case kCudaNotSupported:
      return absl::UnimplementedError(message);
    default:
      return absl::InternalError(message);
  }
}

bool IsContextLost(int code) {
  switch (code) {
    case 214:  // an uncorrectable error of memory
    case 220:  // or of NVLink
    case kCudaIllegalAddress:
    case 702:  // a kernel ran too long
    case 709:  // the context was destroyed
    case 710:  // an assertion
    case 714:  // a stack error
    case 715:  // an illegal instruction
    case 716:  // a misaligned address
    case 717:  // an address of no address space
    case 718:  // a bad program counter
    case 719:  // a kernel failed
    case 805:  // the connection to MPS
    case 807:  // an MPS server that begins anew
    case 809:  // a client of MPS was ended
      return true;
    default:
      return false;
  }
}

}  // namespace sluice::agent::cuda
