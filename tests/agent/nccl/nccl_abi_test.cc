// What agent/nccl/nccl_api.h says of NCCL's binary interface, compared with the
// header of the installed library: sizes, places, values, signatures.

#include <catch2/catch.hpp>

#if defined(SLUICE_HAVE_CUDA) && __has_include(<nccl.h>)
#include <nccl.h>
#define SLUICE_HAVE_NCCL_H
#endif

#include <cstddef>
#include <type_traits>

#include "agent/nccl/nccl_api.h"

namespace sluice::agent {
namespace {

#ifdef SLUICE_HAVE_NCCL_H

// Passed the same way: the same type, or two names of one enumeration, or
// structs and pointers to structs of one size.
template <typename A, typename B>
constexpr bool kAlike = sizeof(A) == sizeof(B) &&
                        (std::is_same_v<A, B> ||
                         (std::is_enum_v<A> && std::is_enum_v<B>) ||
                         (std::is_class_v<A> && std::is_class_v<B>));

template <typename A, typename B>
constexpr bool kPassedAlike = [] {
  if constexpr (std::is_pointer_v<A> && std::is_pointer_v<B>) {
    using X = std::remove_pointer_t<A>;
    using Y = std::remove_pointer_t<B>;
    if constexpr (std::is_same_v<X, Y>) {
      return true;
    } else if constexpr (std::is_same_v<X, NcclConfig>) {
      // May be shorter than the header's: it says its size.
      return std::is_same_v<Y, ncclConfig_t>;
    } else if constexpr (std::is_enum_v<X> || std::is_class_v<X>) {
      return kAlike<X, Y>;
    } else {
      return false;
    }
  } else {
    return kAlike<A, B>;
  }
}();

template <typename A, typename B>
struct SameCall : std::false_type {};
template <typename R, typename... As, typename S, typename... Bs>
struct SameCall<R (*)(As...), S (*)(Bs...)> {
  static constexpr bool value = [] {
    if constexpr (sizeof...(As) == sizeof...(Bs)) {
      return kPassedAlike<R, S> && (kPassedAlike<As, Bs> && ...);
    } else {
      return false;
    }
  }();
};

#define SLUICE_SAME_CALL(name) \
  static_assert(SameCall<decltype(NcclApi::name), decltype(&nccl##name)>::value)

SLUICE_SAME_CALL(GetVersion);
SLUICE_SAME_CALL(GetUniqueId);
SLUICE_SAME_CALL(CommInitRankConfig);
SLUICE_SAME_CALL(CommFinalize);
SLUICE_SAME_CALL(CommDestroy);
SLUICE_SAME_CALL(CommAbort);
SLUICE_SAME_CALL(CommGetAsyncError);
SLUICE_SAME_CALL(CommCount);
SLUICE_SAME_CALL(CommUserRank);
SLUICE_SAME_CALL(GetErrorString);
SLUICE_SAME_CALL(GetLastError);
SLUICE_SAME_CALL(GroupStart);
SLUICE_SAME_CALL(GroupEnd);
SLUICE_SAME_CALL(Send);
SLUICE_SAME_CALL(Recv);
SLUICE_SAME_CALL(Broadcast);
SLUICE_SAME_CALL(Reduce);
SLUICE_SAME_CALL(AllReduce);
SLUICE_SAME_CALL(AllGather);
SLUICE_SAME_CALL(ReduceScatter);
SLUICE_SAME_CALL(CommSplit);
#if NCCL_VERSION_CODE >= 22700
SLUICE_SAME_CALL(CommShrink);
#endif
#if NCCL_VERSION_CODE >= 22800
SLUICE_SAME_CALL(CommRevoke);
SLUICE_SAME_CALL(AlltoAll);
SLUICE_SAME_CALL(Gather);
SLUICE_SAME_CALL(Scatter);
#endif

static_assert(sizeof(NcclUniqueId) == sizeof(ncclUniqueId));
static_assert(std::is_same_v<NcclStreamHandle, cudaStream_t>);
static_assert(std::is_same_v<NcclComm, ncclComm_t>);

static_assert(sizeof(NcclConfig) <= sizeof(ncclConfig_t));
#define SLUICE_SAME_PLACE(ours, theirs) \
  static_assert(offsetof(NcclConfig, ours) == offsetof(ncclConfig_t, theirs))
SLUICE_SAME_PLACE(size, size);
SLUICE_SAME_PLACE(magic, magic);
SLUICE_SAME_PLACE(version, version);
SLUICE_SAME_PLACE(blocking, blocking);
SLUICE_SAME_PLACE(cga_cluster_size, cgaClusterSize);
SLUICE_SAME_PLACE(min_ctas, minCTAs);
SLUICE_SAME_PLACE(max_ctas, maxCTAs);
SLUICE_SAME_PLACE(net_name, netName);

constexpr bool Same(NcclResult a, ncclResult_t b) {
  return static_cast<int>(a) == static_cast<int>(b);
}
constexpr bool Same(NcclDataType a, ncclDataType_t b) {
  return static_cast<int>(a) == static_cast<int>(b);
}
constexpr bool Same(NcclRedOp a, ncclRedOp_t b) {
  return static_cast<int>(a) == static_cast<int>(b);
}
static_assert(Same(NcclResult::kSuccess, ncclSuccess));
static_assert(Same(NcclResult::kUnhandledCudaError, ncclUnhandledCudaError));
static_assert(Same(NcclResult::kSystemError, ncclSystemError));
static_assert(Same(NcclResult::kInternalError, ncclInternalError));
static_assert(Same(NcclResult::kInvalidArgument, ncclInvalidArgument));
static_assert(Same(NcclResult::kInvalidUsage, ncclInvalidUsage));
static_assert(Same(NcclResult::kRemoteError, ncclRemoteError));
static_assert(Same(NcclResult::kInProgress, ncclInProgress));
static_assert(Same(NcclDataType::kInt8, ncclInt8));
static_assert(Same(NcclDataType::kUint8, ncclUint8));
static_assert(Same(NcclDataType::kInt32, ncclInt32));
static_assert(Same(NcclDataType::kUint32, ncclUint32));
static_assert(Same(NcclDataType::kInt64, ncclInt64));
static_assert(Same(NcclDataType::kUint64, ncclUint64));
static_assert(Same(NcclDataType::kFloat16, ncclFloat16));
static_assert(Same(NcclDataType::kFloat32, ncclFloat32));
static_assert(Same(NcclDataType::kFloat64, ncclFloat64));
static_assert(Same(NcclDataType::kBfloat16, ncclBfloat16));
static_assert(Same(NcclRedOp::kSum, ncclSum));
static_assert(Same(NcclRedOp::kAvg, ncclAvg));

TEST_CASE("our configuration is the start of NCCL's, with its defaults",
          "[nccl]") {
  const ncclConfig_t theirs = NCCL_CONFIG_INITIALIZER;
  const NcclConfig ours;
  CHECK(ours.magic == theirs.magic);
  CHECK(ours.blocking == theirs.blocking);
  CHECK(ours.max_ctas == theirs.maxCTAs);
  CHECK(ours.version <= theirs.version);
  CHECK(ours.size == sizeof ours);
}

#else

TEST_CASE("no nccl.h here to compare with", "[nccl]") {
  CHECK(sizeof(NcclUniqueId) == kNcclUniqueIdBytes);
}

#endif

}  // namespace
}  // namespace sluice::agent
