#ifndef SLUICE_TESTS_INTEGRATION_REPLICA_READER_H_
#define SLUICE_TESTS_INTEGRATION_REPLICA_READER_H_

// An inference engine that never stops reading: asks one rank of a replica for
// the current version, pins that version on all ranks, and looks at every byte.

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/integration/patterned_model.h"
#include "tests/integration/test_cluster.h"

namespace sluice::testing {

class ReplicaReader {
 public:
  // Attaches to the ranks of one replica of `placement`, given as agents.
  // `steps` outlives the reader.
  static absl::StatusOr<std::unique_ptr<ReplicaReader>> Start(
      TestCluster& cluster, const v1::ModelSpec& model,
      const std::string& placement, const std::vector<int>& agents,
      const StepsOfVersions& steps);
  // As Stop.
  ~ReplicaReader();
  ReplicaReader(const ReplicaReader&) = delete;
  ReplicaReader& operator=(const ReplicaReader&) = delete;

  // Reads the current version once, on the calling thread; returns it.
  // Errors: NOT_FOUND, UNAVAILABLE - none is held whole now; DATA_LOSS - what
  // a reader must never see.
  absl::StatusOr<uint64_t> ReadOnce();

  // Reads over and over on a thread of its own until Stop.
  void Run();
  // Ends the thread. Errors: the first DATA_LOSS that it met.
  absl::Status Stop();
  // Whole versions read so far.
  int64_t num_reads() const { return num_reads_.load(); }

 private:
  struct RankReader {
    std::unique_ptr<Worker> worker;
    v1::RankLayout layout;
  };
  ReplicaReader(v1::ModelSpec model, std::string placement,
                const StepsOfVersions& steps)
      : model_(std::move(model)),
        placement_(std::move(placement)),
        steps_(steps) {}

  const v1::ModelSpec model_;
  const std::string placement_;
  const StepsOfVersions& steps_;
  std::vector<RankReader> ranks_;
  std::atomic<bool> stopping_{false};
  std::atomic<int64_t> num_reads_{0};
  absl::Status seen_;  // by the thread; read after it ended
  std::thread thread_;
};

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_INTEGRATION_REPLICA_READER_H_
