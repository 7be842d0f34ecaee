#ifndef SLUICE_TESTS_FUZZ_FUZZ_TARGET_H_
#define SLUICE_TESTS_FUZZ_FUZZ_TARGET_H_

// A fuzz target takes any bytes and must end, in little time and memory,
// without a crash or a sanitizer's report. What it says of its input beyond
// that is in SLUICE_CHECKs.

#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

#endif  // SLUICE_TESTS_FUZZ_FUZZ_TARGET_H_
