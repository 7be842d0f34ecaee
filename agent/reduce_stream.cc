// WorkerService.ReduceGroup: one worker's stream of requests of one group.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "agent/collective/reduce_groups.h"
#include "agent/collective/reduce_lane.h"
#include "agent/collective/reduce_request.h"
#include "agent/cuda/cuda_runtime.h"
#include "agent/nccl/gpu_copies.h"
#include "agent/stream_writer.h"
#include "agent/worker_service.h"
#include "common/convert_command.h"
#include "common/convert_limits.h"
#include "common/convert_repeated.h"
#include "common/convert_tensor.h"
#include "common/convert_time.h"
#include "common/mutex.h"
#include "common/reduce_scatter_buckets.h"
#include "common/status_grpc.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

constexpr int64_t kMaxBusIdBytes = 64;

// Answers waiting for a worker that does not read: as many as requests may.
constexpr size_t kMaxQueuedReplies = 100'000;

using Writer = StreamWriter<v1::ReduceReply>;

absl::StatusOr<ReduceGroupSpec> FromProto(const v1::JoinReduceGroup& proto) {
  ReduceGroupSpec out;
  out.session = proto.session();
  SLUICE_RETURN_IF_ERROR(
      CheckName("name", proto.name(), kMaxReduceGroupNameBytes));
  out.name = proto.name();
  SLUICE_RETURN_IF_ERROR(ParseNames("agents", proto.agents(), kMaxMeshSize,
                                    kMaxAgentNameBytes, out.agents));
  SLUICE_RETURN_IF_ERROR(CheckCount("ranks", proto.ranks_size(), kMaxMeshSize));
  for (const int32_t rank : proto.ranks()) out.ranks.push_back(Rank(rank));
  switch (proto.operation()) {
    case v1::REDUCE_OPERATION_SUM:
      out.operation = ReduceOp::kSum;
      break;
    case v1::REDUCE_OPERATION_AVERAGE:
      out.operation = ReduceOp::kAverage;
      break;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("operation: expected SUM or AVERAGE, found ",
                       static_cast<int>(proto.operation())));
  }
  switch (proto.space()) {
    case v1::REDUCE_SPACE_UNSPECIFIED:
    case v1::REDUCE_SPACE_HOST:
      break;
    case v1::REDUCE_SPACE_GPU:
      out.gpu = true;
      break;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("space: expected HOST or GPU, found ",
                       static_cast<int>(proto.space())));
  }
  if (proto.has_bucket_mib()) out.bucket_mib = proto.bucket_mib();
  if (proto.has_deadline()) {
    SLUICE_ASSIGN_OR_RETURN(out.deadline,
                            DurationFromProto("deadline", proto.deadline()));
  }
  if (proto.has_call_deadline()) {
    SLUICE_ASSIGN_OR_RETURN(
        out.call_deadline,
        DurationFromProto("call_deadline", proto.call_deadline()));
  }
  SLUICE_RETURN_IF_ERROR(out.Validate());
  return out;
}

absl::StatusOr<ReduceTensor> FromProto(const v1::ReduceTensor& proto) {
  ReduceTensor out;
  out.memory = proto.memory();
  out.offset_bytes = proto.offset_bytes();
  SLUICE_RETURN_IF_ERROR(CheckCount("shape", proto.shape_size(), kMaxDims));
  out.shape.assign(proto.shape().begin(), proto.shape().end());
  SLUICE_ASSIGN_OR_RETURN(out.dtype, sluice::FromProto(proto.dtype()));
  return out;
}

absl::StatusOr<ReduceScatterRequest> FromProto(const v1::ReduceScatter& proto) {
  ReduceScatterRequest out;
  SLUICE_RETURN_IF_ERROR(ParseRepeated(
      "inputs", proto.inputs(), kMaxMeshSize,
      [](const v1::ReduceTensor& tensor) { return FromProto(tensor); },
      out.inputs));
  absl::StatusOr<ReduceTensor> output = FromProto(proto.output());
  if (!output.ok()) return Annotate(output.status(), "output");
  out.output = *std::move(output);
  return out;
}

absl::Status ParseHandle(absl::string_view field, const std::string& bytes,
                         cuda::IpcHandle& handle) {
  if (bytes.size() != handle.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ": expected a CUDA IPC handle of ", handle.size(),
                     " bytes, found ", bytes.size()));
  }
  std::copy(bytes.begin(), bytes.end(), handle.begin());
  return absl::OkStatus();
}

absl::StatusOr<GpuMemoryOffer> FromProto(const v1::GpuReduceMemory& proto) {
  GpuMemoryOffer out;
  SLUICE_RETURN_IF_ERROR(
      ParseHandle("handle", proto.handle(), out.range.handle));
  out.range.offset_bytes = proto.offset_bytes();
  out.range.size_bytes = proto.size_bytes();
  SLUICE_RETURN_IF_ERROR(CheckText("bus_id", proto.bus_id(), kMaxBusIdBytes));
  out.bus_id = proto.bus_id();
  if (proto.event().empty()) return out;
  SLUICE_RETURN_IF_ERROR(
      ParseHandle("event", proto.event(), out.event.emplace()));
  return out;
}

v1::ReducedScatter::Reason ToProto(ReductionReason reason) {
  switch (reason) {
    case ReductionReason::kImmediate:
      return v1::ReducedScatter::REASON_IMMEDIATE;
    case ReductionReason::kBucketFull:
      return v1::ReducedScatter::REASON_BUCKET_FULL;
    case ReductionReason::kFlush:
      return v1::ReducedScatter::REASON_FLUSH;
  }
  return v1::ReducedScatter::REASON_UNSPECIFIED;
}

v1::ReduceReply ToProto(const ReduceAnswer& answer) {
  v1::ReduceReply out;
  out.set_id(answer.id);
  *out.mutable_outcome() = ToOutcome(answer.status);
  if (!answer.reduced) return out;
  v1::ReducedScatter* reduced = out.mutable_reduced();
  reduced->set_reason(ToProto(answer.reason));
  reduced->set_sent_by(answer.sent_by);
  reduced->set_collective(answer.collective);
  reduced->set_shard_elements(answer.shard_elements);
  return out;
}

v1::ReduceReply ToProto(uint64_t id,
                        const absl::StatusOr<CollectiveMembers>& joined,
                        const std::string& ready) {
  v1::ReduceReply out;
  out.set_id(id);
  *out.mutable_outcome() = ToOutcome(joined.status());
  if (!joined.ok()) return out;
  for (const Peer& peer : joined->peers) {
    out.mutable_joined()->add_agents(peer.name);
  }
  out.mutable_joined()->set_self(joined->self);
  out.mutable_joined()->set_ready_event(ready);
  return out;
}

// The stream ends when the group is over and the worker sends no more.
class StreamEnd {
 public:
  explicit StreamEnd(std::shared_ptr<Writer> writer)
      : writer_(std::move(writer)) {}
  void GroupIsOver() { Note(over_); }
  void NoMoreRequests() { Note(closed_); }

 private:
  void Note(bool& flag) {
    {
      MutexLock lock(mutex_);
      flag = true;
      if (!over_ || !closed_) return;
    }
    writer_->FinishWhenSent(grpc::Status::OK);
  }

  const std::shared_ptr<Writer> writer_;
  Mutex mutex_;
  bool over_ = false;
  bool closed_ = false;
};

class ReduceReactor final
    : public grpc::ServerBidiReactor<v1::ReduceRequest, v1::ReduceReply> {
 public:
  ReduceReactor(WorkerServiceImpl::Deps deps, std::string agent)
      : deps_(deps),
        member_(absl::StrCat("a worker of ", agent)),
        writer_(std::make_shared<Writer>(
            Writer::Calls{
                [this](const v1::ReduceReply* reply) { StartWrite(reply); },
                [this](grpc::Status status) { Finish(std::move(status)); }},
            kMaxQueuedReplies)),
        end_(std::make_shared<StreamEnd>(writer_)) {
    StartRead(&request_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      end_->NoMoreRequests();
      EndGroup();
      if (lane_ == nullptr) end_->GroupIsOver();
      return;
    }
    if (!writer_->Enter()) return;
    const absl::Status status = Handle();
    if (status.ok()) StartRead(&request_);
    writer_->Leave();
    if (!status.ok()) {
      if (lane_ != nullptr) lane_->End(status);
      writer_->FinishWhenSent(ToGrpcStatus(status));
    }
  }

  void OnWriteDone(bool ok) override { writer_->OnWriteDone(ok); }

  void OnCancel() override {
    cancelled_ = true;
    EndGroup();
    writer_->Finish(grpc::Status::CANCELLED);
  }

  void OnDone() override {
    EndGroup();  // nobody hears of its answers
    delete this;
  }

 private:
  // Unless it was left.
  void EndGroup() {
    std::shared_ptr<ReduceLane> lane;
    {
      MutexLock lock(mutex_);
      lane = shared_lane_;
    }
    if (lane == nullptr) return;
    lane->End(
        absl::UnavailableError(absl::StrCat(member_, " broke off its part")));
  }

  // Returns an error that ends the stream.
  absl::Status Handle() {
    if (lane_ == nullptr && refused_.ok()) {
      if (!request_.has_join()) {
        return absl::InvalidArgumentError(
            "the first request of a stream: expected a join");
      }
      refused_ = Join();
      if (!refused_.ok()) Refuse();
      return absl::OkStatus();
    }
    if (lane_ == nullptr) {
      Refuse();
      return absl::OkStatus();
    }
    switch (request_.body_case()) {
      case v1::ReduceRequest::kLend:
        Lend();
        return absl::OkStatus();
      case v1::ReduceRequest::kRelease:
        lane_->Release(request_.id(), request_.release().token());
        return absl::OkStatus();
      case v1::ReduceRequest::kReduceScatter:
        Reduce();
        return absl::OkStatus();
      case v1::ReduceRequest::kFlush:
        lane_->Flush(request_.id());
        return absl::OkStatus();
      case v1::ReduceRequest::kTeardown:
        lane_->TearDown(request_.id());
        return absl::OkStatus();
      case v1::ReduceRequest::kLeave:
        lane_->Leave(request_.id());
        return absl::OkStatus();
      case v1::ReduceRequest::kJoin:
        return absl::InvalidArgumentError("a stream joins once");
      case v1::ReduceRequest::BODY_NOT_SET:
        break;
    }
    return absl::InvalidArgumentError(
        absl::StrCat("request ", request_.id(), ": expected a body"));
  }

  void Refuse() {
    ReduceAnswer answer;
    answer.id = request_.id();
    answer.status = refused_;
    writer_->Send(ToProto(answer));
  }

  absl::Status Join() {
    SLUICE_ASSIGN_OR_RETURN(ReduceGroupSpec spec, FromProto(request_.join()));
    session_ = SessionId(spec.session);
    gpu_ = spec.gpu;
    SLUICE_RETURN_IF_ERROR(CheckSession());
    // The callbacks may outlive the reactor: they hold its writer alone.
    ReduceLane::Callbacks callbacks;
    callbacks.joined = [writer = writer_, id = request_.id()](
                           const absl::StatusOr<CollectiveMembers>& joined,
                           const std::string& ready) {
      writer->Send(ToProto(id, joined, ready));
    };
    callbacks.answer = [writer = writer_](const ReduceAnswer& answer) {
      writer->Send(ToProto(answer));
    };
    callbacks.gone = [end = end_] { end->GroupIsOver(); };
    lane_ = deps_.reduce_groups.Join(std::move(spec), member_,
                                     std::move(callbacks));
    {
      MutexLock lock(mutex_);
      shared_lane_ = lane_;
    }
    // Either may have come before the group could be found.
    const absl::Status session = CheckSession();
    if (!session.ok()) lane_->End(session);
    if (cancelled_) EndGroup();
    return absl::OkStatus();
  }

  absl::Status CheckSession() const {
    if (deps_.descriptors.HasSession(session_)) return absl::OkStatus();
    return absl::NotFoundError(
        absl::StrCat("session ", session_.value(), " is not attached"));
  }

  void Lend() {
    lane_->Lend(request_.id(), request_.lend().token(),
                TakeLent(request_.lend()));
  }

  absl::StatusOr<std::shared_ptr<MappedMemory>> TakeLent(
      const v1::LendReduceMemory& lend) {
    if (lend.has_gpu() != gpu_) {
      return absl::InvalidArgumentError(
          absl::StrCat("memory ", lend.token(), " is ",
                       lend.has_gpu() ? "a GPU's" : "host memory",
                       ": this group's tensors lie in ",
                       gpu_ ? "memory of GPUs" : "host memory"));
    }
    if (gpu_) {
      SLUICE_ASSIGN_OR_RETURN(const GpuMemoryOffer offer,
                              FromProto(lend.gpu()));
      return deps_.adopt_gpu_memory(offer);
    }
    SLUICE_ASSIGN_OR_RETURN(UniqueFd fd,
                            deps_.descriptors.Take(session_, lend.token()));
    return deps_.device.Adopt(std::move(fd));
  }

  void Reduce() {
    absl::StatusOr<ReduceScatterRequest> parsed =
        FromProto(request_.reduce_scatter());
    if (parsed.ok()) return lane_->Reduce(request_.id(), *std::move(parsed));
    // Its members wait for it: as any that is refused, it ends the group. What
    // comes after is answered with that.
    lane_->End(Annotate(parsed.status(),
                        absl::StrCat(member_, ": request ", request_.id())));
    lane_->Flush(request_.id());
  }

  const WorkerServiceImpl::Deps deps_;
  const std::string member_;
  const std::shared_ptr<Writer> writer_;
  const std::shared_ptr<StreamEnd> end_;
  std::atomic<bool> cancelled_ = false;

  // --- By the read reactions alone.
  v1::ReduceRequest request_;
  absl::Status refused_;
  SessionId session_;
  bool gpu_ = false;
  std::shared_ptr<ReduceLane> lane_;

  Mutex mutex_;
  std::shared_ptr<ReduceLane> shared_lane_ ABSL_GUARDED_BY(mutex_);  // lane_
};

}  // namespace

grpc::ServerBidiReactor<v1::ReduceRequest, v1::ReduceReply>*
WorkerServiceImpl::ReduceGroup(grpc::CallbackServerContext*) {
  return new ReduceReactor(deps_, identity_.name);
}

}  // namespace sluice::agent
