#ifndef SLUICE_TESTS_INTEGRATION_REDUCE_RANKS_H_
#define SLUICE_TESTS_INTEGRATION_REDUCE_RANKS_H_

// Workers that are in a reduce group together, for tests: all ranks of it live
// in the test's process, on agents of their own.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cpp/reduce_group.h"
#include "client/cpp/worker.h"
#include "proto/sluice/v1/tensor.pb.h"

namespace sluice::testing {

using ReduceRanks = std::vector<std::unique_ptr<ReduceGroup>>;

// Joins and leaves side by side, as ranks do.
absl::StatusOr<ReduceRanks> JoinTogether(const std::vector<Worker*>& workers,
                                         const ReduceGroupOptions& options);
absl::Status LeaveTogether(const ReduceRanks& ranks);

// Elements of the types that can be reduced.
int64_t ElementBytes(v1::DType dtype);
// Writes an integer; one that the type holds exactly.
void WriteElement(v1::DType dtype, int64_t value, std::byte* to);
double ReadElement(v1::DType dtype, const std::byte* from);

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_INTEGRATION_REDUCE_RANKS_H_
