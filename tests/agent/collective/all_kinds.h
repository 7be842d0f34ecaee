#ifndef SLUICE_TESTS_AGENT_COLLECTIVE_ALL_KINDS_H_
#define SLUICE_TESTS_AGENT_COLLECTIVE_ALL_KINDS_H_

// Calls of every kind on a rig, each verified.

#include "tests/agent/collective/group_rig.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {

inline constexpr CollectiveKind kKinds[] = {
    CollectiveKind::kBroadcast, CollectiveKind::kScatter,
    CollectiveKind::kGather,    CollectiveKind::kAllGather,
    CollectiveKind::kAllToAll,  CollectiveKind::kReduceScatter};
inline constexpr DType kReducible[] = {DType::kF32, DType::kBF16, DType::kF16,
                                       DType::kF64, DType::kI32};
inline constexpr DType kMovable[] = {DType::kU8, DType::kBF16, DType::kF32,
                                     DType::kF64, DType::kI16};

inline void RunOne(GroupRig& rig, CollectiveKind kind, DType dtype,
                   int64_t max_elements) {
  ReduceOp op = ReduceOp::kNone;
  if (kind == CollectiveKind::kReduceScatter) {
    op = rig.random()() % 2 == 0 ? ReduceOp::kSum : ReduceOp::kAverage;
  }
  CAPTURE(CollectiveKindName(kind), DTypeName(dtype));
  const RigCall call = rig.MakeCall(kind, dtype, op, max_elements);
  for (const absl::Status& status : rig.Run(call)) REQUIRE_OK(status);
  REQUIRE(call.Check() == "");
}

inline void RunOneOfEachKind(GroupRig& rig, DType dtype, int64_t max_elements) {
  for (const CollectiveKind kind : kKinds) {
    RunOne(rig, kind, dtype, max_elements);
  }
}

// All kinds and types once.
inline void RunAllKinds(GroupRig& rig, int64_t max_elements) {
  for (const CollectiveKind kind : kKinds) {
    const bool reduces = kind == CollectiveKind::kReduceScatter;
    for (const DType dtype : reduces ? kReducible : kMovable) {
      RunOne(rig, kind, dtype, max_elements);
    }
  }
}

}  // namespace sluice::agent

#endif  // SLUICE_TESTS_AGENT_COLLECTIVE_ALL_KINDS_H_
