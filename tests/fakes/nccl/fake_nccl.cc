// A library with NCCL's binary interface that moves bytes between processes
// through host memory, for tests on machines without a GPU. A stream is a queue
// of the host (stream_abi.h). It keeps NCCL's rules: collectives in one order
// on all ranks (who differs waits for ever), one device per rank, a call on a
// communicator only when the one before has been accepted, and of one
// communicator no call beside another but an abort (who does otherwise ends
// the process). That a rank died or was aborted, the others learn at once as an
// asynchronous error. A unique id keeps a folder until all ranks have come to
// it, as NCCL's keeps a thread and a socket. fake_faults.h says what it can be
// told to do wrong. Environment:
//
//   SLUICE_FAKE_NCCL_DIR      where communicators are made; default /dev/shm
//   SLUICE_FAKE_NCCL_VERSION  what ncclGetVersion says
//   SLUICE_FAKE_NCCL_DEVICE   this process's device; default: one of its own;
//                             "each": one for each communicator
//   NCCL_HOSTID               as in NCCL: which processes share a host
//   NCCL_COMM_BLOCKING        as in NCCL: wins over what configurations say
//   NCCL_MULTI_RANK_GPU_ENABLE  as in NCCL: from 2.30 on, ranks that are told
//                             this share a device

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/nccl/nccl_api.h"
#include "tests/fakes/nccl/fake_arithmetic.h"
#include "tests/fakes/nccl/fake_comm.h"
#include "tests/fakes/nccl/fake_faults.h"
#include "tests/fakes/nccl/stream_abi.h"

using sluice::agent::kNcclUndefined;
using sluice::agent::NcclComm;
using sluice::agent::NcclConfig;
using sluice::agent::NcclDataType;
using sluice::agent::NcclRedOp;
using sluice::agent::NcclResult;
using sluice::agent::NcclStreamHandle;
using sluice::agent::NcclUniqueId;
using sluice::fake_nccl::BytesOf;
using sluice::fake_nccl::CanReduce;
using sluice::fake_nccl::FaultSet;
using sluice::fake_nccl::Kind;
using sluice::fake_nccl::kMaxRanks;
using sluice::fake_nccl::Op;

#define FAKE_NCCL_EXPORT extern "C" __attribute__((visibility("default"), used))

namespace {

constexpr char kIdMark[] = "fake-nccl:";

thread_local int group_depth = 0;
thread_local std::vector<Op> group_ops;
thread_local NcclResult group_error = NcclResult::kSuccess;

std::mutex comms_mutex;
std::set<NcclComm>& Comms() {
  static auto* comms = new std::set<NcclComm>();
  return *comms;
}

NcclComm Register(NcclComm comm) {
  std::lock_guard lock(comms_mutex);
  Comms().insert(comm);
  return comm;
}

void Forget(NcclComm comm) {
  std::lock_guard lock(comms_mutex);
  Comms().erase(comm);
}

// Whether a call runs on a communicator that nobody has aborted.
bool OthersRun() {
  std::lock_guard lock(comms_mutex);
  for (NcclComm comm : Comms()) {
    if (comm->running > 0 && !comm->stopped) return true;
  }
  return false;
}

// A thread's stay in a function of the library. Ends the process where another
// thread is inside with the same communicator.
class Inside {
 public:
  explicit Inside(NcclComm comm) : comm_(comm) {
    if (!comm->inside.exchange(true)) return;
    std::fprintf(stderr, "fake NCCL: two threads inside one communicator\n");
    std::abort();
  }
  ~Inside() { comm_->inside = false; }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

 private:
  const NcclComm comm_;
};

NcclResult Free(NcclComm comm) {
  comm->Close();
  Forget(comm);
  delete comm;
  return NcclResult::kSuccess;
}

bool Blocking(const NcclConfig* config) {
  const char* told = std::getenv("NCCL_COMM_BLOCKING");
  if (told != nullptr) return std::atoi(told) != 0;
  return config == nullptr || config->blocking == kNcclUndefined ||
         config->blocking != 0;
}

NcclResult LaunchGroup(std::vector<Op> ops) {
  std::map<NcclComm, std::shared_ptr<std::vector<Op>>> calls;
  for (Op& op : ops) {
    auto& call = calls[op.comm];
    if (call == nullptr) call = std::make_shared<std::vector<Op>>();
    // NCCL takes several; one is all that is needed here.
    if (!call->empty() && call->front().stream != op.stream) {
      return NcclResult::kInvalidUsage;
    }
    call->push_back(op);
  }
  NcclResult result = NcclResult::kSuccess;
  for (auto& [comm, call] : calls) {
    const Inside inside(comm);
    const NcclResult started =
        comm->Start([comm = comm, call = call] { return comm->Launch(call); });
    if (started != NcclResult::kSuccess) result = started;
  }
  return result;
}

NcclResult Check(const Op& op) {
  if (op.comm == nullptr || op.stream == nullptr) {
    return NcclResult::kInvalidArgument;
  }
  const Inside inside(op.comm);
  if (op.comm->state != static_cast<int>(NcclResult::kSuccess)) {
    op.comm->SetLastError("the previous call has not been accepted yet");
    return NcclResult::kInvalidArgument;
  }
  if (op.stream->magic != kHostStreamMagic || BytesOf(op.type) == 0 ||
      op.root < 0 || op.root >= op.comm->ranks) {
    op.comm->SetLastError("stream, type, root or peer");
    return NcclResult::kInvalidArgument;
  }
  const bool reduces = op.kind == Kind::kReduce ||
                       op.kind == Kind::kAllReduce ||
                       op.kind == Kind::kReduceScatter;
  if (reduces && !CanReduce(op.type, op.op)) {
    return NcclResult::kInvalidArgument;
  }
  return NcclResult::kSuccess;
}

NcclResult Issue(const Op& op) {
  const NcclResult checked = Check(op);
  if (checked != NcclResult::kSuccess) {
    if (group_depth > 0) group_error = checked;
    return checked;
  }
  if (group_depth == 0) return LaunchGroup({op});
  group_ops.push_back(op);
  return NcclResult::kSuccess;
}

Op MakeOp(Kind kind, const void* from, void* to, size_t count,
          NcclDataType type, NcclComm comm, NcclStreamHandle stream) {
  Op op;
  op.kind = kind;
  op.from = static_cast<const char*>(from);
  op.to = static_cast<char*>(to);
  op.count = count;
  op.type = type;
  op.comm = comm;
  op.stream = stream;
  return op;
}

}  // namespace

FAKE_NCCL_EXPORT NcclResult ncclGetVersion(int* version) {
  *version = sluice::fake_nccl::Version();
  return NcclResult::kSuccess;
}

FAKE_NCCL_EXPORT NcclResult ncclGetUniqueId(NcclUniqueId* id) {
  const char* told = std::getenv("SLUICE_FAKE_NCCL_DIR");
  std::string folder =
      std::string(told != nullptr ? told : "/dev/shm") + "/fake_nccl.XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) return NcclResult::kSystemError;
  const std::string text = kIdMark + folder;
  if (text.size() >= sizeof id->internal) return NcclResult::kInternalError;
  std::memset(id, 0, sizeof *id);
  std::memcpy(id->internal, text.data(), text.size());
  return NcclResult::kSuccess;
}

FAKE_NCCL_EXPORT NcclResult ncclCommInitRankConfig(NcclComm* comm, int ranks,
                                                   NcclUniqueId id, int rank,
                                                   NcclConfig* config) {
  *comm = nullptr;
  const std::string text(id.internal,
                         ::strnlen(id.internal, sizeof id.internal));
  if (text.rfind(kIdMark, 0) != 0 || ranks < 1 || ranks > kMaxRanks ||
      rank < 0 || rank >= ranks) {
    return NcclResult::kInvalidArgument;
  }
  *comm = Register(new ncclComm(text.substr(sizeof kIdMark - 1), ranks, rank,
                                Blocking(config)));
  return (*comm)->Start([made = *comm] { return made->Join(); });
}

FAKE_NCCL_EXPORT NcclResult ncclCommSplit(NcclComm comm, int color, int key,
                                          NcclComm* made, NcclConfig* config) {
  const Inside inside(comm);
  const bool blocking = config == nullptr ? comm->blocking : Blocking(config);
  *made = color < 0 ? nullptr : Register(new ncclComm("", 0, 0, blocking));
  NcclComm child = *made;
  if (child != nullptr) {
    child->state = static_cast<int>(NcclResult::kInProgress);
  }
  const NcclResult started = comm->Start([comm, color, key, child] {
    const NcclResult split = comm->Split(color, key, child);
    if (child != nullptr && split == NcclResult::kSuccess) {
      child->Start([child] { return child->Join(); });
    }
    return split;
  });
  return started;
}

FAKE_NCCL_EXPORT NcclResult ncclCommFinalize(NcclComm comm) {
  const Inside inside(comm);
  return comm->Start([comm] { return comm->Finalize(); });
}

FAKE_NCCL_EXPORT NcclResult ncclCommDestroy(NcclComm comm) {
  { const Inside inside(comm); }
  comm->LeaveOthers();
  return Free(comm);
}

FAKE_NCCL_EXPORT NcclResult ncclCommAbort(NcclComm comm) {
  comm->stopped = true;
  while (FaultSet("abort_hang", comm->rank, 0)) ::usleep(1000);
  while (FaultSet("abort_waits", comm->rank, 0) && OthersRun()) ::usleep(1000);
  return Free(comm);
}

FAKE_NCCL_EXPORT NcclResult ncclCommGetAsyncError(NcclComm comm,
                                                  NcclResult* error) {
  const Inside inside(comm);
  comm->NoteGonePeers();
  *error = static_cast<NcclResult>(comm->state.load());
  // As long as NCCL takes to join the thread of a call that has ended.
  if (comm->job_ended.exchange(false)) ::usleep(300);
  return NcclResult::kSuccess;
}

FAKE_NCCL_EXPORT NcclResult ncclCommCount(const NcclComm comm, int* count) {
  const Inside inside(comm);
  *count = comm->ranks;
  return NcclResult::kSuccess;
}

FAKE_NCCL_EXPORT NcclResult ncclCommUserRank(const NcclComm comm, int* rank) {
  const Inside inside(comm);
  *rank = comm->rank;
  return NcclResult::kSuccess;
}

FAKE_NCCL_EXPORT const char* ncclGetErrorString(NcclResult result) {
  switch (result) {
    case NcclResult::kSuccess:
      return "no error";
    case NcclResult::kUnhandledCudaError:
      return "unhandled cuda error";
    case NcclResult::kSystemError:
      return "unhandled system error";
    case NcclResult::kInternalError:
      return "internal error";
    case NcclResult::kInvalidArgument:
      return "invalid argument";
    case NcclResult::kInvalidUsage:
      return "invalid usage";
    case NcclResult::kRemoteError:
      return "remote process exited or there was a network error";
    case NcclResult::kInProgress:
      return "NCCL operation in progress";
  }
  return "unknown result code";
}

FAKE_NCCL_EXPORT const char* ncclGetLastError(NcclComm) {
  static thread_local std::string text;
  text = ncclComm::LastError();
  return text.c_str();
}

FAKE_NCCL_EXPORT NcclResult ncclGroupStart() {
  ++group_depth;
  return NcclResult::kSuccess;
}

FAKE_NCCL_EXPORT NcclResult ncclGroupEnd() {
  if (group_depth == 0) return NcclResult::kInvalidUsage;
  if (--group_depth > 0) return NcclResult::kSuccess;
  std::vector<Op> ops = std::exchange(group_ops, {});
  const NcclResult error = std::exchange(group_error, NcclResult::kSuccess);
  return error != NcclResult::kSuccess ? error : LaunchGroup(std::move(ops));
}

FAKE_NCCL_EXPORT NcclResult ncclSend(const void* data, size_t count,
                                     NcclDataType type, int peer, NcclComm comm,
                                     NcclStreamHandle stream) {
  Op op = MakeOp(Kind::kSend, data, nullptr, count, type, comm, stream);
  op.root = peer;
  return Issue(op);
}

FAKE_NCCL_EXPORT NcclResult ncclRecv(void* data, size_t count,
                                     NcclDataType type, int peer, NcclComm comm,
                                     NcclStreamHandle stream) {
  Op op = MakeOp(Kind::kRecv, nullptr, data, count, type, comm, stream);
  op.root = peer;
  return Issue(op);
}

FAKE_NCCL_EXPORT NcclResult ncclBroadcast(const void* from, void* to,
                                          size_t count, NcclDataType type,
                                          int root, NcclComm comm,
                                          NcclStreamHandle stream) {
  Op op = MakeOp(Kind::kBroadcast, from, to, count, type, comm, stream);
  op.root = root;
  return Issue(op);
}

FAKE_NCCL_EXPORT NcclResult ncclReduce(const void* from, void* to, size_t count,
                                       NcclDataType type, NcclRedOp how,
                                       int root, NcclComm comm,
                                       NcclStreamHandle stream) {
  Op op = MakeOp(Kind::kReduce, from, to, count, type, comm, stream);
  op.op = how;
  op.root = root;
  return Issue(op);
}

FAKE_NCCL_EXPORT NcclResult ncclAllReduce(const void* from, void* to,
                                          size_t count, NcclDataType type,
                                          NcclRedOp how, NcclComm comm,
                                          NcclStreamHandle stream) {
  Op op = MakeOp(Kind::kAllReduce, from, to, count, type, comm, stream);
  op.op = how;
  return Issue(op);
}

FAKE_NCCL_EXPORT NcclResult ncclAllGather(const void* from, void* to,
                                          size_t count, NcclDataType type,
                                          NcclComm comm,
                                          NcclStreamHandle stream) {
  return Issue(MakeOp(Kind::kAllGather, from, to, count, type, comm, stream));
}

FAKE_NCCL_EXPORT NcclResult ncclReduceScatter(const void* from, void* to,
                                              size_t count, NcclDataType type,
                                              NcclRedOp how, NcclComm comm,
                                              NcclStreamHandle stream) {
  Op op = MakeOp(Kind::kReduceScatter, from, to, count, type, comm, stream);
  op.op = how;
  return Issue(op);
}

FAKE_NCCL_EXPORT NcclResult ncclAlltoAll(const void* from, void* to,
                                         size_t count, NcclDataType type,
                                         NcclComm comm,
                                         NcclStreamHandle stream) {
  return Issue(MakeOp(Kind::kAllToAll, from, to, count, type, comm, stream));
}

FAKE_NCCL_EXPORT NcclResult ncclGather(const void* from, void* to, size_t count,
                                       NcclDataType type, int root,
                                       NcclComm comm, NcclStreamHandle stream) {
  Op op = MakeOp(Kind::kGather, from, to, count, type, comm, stream);
  op.root = root;
  return Issue(op);
}

FAKE_NCCL_EXPORT NcclResult ncclScatter(const void* from, void* to,
                                        size_t count, NcclDataType type,
                                        int root, NcclComm comm,
                                        NcclStreamHandle stream) {
  Op op = MakeOp(Kind::kScatter, from, to, count, type, comm, stream);
  op.root = root;
  return Issue(op);
}
