#ifndef SLUICE_TESTS_GPU_GPU_TESTS_H_
#define SLUICE_TESTS_GPU_GPU_TESTS_H_

namespace sluice::gpu_tests {

// The program gpu_tests; returns its exit status: 0 all checks passed, 1 some
// failed, 2 no GPU can be used (one line on stderr) or bad usage.
int GpuTestsMain(int argc, char** argv);

}  // namespace sluice::gpu_tests

#endif  // SLUICE_TESTS_GPU_GPU_TESTS_H_
