#ifndef SLUICE_TESTS_AGENT_EXECUTOR_MINI_CLUSTER_H_
#define SLUICE_TESTS_AGENT_EXECUTOR_MINI_CLUSTER_H_

// Executors of several agents in one process, standing for agents on several
// nodes, with transfers between memories in random layouts. Between "nodes" the
// bytes go through UCX over loopback, inside a "node" by mapped memory.
//
// Every byte of every tensor is a function of the tensor and of the byte's
// logical offset, so that what must arrive is known without moving anything.

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "agent/executor/piece_mover.h"
#include "agent/executor_interface.h"
#include "agent/transfer_executor.h"
#include "common/clock.h"

namespace sluice::agent {

// A transfer to bind: a box of each of some tensors.
struct TestTransfer {
  struct Tensor {
    std::string name;
    DType dtype = DType::kBF16;
    Shape shape;
    Box box;
    // What it is in memory: wider than on the wire, or kUnspecified, the same.
    DType at_source = DType::kUnspecified;
    DType at_destination = DType::kUnspecified;
  };
  uint32_t id = 0;
  int source = 0;
  int destination = 0;
  std::vector<Tensor> tensors;
  // Reads what that earlier transfer delivers; its boxes lie inside.
  std::optional<uint32_t> reads_after;
};

// How an operation ended on one agent.
struct TestOutcome {
  absl::Status status;
  ExecutionStats stats;
  Rank peer = kNoRank;
};

class MiniCluster {
 public:
  // What the agents are made of; empty functions: host memory. All outlives the
  // cluster.
  struct Hardware {
    std::function<PieceMover*(int rank)> mover = {};
    // Memory that the test reads and writes through data(), whatever its space.
    std::function<std::shared_ptr<MappedMemory>(int rank, bool source,
                                                int64_t bytes)>
        memory = {};
  };

  // `nodes[r]` is the node of rank r.
  MiniCluster(std::vector<int> nodes, uint64_t seed)
      : MiniCluster(std::move(nodes), seed, Hardware{}) {}
  MiniCluster(std::vector<int> nodes, uint64_t seed, Hardware hardware);
  ~MiniCluster();

  // Binds transfers to new memory in random layouts, as one operation, and
  // fills the sources. Requests may be changed before Prepare.
  void Bind(OperationId operation, const std::vector<TestTransfer>& transfers);
  ExecutionRequest& request(int rank) { return requests_[rank]; }

  absl::Status Prepare(int rank);
  // Prepares on all ranks; fails the test if one refuses.
  void PrepareAll();
  // From now on no peer of its node answers when `rank` opens its memory.
  void SilencePeersOf(int rank);
  void Start(int rank);
  void StartAll();
  // Waits for on_done of a rank.
  TestOutcome Wait(int rank) { return Wait(rank, operation_); }
  TestOutcome Wait(int rank, OperationId operation);
  // Whether on_done of a rank has come.
  bool HasEnded(int rank);
  void ReleaseAll();

  TransferExecutor& executor(int rank) { return *agents_[rank]->executor; }
  void DestroyExecutor(int rank) { agents_[rank]->executor.reset(); }

  // "" if all destinations hold what they must and nothing else was written;
  // else what is wrong first.
  std::string CheckDestinations() const;
  // Whether no destination byte of `rank` was ever written.
  bool Untouched(int rank) const;
  void FillDestinations(int rank, std::byte value);
  // Changes one byte that `transfer` reads at its source.
  void CorruptSource(uint32_t transfer);
  int64_t last_progress(int rank);

 private:
  class Directory;
  struct Agent {
    int rank = 0;
    std::unique_ptr<Directory> directory;
    std::unique_ptr<TransferExecutor> executor;
    std::shared_ptr<MappedMemory> source, destination;
    int64_t source_used = 0, destination_used = 0;
    std::map<uint64_t, TestOutcome> outcomes;
    int64_t progress = 0;
  };

  std::shared_ptr<MappedMemory> NewMemory(int rank, bool source) const;
  BoundPlace NewPlace(const BoundPiece& piece, DType held,
                      const std::shared_ptr<MappedMemory>& memory,
                      int64_t& used);
  std::vector<Box> RandomCuts(const Box& box);
  void BindOne(const TestTransfer& transfer);
  static BoundPiece& AddPiece(BoundTransfer& side,
                              const TestTransfer::Tensor& tensor,
                              const Box& box);
  void BindSource(const TestTransfer& t, const TestTransfer::Tensor& tensor,
                  BoundTransfer& bound);
  // `local`: the tensor's pieces at the source.
  void BindDestination(const TestTransfer& t,
                       const TestTransfer::Tensor& tensor,
                       absl::Span<BoundPiece> local, BoundTransfer& receiving);
  void Fill(const BoundPiece& piece);
  std::vector<std::byte> Expected(int rank) const;

  std::vector<int> nodes_;
  const Hardware hardware_;
  SystemClock clock_;
  std::mt19937_64 random_;
  OperationId operation_;
  uint32_t num_transfers_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::unique_ptr<Agent>> agents_;
  std::map<int, ExecutionRequest> requests_;
};

}  // namespace sluice::agent

#endif  // SLUICE_TESTS_AGENT_EXECUTOR_MINI_CLUSTER_H_
