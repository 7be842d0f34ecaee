#ifndef SLUICE_AGENT_TRANSFER_EXECUTOR_H_
#define SLUICE_AGENT_TRANSFER_EXECUTOR_H_

// The executor of host memory: mapped memory inside a node, UCX between nodes.

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "agent/executor/piece_mover.h"
#include "agent/executor_interface.h"
#include "agent/message_lane.h"
#include "agent/transport/ucx_transport.h"
#include "common/clock.h"

namespace sluice::agent {

struct TransferExecutorOptions {
  // How peers on other nodes are reached.
  UcxTransport::Options network;
  // Threads that copy, pack and digest. Two keep one core's worth of copies
  // beside the transport's thread; more pay on nodes with few agents.
  int worker_threads = 2;
  // Free staging buffers kept between operations, in bytes.
  int64_t keep_staging_bytes = int64_t{16} << 20;
  // What moves bytes; outlives the executor. Null: the host's.
  PieceMover* mover = nullptr;
  // What goes from GPU to GPU; outlives the executor. Null: nothing.
  MessageLanes* lanes = nullptr;
};

// `peers` and `clock` outlive the executor; so does what the callbacks use. Its
// destructor aborts what runs and returns when all callbacks have.
// Errors: UNAVAILABLE - no usable network; INVALID_ARGUMENT - options.
absl::StatusOr<std::unique_ptr<TransferExecutor>> MakeTransferExecutor(
    const TransferExecutorOptions& options, ExecutorCallbacks callbacks,
    PeerDirectory& peers, const Clock& clock);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_TRANSFER_EXECUTOR_H_
