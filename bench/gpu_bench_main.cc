#include "bench/gpu_bench.h"

int main(int argc, char** argv) {
  return sluice::bench::GpuBenchMain(argc, argv);
}
