#include "agent/nccl/group_call.h"

#include <cstddef>

#include "common/check.h"
#include "common/dtype.h"

namespace sluice::agent {
namespace {

std::byte* Data(const CollectiveRange& range) {
  if (range.elements == 0) return nullptr;
  return range.memory->data() + range.offset_bytes;
}

NcclDataType SummedType(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return NcclDataType::kFloat32;
    case DType::kBF16:
      return NcclDataType::kBfloat16;
    case DType::kF16:
      return NcclDataType::kFloat16;
    case DType::kF64:
      return NcclDataType::kFloat64;
    default:
      SLUICE_CHECK(dtype == DType::kI32) << dtype << " is not summed";
      return NcclDataType::kInt32;
  }
}

// Calls between GroupStart and GroupEnd; the first error counts, and the group
// is ended whatever happened inside it.
class Group {
 public:
  Group(const CollectiveCall& call, int members, int self, const NcclApi& nccl,
        NcclComm comm, NcclStreamHandle stream)
      : call_(call),
        members_(members),
        self_(self),
        element_bytes_(ByteSize(call.dtype)),
        nccl_(nccl),
        comm_(comm),
        stream_(stream) {}

  NcclResult Issue(bool even) {
    Note(nccl_.GroupStart());
    if (error_ != NcclResult::kSuccess) return error_;
    switch (call_.kind) {
      case CollectiveKind::kBroadcast:
        Broadcast();
        break;
      case CollectiveKind::kScatter:
        Scatter();
        break;
      case CollectiveKind::kGather:
        Gather();
        break;
      case CollectiveKind::kAllGather:
        AllGather(even);
        break;
      case CollectiveKind::kAllToAll:
        for (int m = 0; m < members_; ++m) {
          Send(call_.inputs[m], m);
          Receive(call_.outputs[m], m);
        }
        break;
      case CollectiveKind::kReduceScatter:
        ReduceScatter(even);
        break;
    }
    const NcclResult ended = nccl_.GroupEnd();
    return error_ == NcclResult::kSuccess ? ended : error_;
  }

 private:
  void Note(NcclResult result) {
    if (error_ == NcclResult::kSuccess && result != NcclResult::kInProgress) {
      error_ = result;
    }
  }

  // Elements that are only moved are bytes: NCCL lacks types of ours.
  void Send(const CollectiveRange& range, int to) {
    if (range.elements == 0 || error_ != NcclResult::kSuccess) return;
    Note(nccl_.Send(Data(range), Bytes(range), NcclDataType::kUint8, to, comm_,
                    stream_));
  }
  void Receive(const CollectiveRange& range, int from) {
    if (range.elements == 0 || error_ != NcclResult::kSuccess) return;
    Note(nccl_.Recv(Data(range), Bytes(range), NcclDataType::kUint8, from,
                    comm_, stream_));
  }
  // A member's own piece, which may lie where it shall be.
  void PassOwn(const CollectiveRange& from, const CollectiveRange& to) {
    if (Data(from) == Data(to)) return;
    Send(from, self_);
    Receive(to, self_);
  }

  void Broadcast() {
    const CollectiveRange& to = call_.outputs[0];
    if (to.elements == 0) return;
    const CollectiveRange& from = self_ == call_.root ? call_.inputs[0] : to;
    Note(nccl_.Broadcast(Data(from), Data(to), Bytes(to), NcclDataType::kUint8,
                         call_.root, comm_, stream_));
  }

  void Scatter() {
    if (self_ != call_.root) {
      Receive(call_.outputs[0], call_.root);
      return;
    }
    for (int m = 0; m < members_; ++m) {
      if (m != self_) Send(call_.inputs[m], m);
    }
    PassOwn(call_.inputs[self_], call_.outputs[0]);
  }

  void Gather() {
    if (self_ != call_.root) {
      Send(call_.inputs[0], call_.root);
      return;
    }
    for (int m = 0; m < members_; ++m) {
      if (m != self_) Receive(call_.outputs[m], m);
    }
    PassOwn(call_.inputs[0], call_.outputs[self_]);
  }

  void AllGather(bool even) {
    const CollectiveRange& own = call_.inputs[0];
    if (even) {
      if (own.elements == 0) return;
      Note(nccl_.AllGather(Data(own), Data(call_.outputs[0]), Bytes(own),
                           NcclDataType::kUint8, comm_, stream_));
      return;
    }
    for (int m = 0; m < members_; ++m) {
      if (m == self_) continue;
      Send(own, m);
      Receive(call_.outputs[m], m);
    }
    PassOwn(own, call_.outputs[self_]);
  }

  void ReduceScatter(bool even) {
    const NcclDataType type = SummedType(call_.dtype);
    const NcclRedOp op =
        call_.reduce == ReduceOp::kAverage ? NcclRedOp::kAvg : NcclRedOp::kSum;
    std::byte* const to = Data(call_.outputs[0]);
    if (even) {
      if (call_.outputs[0].elements == 0) return;
      Note(nccl_.ReduceScatter(Data(call_.inputs[0]), to,
                               call_.outputs[0].elements, type, op, comm_,
                               stream_));
      return;
    }
    for (int m = 0; m < members_; ++m) {
      const CollectiveRange& from = call_.inputs[m];
      if (from.elements == 0 || error_ != NcclResult::kSuccess) continue;
      Note(nccl_.Reduce(Data(from), m == self_ ? to : nullptr, from.elements,
                        type, op, m, comm_, stream_));
    }
  }

  size_t Bytes(const CollectiveRange& range) const {
    return static_cast<size_t>(range.elements * element_bytes_);
  }

  const CollectiveCall& call_;
  const int members_;
  const int self_;
  const int64_t element_bytes_;
  const NcclApi& nccl_;
  const NcclComm comm_;
  const NcclStreamHandle stream_;
  NcclResult error_ = NcclResult::kSuccess;
};

}  // namespace

NcclResult IssueGroupCall(const CollectiveCall& call, int members, int self,
                          bool even, const NcclApi& nccl, NcclComm comm,
                          NcclStream& stream) {
  return Group(call, members, self, nccl, comm, stream.handle()).Issue(even);
}

}  // namespace sluice::agent
