#include "agent/transfer_executor.h"

#include <pthread.h>

#include <algorithm>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "agent/executor/digest_table.h"
#include "agent/executor/operation.h"
#include "agent/executor/staging_buffers.h"
#include "agent/executor/thread_pool.h"
#include "common/mutex.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// Threads that wait for peers: one per peer of the node and operation, at most.
constexpr int kMaxWaiters = 1024;
// Stalls are looked for this often within an operation's progress timeout.
constexpr int kChecksPerTimeout = 10;

class HostExecutor final : public TransferExecutor {
 public:
  HostExecutor(const TransferExecutorOptions& options,
               ExecutorCallbacks callbacks, PeerDirectory& peers,
               const Clock& clock, std::unique_ptr<UcxTransport> transport)
      : callbacks_(std::move(callbacks)),
        clock_(clock),
        mover_(options.mover != nullptr ? *options.mover : TheHostMover()),
        buffers_(options.keep_staging_bytes, mover_),
        lane_buffers_(options.keep_staging_bytes, options.lanes != nullptr
                                                      ? options.lanes->mover()
                                                      : mover_),
        transport_(std::move(transport)),
        deps_{
            *transport_, peers,         clock,
            workers_,    waiters_,      buffers_,
            mover_,      options.lanes, &lane_buffers_,
            digests_,    callbacks_,    [this](OperationId id) { Ended(id); }},
        workers_("sluice-worker", options.worker_threads),
        waiters_("sluice-waiter", kMaxWaiters),
        watchdog_([this] {
          pthread_setname_np(pthread_self(), "sluice-watchdog");
          Watch();
        }) {}

  ~HostExecutor() override;

  std::string NetworkAddress() const override {
    return transport_->LocalAddress();
  }
  UcxTransport* transport() override { return transport_.get(); }
  absl::Status SetPeer(Rank peer, Incarnation,
                       const std::string& network_address) override {
    return Annotate(transport_->Connect(KeyOf(peer), network_address),
                    absl::StrCat("rank ", peer.value()));
  }
  void DropPeer(Rank peer) override {
    transport_->Disconnect(KeyOf(peer), nullptr);
  }

  absl::Status Prepare(ExecutionRequest request) override;
  absl::Status Start(OperationId operation) override;
  void Abort(OperationId operation, absl::Status reason) override;
  void Release(OperationId operation) override;
  absl::StatusOr<BoardHandle> Board(OperationId operation) override;
  void ForgetContent(const std::string& content_key) override {
    digests_.Forget(content_key);
  }

 private:
  using Operations =
      absl::flat_hash_map<OperationId, std::shared_ptr<TransferOperation>>;

  static UcxTransport::PeerKey KeyOf(Rank rank) {
    return static_cast<UcxTransport::PeerKey>(rank.value());
  }
  std::shared_ptr<TransferOperation> Find(OperationId id);
  void Ended(OperationId id);
  void Watch();

  const ExecutorCallbacks callbacks_;
  const Clock& clock_;
  DigestTable digests_;
  PieceMover& mover_;
  StagingBuffers buffers_;
  StagingBuffers lane_buffers_;

  Mutex mutex_;
  CondVar changed_;
  Operations operations_ ABSL_GUARDED_BY(mutex_);
  // Of these, those whose on_done is still to come.
  absl::flat_hash_set<OperationId> running_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  // From here on in the order of their ends, last first: the watchdog uses
  // operations, these use the pools, whose jobs use the transport.
  std::unique_ptr<UcxTransport> transport_;
  const TransferOperation::Deps deps_;
  ThreadPool workers_;
  ThreadPool waiters_;
  std::thread watchdog_;
};

HostExecutor::~HostExecutor() {
  std::vector<std::shared_ptr<TransferOperation>> operations;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    for (const auto& [id, operation] : operations_) {
      operations.push_back(operation);
    }
  }
  for (const auto& operation : operations) {
    operation->Abort(absl::CancelledError("the agent stops"));
  }
  operations.clear();
  changed_.SignalAll();
  {
    MutexLock lock(mutex_);
    while (!running_.empty()) changed_.Wait(mutex_);
  }
  watchdog_.join();
}

absl::Status HostExecutor::Prepare(ExecutionRequest request) {
  const OperationId id = request.operation;
  {
    MutexLock lock(mutex_);
    if (stopping_) return absl::UnavailableError("the agent stops");
    if (operations_.contains(id)) {
      return absl::AlreadyExistsError(
          absl::StrCat("operation ", id.value(), " is prepared already"));
    }
  }
  SLUICE_ASSIGN_OR_RETURN(std::shared_ptr<TransferOperation> operation,
                          TransferOperation::Create(std::move(request), deps_));
  MutexLock lock(mutex_);
  if (!operations_.emplace(id, std::move(operation)).second) {
    return absl::AlreadyExistsError(
        absl::StrCat("operation ", id.value(), " is prepared already"));
  }
  running_.insert(id);
  changed_.SignalAll();
  return absl::OkStatus();
}

std::shared_ptr<TransferOperation> HostExecutor::Find(OperationId id) {
  MutexLock lock(mutex_);
  const auto it = operations_.find(id);
  return it == operations_.end() ? nullptr : it->second;
}

absl::Status HostExecutor::Start(OperationId id) {
  const std::shared_ptr<TransferOperation> operation = Find(id);
  if (operation == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("operation ", id.value(), " is not prepared"));
  }
  operation->Start();
  return absl::OkStatus();
}

void HostExecutor::Abort(OperationId id, absl::Status reason) {
  const std::shared_ptr<TransferOperation> operation = Find(id);
  if (operation != nullptr) operation->Abort(std::move(reason));
}

void HostExecutor::Release(OperationId id) {
  std::shared_ptr<TransferOperation> operation;
  {
    MutexLock lock(mutex_);
    const auto it = operations_.find(id);
    if (it == operations_.end()) return;
    operation = std::move(it->second);
    operations_.erase(it);
  }
  // Of one that runs, nothing is left behind.
  operation->Abort(absl::CancelledError("released before its end"));
}

absl::StatusOr<TransferExecutor::BoardHandle> HostExecutor::Board(
    OperationId id) {
  const std::shared_ptr<TransferOperation> operation = Find(id);
  if (operation == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("operation ", id.value(), " is not prepared"));
  }
  const MappedMemory& memory = *operation->board().memory();
  return BoardHandle{memory.descriptor(), memory.size()};
}

void HostExecutor::Ended(OperationId id) {
  MutexLock lock(mutex_);
  running_.erase(id);
  changed_.SignalAll();
}

void HostExecutor::Watch() {
  mutex_.Lock();
  while (!stopping_) {
    if (running_.empty()) {
      changed_.Wait(mutex_);
      continue;
    }
    std::vector<std::shared_ptr<TransferOperation>> operations;
    absl::Duration pause = absl::InfiniteDuration();
    for (const OperationId id : running_) {
      const auto it = operations_.find(id);
      if (it == operations_.end()) continue;  // released
      operations.push_back(it->second);
      pause =
          std::min(pause, it->second->progress_timeout() / kChecksPerTimeout);
    }
    mutex_.Unlock();
    for (const auto& operation : operations) {
      operation->CheckStalled(clock_.Now());
    }
    operations.clear();
    mutex_.Lock();
    if (!stopping_) changed_.WaitFor(mutex_, pause);
  }
  mutex_.Unlock();
}

}  // namespace

absl::StatusOr<std::unique_ptr<TransferExecutor>> MakeTransferExecutor(
    const TransferExecutorOptions& options, ExecutorCallbacks callbacks,
    PeerDirectory& peers, const Clock& clock) {
  if (options.worker_threads < 1 || options.keep_staging_bytes < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "expected at least one worker thread and no negative "
        "staging, found ",
        options.worker_threads, " and ", options.keep_staging_bytes));
  }
  SLUICE_ASSIGN_OR_RETURN(std::unique_ptr<UcxTransport> transport,
                          UcxTransport::Create(options.network));
  return std::unique_ptr<TransferExecutor>(std::make_unique<HostExecutor>(
      options, std::move(callbacks), peers, clock, std::move(transport)));
}

}  // namespace sluice::agent
