#include "tests/agent/executor/random_plan.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace sluice::agent {
namespace {

Box RandomBoxIn(std::mt19937_64& random, const Box& outer) {
  Box box = outer;
  for (int d = 0; d < box.rank(); ++d) {
    const int64_t n = box.dim(d).size();
    if (random() % 2 == 0) continue;
    const int64_t lo = static_cast<int64_t>(random() % n);
    const int64_t size = 1 + static_cast<int64_t>(random() % (n - lo));
    box.dim(d) = {outer.dim(d).lo + lo, outer.dim(d).lo + lo + size};
  }
  return box;
}

// What a type may be cast from and to without a loss.
DType RandomHeld(std::mt19937_64& random, DType wire) {
  static constexpr DType kWider[] = {DType::kF32, DType::kF64};
  const DType wider = kWider[random() % 2];
  return ByteSize(wider) > ByteSize(wire) && random() % 3 != 0
             ? wider
             : DType::kUnspecified;
}

// Gives all tensors of a transfer one type, cast on either side.
void CastTensors(std::mt19937_64& random, TestTransfer& t) {
  static constexpr DType kWires[] = {DType::kBF16, DType::kF16, DType::kF32};
  const DType wire = kWires[random() % 3];
  const DType at_source = RandomHeld(random, wire);
  const DType at_destination = RandomHeld(random, wire);
  for (TestTransfer::Tensor& tensor : t.tensors) {
    tensor.dtype = wire;
    tensor.at_source = at_source;
    tensor.at_destination = at_destination;
  }
}

}  // namespace

std::vector<TestTransfer> RandomPlan(std::mt19937_64& random, int ranks) {
  static constexpr DType kTypes[] = {DType::kU8, DType::kBF16, DType::kF32,
                                     DType::kF64};
  std::vector<TestTransfer> plan;
  const size_t n = 3 + random() % 10;
  for (uint32_t id = 0; id < n; ++id) {
    TestTransfer t;
    t.id = id;
    t.destination = static_cast<int>(random() % ranks);
    if (!plan.empty() && random() % 3 == 0) {
      const TestTransfer& first = plan[random() % plan.size()];
      t.source = first.destination;
      t.reads_after = first.id;
      for (const auto& tensor : first.tensors) {
        if (random() % 4 == 0) continue;
        t.tensors.push_back(tensor);
        if (random() % 2 == 0) {
          t.tensors.back().box = RandomBoxIn(random, tensor.box);
        }
      }
    } else {
      t.source = static_cast<int>(random() % ranks);
      const size_t tensors = 1 + random() % 6;
      for (size_t i = 0; i < tensors; ++i) {
        TestTransfer::Tensor tensor;
        tensor.name = absl::StrCat("t", i, "of", id % 3);
        tensor.dtype = kTypes[random() % 4];
        const bool large = random() % 12 == 0;
        const size_t dims = 1 + random() % 3;
        for (size_t d = 0; d < dims; ++d) {
          const int64_t most = large ? (dims == 1   ? 3000000
                                        : dims == 2 ? 1500
                                                    : 110)
                                     : (dims == 1 ? 3000 : 40);
          tensor.shape.push_back(1 + static_cast<int64_t>(random() % most));
        }
        tensor.box = RandomBoxIn(random, Box::Whole(tensor.shape));
        t.tensors.push_back(std::move(tensor));
      }
      if (random() % 2 == 0) CastTensors(random, t);
    }
    plan.push_back(std::move(t));
  }
  return plan;
}

}  // namespace sluice::agent
