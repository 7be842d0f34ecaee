// A library that calls itself NCCL and has next to none of its functions.

#include "agent/nccl/nccl_api.h"

extern "C" __attribute__((visibility("default"), used))
sluice::agent::NcclResult
ncclGetVersion(int* version) {
  *version = 22809;
  return sluice::agent::NcclResult::kSuccess;
}
