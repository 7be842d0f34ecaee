#ifndef SLUICE_TESTS_FAKES_NCCL_FAKE_ARITHMETIC_H_
#define SLUICE_TESTS_FAKES_NCCL_FAKE_ARITHMETIC_H_

// Sums of the element types that NCCL reduces.

#include <cstddef>
#include <vector>

#include "agent/nccl/nccl_api.h"

namespace sluice::fake_nccl {

// 0 for an unknown type.
size_t BytesOf(agent::NcclDataType type);

// Whether Reduce knows the two.
bool CanReduce(agent::NcclDataType type, agent::NcclRedOp op);

// to[i] = sum or average of all from[k][i], in the order of `from`; `to` may be
// one of them. Floating-point sums are made in double and rounded once.
void Reduce(agent::NcclDataType type, agent::NcclRedOp op, size_t count,
            const std::vector<const void*>& from, void* to);

}  // namespace sluice::fake_nccl

#endif  // SLUICE_TESTS_FAKES_NCCL_FAKE_ARITHMETIC_H_
