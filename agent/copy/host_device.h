#ifndef SLUICE_AGENT_COPY_HOST_DEVICE_H_
#define SLUICE_AGENT_COPY_HOST_DEVICE_H_

// Marks of functions that are compiled for the host and, by nvcc, for GPUs too.

#if defined(__CUDACC__)
#define SLUICE_HOST_DEVICE __host__ __device__
#else
#define SLUICE_HOST_DEVICE
#endif

#define SLUICE_ALWAYS_INLINE __attribute__((always_inline)) inline

#endif  // SLUICE_AGENT_COPY_HOST_DEVICE_H_
