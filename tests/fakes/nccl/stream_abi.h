#ifndef SLUICE_TESTS_FAKES_NCCL_STREAM_ABI_H_
#define SLUICE_TESTS_FAKES_NCCL_STREAM_ABI_H_

// What the fake library takes for a cudaStream_t: a queue of work on the host.
// Shared by the library, a file of its own, and the programs that load it.

#include <cstdint>

inline constexpr uint32_t kHostStreamMagic = 0x51c0de01;

struct CUstream_st {
  uint32_t magic = kHostStreamMagic;
  // Appends work(argument), which runs when all appended before has run.
  void (*enqueue)(CUstream_st* stream, void (*work)(void*),
                  void* argument) = nullptr;
};

#endif  // SLUICE_TESTS_FAKES_NCCL_STREAM_ABI_H_
