#include "bench/executor_rig.h"

#include <cstring>
#include <utility>

#include "agent/device/memory_file.h"
#include "agent/transfer_executor.h"
#include "common/status_macros.h"

namespace sluice::bench {

absl::StatusOr<Memory> TouchedMemory(int64_t bytes) {
  SLUICE_ASSIGN_OR_RETURN(agent::UniqueFd file,
                          agent::CreateMemoryFile(bytes, "bench"));
  SLUICE_ASSIGN_OR_RETURN(
      Memory memory,
      agent::MapMemoryFile(std::move(file), bytes, agent::Access::kReadWrite));
  std::memset(memory->data(), 0, static_cast<size_t>(bytes));
  return memory;
}

void FillPattern(agent::MappedMemory& memory, uint64_t seed) {
  auto* words = reinterpret_cast<uint64_t*>(memory.data());
  for (int64_t i = 0; i < memory.size() / 8; ++i) {
    words[i] = PatternWord(seed, i);
  }
}

agent::ExecutionRequest OneTensorRequest(OperationId operation, Rank self,
                                         Rank source, Rank destination,
                                         LinkClass link, const Rows& rows,
                                         int64_t bytes, const Memory& from,
                                         const Memory& to) {
  constexpr int64_t kElement = 2;
  agent::BoundPiece piece;
  piece.tensor = "weight";
  piece.dtype = DType::kBF16;
  piece.shape = {bytes / rows.from_pitch, rows.from_pitch / kElement};
  piece.box = Box::Whole(piece.shape);
  piece.box.dim(1).hi = rows.bytes / kElement;
  if (from != nullptr) {
    piece.source = agent::BoundPlace{from, 0, {rows.from_pitch, kElement}};
  }
  if (to != nullptr) {
    piece.destinations.push_back({to, 0, {rows.to_pitch, kElement}});
  }
  agent::BoundTransfer transfer;
  transfer.link = link;
  transfer.source = source;
  transfer.destination = destination;
  transfer.bytes = piece.box.num_elements() * kElement;
  transfer.pieces.push_back(std::move(piece));
  agent::ExecutionRequest request;
  request.operation = operation;
  request.self = self;
  request.num_plan_transfers = 1;
  request.transfers.push_back(std::move(transfer));
  request.progress_timeout = absl::Seconds(30);
  request.digests = false;
  return request;
}

absl::StatusOr<std::unique_ptr<ExecutorRig>> ExecutorRig::Create(
    int worker_threads, agent::PeerDirectory& peers) {
  std::unique_ptr<ExecutorRig> rig(new ExecutorRig);
  agent::ExecutorCallbacks callbacks;
  callbacks.on_progress = [](OperationId, int64_t) {};
  callbacks.on_done = [r = rig.get()](OperationId, absl::Status status,
                                      const agent::ExecutionStats&, Rank) {
    std::lock_guard lock(r->mutex_);
    r->ended_ = std::move(status);
    r->changed_.notify_all();
  };
  SLUICE_ASSIGN_OR_RETURN(
      rig->executor_,
      agent::MakeTransferExecutor(
          {.network = {.net_devices = "lo"}, .worker_threads = worker_threads},
          std::move(callbacks), peers, rig->clock_));
  return rig;
}

absl::Status ExecutorRig::Wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return ended_.has_value(); });
  absl::Status status = *std::move(ended_);
  ended_.reset();
  return status;
}

}  // namespace sluice::bench
