#ifndef SLUICE_TESTS_SIM_DEVICE_H_
#define SLUICE_TESTS_SIM_DEVICE_H_

// One agent's memory and executor: real bytes, copied between agents in small
// steps that anything may come between, so that a kill leaves half-written
// copies behind.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/core/effects.h"
#include "agent/core/events.h"
#include "common/plan.h"
#include "tests/sim/process.h"
#include "tests/sim/world.h"

namespace sluice::sim {

struct Memory {
  Bytes bytes;
  // Readers that rely on it to stay as it is.
  int pins = 0;
};
using MemoryPtr = std::shared_ptr<Memory>;

class Device {
 public:
  struct Deps {
    World& world;
    Process& process;
    // The device of the live agent with this rank; null if there is none.
    std::function<Device*(Rank)> peer;
    std::function<void(agent::Event)> post;
  };

  explicit Device(Deps deps) : d_(std::move(deps)) {}
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  // The process died: what it had mapped is gone.
  void Reset();
  void set_rank(Rank rank) { self_ = rank; }

  void Run(const agent::AllocateBuffer& order);
  void Run(const agent::FreeBuffer& order);
  void Run(const agent::PrepareExecution& order);
  void Run(const agent::StartExecution& order);
  void Run(const agent::AbortExecution& order);
  void Run(const agent::ReleaseExecution& order);
  void Run(const agent::StartLoad& order);
  void Run(const agent::AbortLoad& order);
  void Run(const agent::ReadDigests& order);

  // Takes memory that a worker lends.
  BufferId Adopt(MemoryPtr memory);
  // Null if there is none.
  MemoryPtr Get(BufferId id) const;
  // Whether an operation that is not released reads it.
  bool IsSource(BufferId id) const;
  // What the load's files hold; 0 if the operation is no load known here.
  ContentId ContentOfLoad(OperationId operation) const;
  size_t num_buffers() const { return buffers_.size(); }
  std::vector<std::string> Executions() const;

 private:
  struct Piece {
    MemoryPtr source;  // null: zeros
    MemoryPtr destination;
    int64_t source_offset = 0, destination_offset = 0, bytes = 0;
  };
  // A transfer under way to this agent.
  struct Copying {
    std::vector<Piece> pieces;
    size_t piece = 0;
    int64_t done = 0;  // of the piece
    Device* peer = nullptr;
    uint64_t peer_life = 0;
  };
  struct Execution {
    agent::PrepareExecution order;
    bool prepared = false;
    bool started = false;
    bool ended = false;  // ExecutionDone is on its way
    absl::Status stop;   // not OK: asked to stop
    std::set<uint32_t> landed;
    std::map<uint32_t, Copying> copying;
    absl::Time last_progress;
    int64_t bytes = 0;
  };
  struct Loading {
    agent::StartLoad order;
    ContentId content = 0;
    size_t next = 0;
    bool ended = false;
    absl::Status stop;
  };
  // Of an answer, or of some bytes.
  static constexpr absl::Duration kLongestStep = absl::Milliseconds(3);
  static constexpr absl::Duration kLongestHandOver = absl::Seconds(2);

  enum class Progress { kMoved, kBlocked, kFailed };

  Execution* Find(OperationId id);
  // Tells the core, unless it was told before.
  void AnswerPrepared(OperationId id, const absl::Status& answer);
  void Work(OperationId id);
  void WorkLater(OperationId id);
  void End(OperationId id, Execution& execution, absl::Status status,
           Rank blamed);
  // Moves a few bytes of one transfer to this agent: of any, or of this one.
  Progress MoveAny(Execution& execution, absl::Status* error, Rank* blamed);
  Progress Move(Execution& execution, const Transfer& transfer,
                absl::Status* error);
  Progress Open(Execution& execution, const Transfer& transfer,
                absl::Status* error);
  // Whether what this agent sends over the network has arrived.
  Progress CheckSends(const Execution& execution, absl::Status* error,
                      Rank* blamed);
  // False if a place is missing on either side.
  bool MakePieces(const Execution& execution, const Transfer& transfer,
                  const Execution& source, const Device& peer,
                  std::vector<Piece>* pieces) const;
  bool MakeSamplePieces(const Execution& execution, const Transfer& transfer,
                        const Execution& source, const Device& peer,
                        std::vector<Piece>* pieces) const;
  void AppendCast(int64_t source_bytes, Piece piece,
                  std::vector<Piece>& pieces) const;
  bool Uses(const Execution& execution, BufferId id) const;
  void WorkOnLoad(OperationId id);

  const Deps d_;
  Rank self_ = kNoRank;
  uint64_t next_lent_ = agent::kHostBufferBit | 1;
  std::map<BufferId, MemoryPtr> buffers_;
  std::map<OperationId, Execution> executions_;
  std::map<OperationId, Loading> loads_;
  // Contents of loads that ended, until the next life.
  std::map<OperationId, ContentId> loaded_;
};

}  // namespace sluice::sim

#endif  // SLUICE_TESTS_SIM_DEVICE_H_
