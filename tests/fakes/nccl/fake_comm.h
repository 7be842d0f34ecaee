#ifndef SLUICE_TESTS_FAKES_NCCL_FAKE_COMM_H_
#define SLUICE_TESTS_FAKES_NCCL_FAKE_COMM_H_

// A communicator of the fake library, and the calls that run on it.

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "agent/nccl/nccl_api.h"
#include "tests/fakes/nccl/shared_board.h"

namespace sluice::fake_nccl {

// What the library says that it is.
int Version();

enum class Kind : uint32_t {
  kSend,
  kRecv,
  kBroadcast,
  kReduce,
  kAllReduce,
  kAllGather,
  kReduceScatter,
  kAllToAll,
  kGather,
  kScatter,
};

// One call between GroupStart and GroupEnd.
struct Op {
  Kind kind = Kind::kSend;
  const char* from = nullptr;
  char* to = nullptr;
  size_t count = 0;
  agent::NcclDataType type = agent::NcclDataType::kUint8;
  agent::NcclRedOp op = agent::NcclRedOp::kSum;
  int root = 0;  // or the peer
  agent::NcclComm comm = nullptr;
  agent::NcclStreamHandle stream = nullptr;

  size_t bytes() const;
};

// A message of a call, on its way.
struct Flow {
  bool send = false;
  int peer = 0;
  char* data = nullptr;  // not written by sends
  uint64_t bytes = 0;
  Kind kind = Kind::kSend;
  bool announced = false;  // its header has passed
  uint64_t moved = 0;
};

}  // namespace sluice::fake_nccl

// Its tag is that of the real library, as is its place.
struct ncclComm {
  using Job = std::function<void()>;

  ncclComm(std::string folder, int ranks, int rank, bool blocking);
  // As Close.
  ~ncclComm();

  // Ends the worker, then waits for the calls on streams.
  void Close();

  // Runs `job` on this communicator's worker: the state is "in progress" until
  // it has ended with a result. Blocking communicators wait for that.
  sluice::agent::NcclResult Start(
      std::function<sluice::agent::NcclResult()> job);

  // Bodies of jobs.
  sluice::agent::NcclResult Join();
  sluice::agent::NcclResult Launch(
      const std::shared_ptr<std::vector<sluice::fake_nccl::Op>>& ops);
  sluice::agent::NcclResult Split(int color, int key,
                                  sluice::agent::NcclComm made);
  sluice::agent::NcclResult Finalize();

  // It needs the others no more.
  void LeaveOthers();
  // Whether another rank has died or was aborted, which real ranks see by their
  // sockets. Tells of it by the state.
  void NoteGonePeers();

  // Runs a group call; on a stream's thread. Returns early when aborted.
  void RunGroup(const std::vector<sluice::fake_nccl::Op>& ops);
  // What this needs is connected from now on; false where it was not before.
  bool Connect(const std::vector<sluice::fake_nccl::Op>& ops);

  // Waits until `stopped`.
  void Hang();

  std::string folder;
  int ranks = 0;
  int rank = 0;
  const bool blocking;
  std::atomic<int> state = 0;  // a NcclResult
  std::atomic<bool> stopped = false;
  std::atomic<int> running = 0;  // group calls on streams

  // One text for all communicators of the process, as NCCL's.
  static std::string LastError();
  static void SetLastError(std::string text);

  // A job has ended and nobody has asked for errors since.
  std::atomic<bool> job_ended = false;
  // A thread is inside a function of the library with this communicator.
  std::atomic<bool> inside = false;

 private:
  // Announces the collective and waits for all to announce the same; false if
  // they never do and the communicator was aborted.
  bool Enter(const sluice::fake_nccl::Op& op);
  bool RunCollective(const sluice::fake_nccl::Op& op);
  bool RunReduction(const sluice::fake_nccl::Op& op);
  bool RunFlows(std::vector<sluice::fake_nccl::Flow> flows);
  // Returns whether anything moved.
  bool Advance(sluice::fake_nccl::Flow& flow);
  void Work();
  bool CheckDevices();

  sluice::fake_nccl::SharedBoard board_;
  std::atomic<bool> holds_ = false;  // the board is open, this rank is there
  uint64_t collectives_ = 0;
  std::set<std::pair<sluice::fake_nccl::Kind, int>> connected_;
  int launches_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> jobs_;
  bool closing_ = false;
  std::mutex run_mutex_;  // one group call at a time
  std::thread worker_;    // last: uses the members above
};

#endif  // SLUICE_TESTS_FAKES_NCCL_FAKE_COMM_H_
