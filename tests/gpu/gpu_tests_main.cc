#include "tests/gpu/gpu_tests.h"

int main(int argc, char** argv) {
  return sluice::gpu_tests::GpuTestsMain(argc, argv);
}
