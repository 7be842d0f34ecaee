// One process of a pair.

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "bench/executor_rig.h"
#include "bench/lines.h"
#include "bench/transfer_cases.h"
#include "common/status_macros.h"

namespace sluice::bench {
namespace {

constexpr Rank kSender(0);
constexpr Rank kReceiver(1);
// As an agent of a node of few devices.
constexpr int kWorkerThreads = 2;

// Nobody is on this node.
class NoPeers final : public agent::PeerDirectory {
 public:
  absl::StatusOr<agent::PeerSource> Open(OperationId, Rank, absl::Time,
                                         int) override {
    return absl::UnavailableError("no peers on this node");
  }
};

class PeerProcess {
 public:
  PeerProcess(bool sender, int index, int from_parent, int to_parent)
      : sender_(sender), index_(index), in_(from_parent), out_(to_parent) {}

  // Until the parent closes its end.
  absl::Status Run(int64_t bytes);

 private:
  // The parent bounds all waits, and kills what does not end.
  absl::StatusOr<std::string> Read() {
    return ReadLine(in_, clock_, absl::InfiniteFuture());
  }
  absl::Status Move(NetworkCase what, OperationId operation);
  // Whether the receiver's memory is right; clears it.
  bool Verify(NetworkCase what);

  const bool sender_;
  const int index_;
  const int in_;
  const int out_;
  SystemClock clock_;
  NoPeers nobody_;
  Memory memory_;
  std::unique_ptr<ExecutorRig> rig_;
};

absl::Status PeerProcess::Run(int64_t bytes) {
  SLUICE_ASSIGN_OR_RETURN(memory_, TouchedMemory(bytes));
  if (sender_) FillPattern(*memory_, static_cast<uint64_t>(index_));
  SLUICE_ASSIGN_OR_RETURN(rig_, ExecutorRig::Create(kWorkerThreads, nobody_));
  SLUICE_RETURN_IF_ERROR(WriteLine(out_, rig_->executor().NetworkAddress()));
  SLUICE_ASSIGN_OR_RETURN(const std::string other, Read());
  SLUICE_RETURN_IF_ERROR(rig_->executor().SetPeer(sender_ ? kReceiver : kSender,
                                                  Incarnation(1), other));
  SLUICE_RETURN_IF_ERROR(WriteLine(out_, "up"));
  while (true) {
    const auto line = Read();
    if (absl::IsUnavailable(line.status())) return absl::OkStatus();
    SLUICE_RETURN_IF_ERROR(line.status());
    const std::vector<std::string> words = absl::StrSplit(*line, ' ');
    int what = 0;
    uint64_t id = 0;
    if (words.size() != 2 || !absl::SimpleAtoi(words[0], &what) ||
        !absl::SimpleAtoi(words[1], &id)) {
      return absl::InternalError("expected a case and an operation");
    }
    SLUICE_RETURN_IF_ERROR(
        Move(static_cast<NetworkCase>(what), OperationId(id)));
  }
}

absl::Status PeerProcess::Move(NetworkCase what, OperationId operation) {
  agent::ExecutionRequest request = OneTensorRequest(
      operation, sender_ ? kSender : kReceiver, kSender, kReceiver,
      LinkClass::kBetweenNodes,
      what == NetworkCase::kStrided ? kHalfRows : Rows(), memory_->size(),
      sender_ ? memory_ : nullptr, sender_ ? nullptr : memory_);
  request.digests = what == NetworkCase::kDigests;
  agent::TransferExecutor& executor = rig_->executor();
  SLUICE_RETURN_IF_ERROR(executor.Prepare(std::move(request)));
  SLUICE_RETURN_IF_ERROR(WriteLine(out_, "ready"));
  SLUICE_RETURN_IF_ERROR(Read().status());
  SLUICE_RETURN_IF_ERROR(executor.Start(operation));
  SLUICE_RETURN_IF_ERROR(rig_->Wait());
  SLUICE_RETURN_IF_ERROR(WriteLine(out_, "done"));
  executor.Release(operation);
  SLUICE_RETURN_IF_ERROR(Read().status());
  return WriteLine(out_, Verify(what) ? "good" : "bad");
}

bool PeerProcess::Verify(NetworkCase what) {
  if (sender_) return true;
  const bool strided = what == NetworkCase::kStrided;
  const auto* words = reinterpret_cast<const uint64_t*>(memory_->data());
  bool good = true;
  for (int64_t i = 0; i < memory_->size() / 8; ++i) {
    const bool moved =
        !strided || i * 8 % kHalfRows.from_pitch < kHalfRows.bytes;
    const uint64_t expected =
        moved ? PatternWord(static_cast<uint64_t>(index_), i) : 0;
    good &= words[i] == expected;
  }
  std::memset(memory_->data(), 0, static_cast<size_t>(memory_->size()));
  return good;
}

}  // namespace

int RunNetworkPeer(bool sender, int index, int64_t bytes, int from_parent,
                   int to_parent) {
  PeerProcess peer(sender, index, from_parent, to_parent);
  const absl::Status status = peer.Run(bytes);
  if (status.ok()) return 0;
  WriteLine(to_parent, status.ToString()).IgnoreError();
  return 1;
}

}  // namespace sluice::bench
