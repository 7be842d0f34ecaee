#include "tests/fakes/nccl/fake_comm.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "tests/fakes/nccl/fake_arithmetic.h"
#include "tests/fakes/nccl/fake_faults.h"
#include "tests/fakes/nccl/stream_abi.h"

using sluice::agent::NcclComm;
using sluice::agent::NcclResult;
using sluice::fake_nccl::BytesOf;
using sluice::fake_nccl::FaultSet;
using sluice::fake_nccl::Kind;
using sluice::fake_nccl::LogEntry;
using sluice::fake_nccl::Op;
using sluice::fake_nccl::Slot;

namespace {

// Never 0, which is a slot that nobody has filled.
uint64_t HashOf(const char* text) { return std::hash<std::string>()(text) | 1; }

uint64_t HostHash() {
  const char* id = std::getenv("NCCL_HOSTID");
  return HashOf(id != nullptr ? id : "this host");
}

// Each process has a device of its own unless it is told otherwise.
uint64_t DeviceHash() {
  const char* id = std::getenv("SLUICE_FAKE_NCCL_DEVICE");
  std::string device = id != nullptr ? id : std::to_string(::getpid());
  static std::atomic<int> count = 0;
  if (device == "each") device += std::to_string(++count);
  return HashOf(device.c_str());
}

// Only from 2.30 on, and only who is told to.
bool SharesDevice() {
  const char* told = std::getenv("NCCL_MULTI_RANK_GPU_ENABLE");
  return sluice::fake_nccl::Version() >= 23000 && told != nullptr &&
         std::atoi(told) != 0;
}

std::mutex last_error_mutex;
std::string& LastErrorText() {
  static auto* text = new std::string();
  return *text;
}

}  // namespace

int sluice::fake_nccl::Version() {
  const char* told = std::getenv("SLUICE_FAKE_NCCL_VERSION");
  return told != nullptr ? std::atoi(told) : 22809;
}

size_t Op::bytes() const { return count * BytesOf(type); }

ncclComm::ncclComm(std::string in_folder, int rank_count, int own_rank,
                   bool blocks)
    : folder(std::move(in_folder)),
      ranks(rank_count),
      rank(own_rank),
      blocking(blocks),
      worker_([this] { Work(); }) {}

ncclComm::~ncclComm() { Close(); }

void ncclComm::Close() {
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  if (worker_.joinable()) worker_.join();
  while (running > 0) ::usleep(1000);
}

void ncclComm::Work() {
  while (true) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return closing_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
  }
}

NcclResult ncclComm::Start(std::function<NcclResult()> job) {
  state = static_cast<int>(NcclResult::kInProgress);
  {
    std::lock_guard lock(mutex_);
    jobs_.push_back([this, job = std::move(job)] {
      const NcclResult result = job();
      job_ended = true;
      {
        std::lock_guard done(mutex_);
        // An asynchronous error may have come meanwhile.
        int in_progress = static_cast<int>(NcclResult::kInProgress);
        state.compare_exchange_strong(in_progress, static_cast<int>(result));
      }
      changed_.notify_all();
    });
  }
  changed_.notify_all();
  if (!blocking) return NcclResult::kInProgress;
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] {
    return state != static_cast<int>(NcclResult::kInProgress);
  });
  return static_cast<NcclResult>(state.load());
}

std::string ncclComm::LastError() {
  std::lock_guard lock(last_error_mutex);
  return LastErrorText();
}

void ncclComm::SetLastError(std::string text) {
  std::lock_guard lock(last_error_mutex);
  LastErrorText() = std::move(text);
}

void ncclComm::Hang() {
  while (!stopped) ::usleep(1000);
}

bool ncclComm::CheckDevices() {
  for (int second = 1; second < ranks; ++second) {
    for (int first = 0; first < second; ++first) {
      const Slot& a = board_.slot(first);
      const Slot& b = board_.slot(second);
      if (a.host != b.host || a.device != b.device) continue;
      if (a.shares != 0 && b.shares != 0) continue;
      SetLastError("Duplicate GPU detected : rank " + std::to_string(first) +
                   " and rank " + std::to_string(second) +
                   " both on one CUDA device");
      return false;
    }
  }
  return true;
}

NcclResult ncclComm::Join() {
  if (FaultSet("init_hang", rank, 0)) Hang();
  if (stopped) return NcclResult::kInternalError;
  while (FaultSet("init_hold", rank, 0) && !stopped) ::usleep(1000);
  if (FaultSet("init_fail", rank, 0)) {
    SetLastError("Call to connect failed: told to fail");
    return NcclResult::kSystemError;
  }
  if (FaultSet("init_duplicate", rank, 0)) {
    SetLastError("Duplicate GPU detected : told so");
    return NcclResult::kInvalidUsage;
  }
  if (!board_.Open(folder, ranks)) return NcclResult::kSystemError;
  int32_t none = 0;
  if (!board_.header().ranks.compare_exchange_strong(none, ranks) &&
      none != ranks) {
    SetLastError("ranks differ about their number");
    return NcclResult::kInvalidArgument;
  }
  Slot& own = board_.slot(rank);
  own.host = HostHash();
  own.device = DeviceHash();
  own.shares = SharesDevice() ? 1 : 0;
  if (own.joined != 0 || !board_.Hold(rank)) return NcclResult::kInvalidUsage;
  own.joined = 1;
  holds_ = true;
  board_.NotifyAll();
  const auto all = [this](std::atomic<uint32_t> Slot::*flag) {
    for (int r = 0; r < ranks; ++r) {
      if ((board_.slot(r).*flag) == 0) return false;
    }
    return true;
  };
  if (!board_.Wait(
          rank, [&] { return all(&Slot::joined); }, stopped)) {
    return NcclResult::kInternalError;
  }
  const bool distinct = CheckDevices();
  own.mapped = 1;
  board_.NotifyAll();
  if (!board_.Wait(
          rank, [&] { return all(&Slot::mapped); }, stopped)) {
    return NcclResult::kInternalError;
  }
  board_.Unlink();
  return distinct ? NcclResult::kSuccess : NcclResult::kInvalidUsage;
}

bool ncclComm::Connect(const std::vector<Op>& ops) {
  bool all = true;
  for (const Op& op : ops) {
    const bool message = op.kind == Kind::kSend || op.kind == Kind::kRecv;
    if (message && op.root == rank) continue;
    all &= !connected_.insert({op.kind, message ? op.root : 0}).second;
  }
  return all;
}

NcclResult ncclComm::Launch(const std::shared_ptr<std::vector<Op>>& ops) {
  if (stopped) return NcclResult::kInternalError;
  const int number = ++launches_;
  if (FaultSet("op_fail", rank, number)) {
    SetLastError("told to fail");
    return NcclResult::kInternalError;
  }
  struct Call {
    ncclComm* comm;
    std::shared_ptr<std::vector<Op>> ops;
    int number;
  };
  CUstream_st* stream = ops->front().stream;
  ++running;
  stream->enqueue(
      stream,
      [](void* argument) {
        const std::unique_ptr<Call> call(static_cast<Call*>(argument));
        ncclComm& comm = *call->comm;
        const auto set = [&](const char* what) {
          return FaultSet(what, comm.rank, call->number);
        };
        while (set("op_hold") && !comm.stopped) ::usleep(1000);
        if (set("op_error")) {
          comm.SetLastError("NET/Socket : peer has closed the connection");
          comm.state = static_cast<int>(NcclResult::kRemoteError);
          comm.Hang();
        }
        if (set("op_hang")) comm.Hang();
        const bool first = call->number == 1;
        if (!comm.Connect(*call->ops) && !first && set("late_connect")) {
          comm.Hang();
        }
        comm.RunGroup(*call->ops);
        --comm.running;
      },
      new Call{this, ops, number});
  return NcclResult::kSuccess;
}

void ncclComm::LeaveOthers() {
  if (holds_) board_.slot(rank).finalized = 1;
}

void ncclComm::NoteGonePeers() {
  for (int r = 0; holds_ && r < ranks; ++r) {
    const Slot& slot = board_.slot(r);
    if (r == rank || slot.joined == 0 || slot.finalized != 0 ||
        board_.Held(r)) {
      continue;
    }
    SetLastError("socketProgress: Connection closed by remote peer");
    state = static_cast<int>(FaultSet("gone_internal", rank, 0)
                                 ? NcclResult::kInternalError
                                 : NcclResult::kRemoteError);
  }
}

NcclResult ncclComm::Finalize() {
  if (FaultSet("finalize_hang", rank, 0)) Hang();
  while (running > 0 && !stopped) ::usleep(1000);
  board_.slot(rank).finalized = 1;
  board_.NotifyAll();
  const auto all_final = [this] {
    for (int r = 0; r < ranks; ++r) {
      if (board_.slot(r).finalized == 0) return false;
    }
    return true;
  };
  return board_.Wait(rank, all_final, stopped) ? NcclResult::kSuccess
                                               : NcclResult::kInternalError;
}

NcclResult ncclComm::Split(int color, int key, NcclComm made) {
  // Colours are data, told to all in a collective of its own.
  std::vector<int32_t> all(2 * static_cast<size_t>(ranks));
  const int32_t own[2] = {color, key};
  Op op;
  op.kind = Kind::kAllGather;
  op.from = reinterpret_cast<const char*>(own);
  op.to = reinterpret_cast<char*>(all.data());
  op.count = sizeof own;
  RunGroup({op});
  const uint64_t number = collectives_;
  if (stopped) return NcclResult::kInternalError;
  if (made == nullptr) return NcclResult::kSuccess;
  std::vector<std::pair<int, int>> members;  // key, rank
  for (int r = 0; r < ranks; ++r) {
    if (all[2 * r] == color) members.emplace_back(all[2 * r + 1], r);
  }
  std::sort(members.begin(), members.end());
  made->ranks = static_cast<int>(members.size());
  made->rank = static_cast<int>(
      std::find(members.begin(), members.end(), std::make_pair(key, rank)) -
      members.begin());
  made->folder =
      folder + ".split" + std::to_string(number) + "." + std::to_string(color);
  return NcclResult::kSuccess;
}
