#ifndef SLUICE_AGENT_NCCL_NCCL_API_H_
#define SLUICE_AGENT_NCCL_NCCL_API_H_

// The part of NCCL's binary interface that Sluice calls, declared anew: nothing
// of NCCL or CUDA is needed to build, the library is found at run time
// (nccl_library.h). Where the toolkit is found, tests/agent/nccl/nccl_abi_test
// compares every value, layout and signature here with nccl.h.

#include <climits>
#include <cstddef>
#include <cstdint>

// Opaque; in the global namespace, as NCCL's and CUDA's own headers have them.
struct ncclComm;
struct CUstream_st;

namespace sluice::agent {

using NcclComm = ::ncclComm*;
using NcclStreamHandle = ::CUstream_st*;  // cudaStream_t

enum class NcclResult : int32_t {
  kSuccess = 0,
  kUnhandledCudaError = 1,
  kSystemError = 2,
  kInternalError = 3,
  kInvalidArgument = 4,
  kInvalidUsage = 5,
  kRemoteError = 6,
  kInProgress = 7,
};

enum class NcclDataType : int32_t {
  kInt8 = 0,
  kUint8 = 1,
  kInt32 = 2,
  kUint32 = 3,
  kInt64 = 4,
  kUint64 = 5,
  kFloat16 = 6,
  kFloat32 = 7,
  kFloat64 = 8,
  kBfloat16 = 9,
};

enum class NcclRedOp : int32_t {
  kSum = 0,
  kProd = 1,
  kMax = 2,
  kMin = 3,
  kAvg = 4,
};

inline constexpr int kNcclUniqueIdBytes = 128;
struct NcclUniqueId {
  char internal[kNcclUniqueIdBytes];
};

inline constexpr int kNcclUndefined = INT_MIN;

// The configuration as of NCCL 2.17, which has all that is set here: its size
// and version tell a newer library that what came later is left to itself.
inline constexpr int kNcclConfigVersion = 21700;
struct NcclConfig {
  size_t size = sizeof(NcclConfig);
  uint32_t magic = 0xcafebeef;
  uint32_t version = kNcclConfigVersion;
  int blocking = kNcclUndefined;  // 0: calls return before they have ended
  int cga_cluster_size = kNcclUndefined;
  int min_ctas = kNcclUndefined;
  int max_ctas = kNcclUndefined;  // SMs that a communicator's kernels take
  const char* net_name = nullptr;
};

// The functions, by their names without "nccl". All are thread-safe between
// communicators; of one communicator, only Abort may run beside another call.
// GetAsyncError may not: from 2.24 on it takes what a call that does not block
// has left behind and frees it, which two threads then do at once.
struct NcclApi {
  // Needed.
  NcclResult (*GetVersion)(int* version);
  NcclResult (*GetUniqueId)(NcclUniqueId* id);
  NcclResult (*CommInitRankConfig)(NcclComm* comm, int ranks, NcclUniqueId id,
                                   int rank, NcclConfig* config);
  NcclResult (*CommFinalize)(NcclComm comm);
  NcclResult (*CommDestroy)(NcclComm comm);
  NcclResult (*CommAbort)(NcclComm comm);
  NcclResult (*CommGetAsyncError)(NcclComm comm, NcclResult* error);
  NcclResult (*CommCount)(const NcclComm comm, int* count);
  NcclResult (*CommUserRank)(const NcclComm comm, int* rank);
  const char* (*GetErrorString)(NcclResult result);
  const char* (*GetLastError)(NcclComm comm);
  NcclResult (*GroupStart)();
  NcclResult (*GroupEnd)();
  NcclResult (*Send)(const void* data, size_t count, NcclDataType type,
                     int peer, NcclComm comm, NcclStreamHandle stream);
  NcclResult (*Recv)(void* data, size_t count, NcclDataType type, int peer,
                     NcclComm comm, NcclStreamHandle stream);
  NcclResult (*Broadcast)(const void* from, void* to, size_t count,
                          NcclDataType type, int root, NcclComm comm,
                          NcclStreamHandle stream);
  NcclResult (*Reduce)(const void* from, void* to, size_t count,
                       NcclDataType type, NcclRedOp op, int root, NcclComm comm,
                       NcclStreamHandle stream);
  NcclResult (*AllReduce)(const void* from, void* to, size_t count,
                          NcclDataType type, NcclRedOp op, NcclComm comm,
                          NcclStreamHandle stream);
  NcclResult (*AllGather)(const void* from, void* to, size_t count,
                          NcclDataType type, NcclComm comm,
                          NcclStreamHandle stream);
  NcclResult (*ReduceScatter)(const void* from, void* to, size_t count,
                              NcclDataType type, NcclRedOp op, NcclComm comm,
                              NcclStreamHandle stream);

  // Null where the library has none.
  NcclResult (*CommSplit)(NcclComm comm, int color, int key, NcclComm* made,
                          NcclConfig* config);  // 2.18
  NcclResult (*CommShrink)(NcclComm comm, int* excluded, int count,
                           NcclComm* made, NcclConfig* config,
                           int flags);                 // 2.27
  NcclResult (*CommRevoke)(NcclComm comm, int flags);  // 2.28
  NcclResult (*AlltoAll)(const void* from, void* to, size_t count,
                         NcclDataType type, NcclComm comm,
                         NcclStreamHandle stream);  // 2.28
  NcclResult (*Gather)(const void* from, void* to, size_t count,
                       NcclDataType type, int root, NcclComm comm,
                       NcclStreamHandle stream);  // 2.28
  NcclResult (*Scatter)(const void* from, void* to, size_t count,
                        NcclDataType type, int root, NcclComm comm,
                        NcclStreamHandle stream);  // 2.28
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_NCCL_NCCL_API_H_
