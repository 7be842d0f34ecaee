#ifndef SLUICE_TESTS_INTEGRATION_PATTERNED_MODEL_H_
#define SLUICE_TESTS_INTEGRATION_PATTERNED_MODEL_H_

// A model of int32 tensors in which every element says by itself where it
// belongs and which step wrote it: the step in the high 12 bits, a hash of
// (tensor, flat index) in the low 20. So a reader of any part of any layout
// tells one whole version from a mix of two, and from bytes in wrong places.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cpp/worker.h"
#include "common/mutex.h"
#include "proto/sluice/v1/layout.pb.h"
#include "proto/sluice/v1/mesh.pb.h"
#include "proto/sluice/v1/model_service.pb.h"
#include "proto/sluice/v1/tensor.pb.h"
#include "tests/integration/test_cluster.h"

namespace sluice::testing {

// Steps are 1 to kMaxStep.
inline constexpr int64_t kMaxStep = 4095;

// Tensors: "wide" and "tall" [rows, 1024], "shared" [rows / 2, 1024], and eight
// small "layers.N.w" [64, 128]: 10 KiB * rows + 256 KiB in all.
v1::ModelSpec PatternedModel(const std::string& name, int64_t rows);

// Every matrix dealt by rows over axis "tensor".
v1::Layout RowLayout();
// wide and the layers dealt by columns, tall by rows, shared whole on each rank
// (so that it is passed on inside a node); axis "data" makes replicas.
v1::Layout ServingLayout();

// A mesh such as {{"data", 2}, {"tensor", 2}} over agents.
v1::Mesh MeshOf(const std::vector<std::pair<std::string, int64_t>>& axes,
                const std::vector<std::string>& agents);

// Writes the content of `step` to everything the rank holds.
void FillStep(const v1::ModelSpec& model, const v1::RankLayout& layout,
              int64_t step, std::byte* buffer);

// Returns the one step that all elements of the rank carry.
// Errors: DATA_LOSS - two steps, or an element where it does not belong
// (tensor, element, expected and found are named).
absl::StatusOr<int64_t> ReadStep(const v1::ModelSpec& model,
                                 const v1::RankLayout& layout,
                                 const std::byte* buffer);

// The steps of published versions, as their writer knows them. Thread-safe.
class StepsOfVersions {
 public:
  void Add(uint64_t version, int64_t step);
  // Errors: NOT_FOUND - nobody wrote such a version.
  absl::StatusOr<int64_t> Step(uint64_t version) const;

 private:
  mutable Mutex mutex_;
  std::map<uint64_t, int64_t> steps_ ABSL_GUARDED_BY(mutex_);
};

// Workers of all ranks of a LENT placement that write steps into it.
class PatternedTrainer {
 public:
  // Attaches to the agents of the placement's mesh, in order, and lends.
  static absl::StatusOr<std::unique_ptr<PatternedTrainer>> Start(
      TestCluster& cluster, const v1::ModelSpec& model,
      const std::string& placement, const std::vector<int>& agents);

  // Writes the next step on all ranks; returns its version.
  absl::StatusOr<uint64_t> WriteNextStep();
  int64_t step() const { return step_; }
  StepsOfVersions& steps() { return steps_; }
  Worker& worker(size_t rank) { return *ranks_.at(rank).worker; }

 private:
  struct RankMemory {
    std::unique_ptr<Worker> worker;
    std::shared_ptr<SharedBytes> memory;
    v1::RankLayout layout;
  };
  PatternedTrainer() = default;

  v1::ModelSpec model_;
  std::string placement_;
  std::vector<RankMemory> ranks_;
  int64_t step_ = 0;
  StepsOfVersions steps_;
};

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_INTEGRATION_PATTERNED_MODEL_H_
