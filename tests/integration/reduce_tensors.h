#ifndef SLUICE_TESTS_INTEGRATION_REDUCE_TENSORS_H_
#define SLUICE_TESTS_INTEGRATION_REDUCE_TENSORS_H_

// What a rank of a test gives to a reduce-scatter, and what it hears of it.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cpp/reduce_group.h"
#include "common/mutex.h"
#include "proto/sluice/v1/tensor.pb.h"
#include "proto/sluice/v1/worker_service.pb.h"
#include "tests/integration/reduce_ranks.h"
#include "tests/integration/test_cluster.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {

// Statuses that callbacks were called with.
class Heard {
 public:
  ReduceGroup::Done Done() {
    return [this](const absl::StatusOr<v1::ReducedScatter>& reduced) {
      MutexLock lock(mutex_);
      statuses_.push_back(reduced.status());
      changed_.SignalAll();
    };
  }
  // Returns once there are so many; fewer after kPatience.
  std::vector<absl::Status> Await(size_t count) {
    MutexLock lock(mutex_);
    while (statuses_.size() < count && changed_.WaitFor(mutex_, kPatience)) {
    }
    return statuses_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::vector<absl::Status> statuses_ ABSL_GUARDED_BY(mutex_);
};

// The tensors of one reduce-scatter on one rank, one after the other.
struct Tensors {
  static Tensors Make(ReduceGroup& group, v1::DType dtype, int64_t numel) {
    Tensors out{dtype, numel, static_cast<int64_t>(group.members().size()), {}};
    auto memory =
        group.Allocate((out.members + 1) * numel * ElementBytes(dtype));
    REQUIRE_OK(memory);
    out.memory = *std::move(memory);
    return out;
  }
  // Gives 4 (rank + shard + element mod 5) to each.
  void Fill(int rank) const {
    for (int64_t shard = 0; shard < members; ++shard) {
      for (int64_t e = 0; e < numel; ++e) {
        WriteElement(dtype, 4 * (rank + shard + e % 5), At(shard, e));
      }
    }
  }
  // Whether the output is the sum over ranks of 4 (rank + self + element mod
  // 5), divided by `divisor`.
  bool IsReduced(int self, int64_t divisor = 1) const {
    for (int64_t e = 0; e < numel; ++e) {
      const int64_t sum =
          4 * (members * (members - 1) / 2 + members * (self + e % 5));
      if (ReadElement(dtype, At(members, e)) * static_cast<double>(divisor) !=
          static_cast<double>(sum)) {
        return false;
      }
    }
    return true;
  }
  std::byte* At(int64_t tensor, int64_t element) const {
    return memory->data() + (tensor * numel + element) * ElementBytes(dtype);
  }
  SharedTensor Tensor(int64_t index) const {
    return {memory, index * numel * ElementBytes(dtype), {numel}, dtype};
  }
  std::vector<SharedTensor> Inputs() const {
    std::vector<SharedTensor> inputs;
    for (int64_t m = 0; m < members; ++m) inputs.push_back(Tensor(m));
    return inputs;
  }
  SharedTensor Output() const { return Tensor(members); }

  v1::DType dtype;
  int64_t numel;
  int64_t members;
  std::shared_ptr<SharedBytes> memory;
};

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_INTEGRATION_REDUCE_TENSORS_H_
