#ifndef SLUICE_TESTS_AGENT_FAKE_EXECUTOR_H_
#define SLUICE_TESTS_AGENT_FAKE_EXECUTOR_H_

// An executor that moves nothing and remembers what it was told. Thread-safe.

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "agent/device/host_device.h"
#include "agent/executor_interface.h"
#include "common/mutex.h"

namespace sluice::agent {

class FakeExecutor final : public TransferExecutor {
 public:
  explicit FakeExecutor(ExecutorCallbacks callbacks)
      : callbacks_(std::move(callbacks)) {}

  std::string NetworkAddress() const override { return "fake-address"; }

  absl::Status SetPeer(Rank peer, Incarnation,
                       const std::string& address) override {
    MutexLock lock(mutex_);
    log_.push_back(absl::StrCat("peer ", peer.value(), " ", address));
    return absl::OkStatus();
  }
  void DropPeer(Rank peer) override {
    MutexLock lock(mutex_);
    log_.push_back(absl::StrCat("drop ", peer.value()));
  }

  absl::Status Prepare(ExecutionRequest request) override {
    HostDevice device;
    auto board = device.Allocate(4096, "board");
    if (!board.ok()) return board.status();
    MutexLock lock(mutex_);
    log_.push_back(absl::StrCat("prepare ", request.operation.value()));
    boards_[request.operation] = *std::move(board);
    requests_[request.operation] = std::move(request);
    return absl::OkStatus();
  }
  absl::Status Start(OperationId operation) override {
    {
      MutexLock lock(mutex_);
      log_.push_back(absl::StrCat("start ", operation.value()));
    }
    callbacks_.on_done(operation, absl::OkStatus(), {}, kNoRank);
    return absl::OkStatus();
  }
  void Abort(OperationId operation, absl::Status reason) override {
    {
      MutexLock lock(mutex_);
      log_.push_back(absl::StrCat("abort ", operation.value()));
    }
    callbacks_.on_done(operation, std::move(reason), {}, kNoRank);
  }
  void Release(OperationId operation) override {
    MutexLock lock(mutex_);
    log_.push_back(absl::StrCat("release ", operation.value()));
    boards_.erase(operation);
    requests_.erase(operation);
  }

  absl::StatusOr<BoardHandle> Board(OperationId operation) override {
    MutexLock lock(mutex_);
    const auto it = boards_.find(operation);
    if (it == boards_.end()) {
      return absl::FailedPreconditionError(
          absl::StrCat("operation ", operation.value()));
    }
    return BoardHandle{it->second->descriptor(), it->second->size()};
  }
  void ForgetContent(const std::string& key) override {
    MutexLock lock(mutex_);
    log_.push_back(absl::StrCat("forget ", key));
  }

  // Adds what somebody else was told.
  void Note(std::string what) {
    MutexLock lock(mutex_);
    log_.push_back(std::move(what));
  }
  std::vector<std::string> log() const {
    MutexLock lock(mutex_);
    return log_;
  }

 private:
  const ExecutorCallbacks callbacks_;
  mutable Mutex mutex_;
  std::vector<std::string> log_ ABSL_GUARDED_BY(mutex_);
  std::map<OperationId, std::shared_ptr<MappedMemory>> boards_
      ABSL_GUARDED_BY(mutex_);
  std::map<OperationId, ExecutionRequest> requests_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice::agent

#endif  // SLUICE_TESTS_AGENT_FAKE_EXECUTOR_H_
