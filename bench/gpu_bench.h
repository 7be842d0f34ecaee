#ifndef SLUICE_BENCH_GPU_BENCH_H_
#define SLUICE_BENCH_GPU_BENCH_H_

namespace sluice::bench {

// The program gpu_bench; returns its exit status: 0 measured (goals reached or
// not), 1 an error or wrong data, 2 no GPU can be used (one line on stderr) or
// bad usage.
int GpuBenchMain(int argc, char** argv);

}  // namespace sluice::bench

#endif  // SLUICE_BENCH_GPU_BENCH_H_
