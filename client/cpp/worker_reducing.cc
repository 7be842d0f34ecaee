// The part of a worker that takes part in reduce groups.

#include <grpcpp/client_context.h>
#include <grpcpp/support/sync_stream.h>

#include <map>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "client/cpp/reduce_group.h"
#include "client/cpp/worker_impl.h"
#include "common/convert_time.h"

namespace sluice {
namespace {

absl::Status StatusOf(const v1::Outcome& outcome) {
  return {static_cast<absl::StatusCode>(outcome.code()), outcome.message()};
}

// How descriptors are given to the agent, each under a token of its own.
struct Giver {
  DescriptorSource source;
  std::function<uint64_t()> next_token;
};

// Names memory that this library does not reach.
class FarBytes final : public SharedBytes {
 public:
  explicit FarBytes(int64_t size) : size_(size) {}
  std::byte* data() const override { return nullptr; }
  int64_t size() const override { return size_; }

 private:
  const int64_t size_;
};

class GroupStream final : public ReduceGroup {
 public:
  GroupStream(v1::WorkerService::Stub& stub, Giver giver)
      : giver_(std::move(giver)),
        stream_(stub.ReduceGroup(&context_)),
        reader_([this] { Read(); }) {}

  ~GroupStream() override {
    context_.TryCancel();
    reader_.join();
  }

  absl::Status Join(const ReduceGroupOptions& options) {
    v1::ReduceRequest request;
    v1::JoinReduceGroup* join = request.mutable_join();
    join->set_session(giver_.source.session);
    join->set_name(options.name);
    for (const std::string& agent : options.agents) join->add_agents(agent);
    for (const int32_t rank : options.ranks) join->add_ranks(rank);
    join->set_operation(options.operation);
    join->set_bucket_mib(options.bucket_mib);
    join->set_space(options.space);
    *join->mutable_deadline() = ToProto(options.deadline);
    *join->mutable_call_deadline() = ToProto(options.call_deadline);
    SLUICE_ASSIGN_OR_RETURN(const v1::ReduceReply reply,
                            Await(std::move(request)));
    members_.assign(reply.joined().agents().begin(),
                    reply.joined().agents().end());
    self_ = reply.joined().self();
    ready_event_ = reply.joined().ready_event();
    return absl::OkStatus();
  }

  const std::vector<std::string>& members() const override { return members_; }
  int self() const override { return self_; }
  const std::string& ready_event() const override { return ready_event_; }

  absl::StatusOr<std::shared_ptr<SharedBytes>> Allocate(
      int64_t bytes) override {
    SLUICE_ASSIGN_OR_RETURN(agent::UniqueFd fd,
                            agent::CreateMemoryFile(bytes, "reduce"));
    SLUICE_ASSIGN_OR_RETURN(
        const std::shared_ptr<agent::MappedMemory> memory,
        agent::MapMemoryFile(std::move(fd), bytes, agent::Access::kReadWrite));
    const uint64_t token = giver_.next_token();
    SLUICE_RETURN_IF_ERROR(GiveDescriptor(giver_.source, token, *memory));
    v1::ReduceRequest request;
    request.mutable_lend()->set_token(token);
    return Lend(std::move(request), AsSharedBytes(memory));
  }

  absl::StatusOr<std::shared_ptr<SharedBytes>> LendGpu(
      const GpuMemory& memory) override {
    v1::ReduceRequest request;
    request.mutable_lend()->set_token(giver_.next_token());
    v1::GpuReduceMemory* gpu = request.mutable_lend()->mutable_gpu();
    gpu->set_handle(memory.handle);
    gpu->set_offset_bytes(memory.offset_bytes);
    gpu->set_size_bytes(memory.size_bytes);
    gpu->set_bus_id(memory.bus_id);
    gpu->set_event(memory.event);
    return Lend(std::move(request),
                std::make_shared<FarBytes>(memory.size_bytes));
  }

  absl::Status Release(const std::shared_ptr<SharedBytes>& memory) override {
    v1::ReduceRequest request;
    request.mutable_release()->set_token(TokenOf(memory));
    const absl::Status status = Await(std::move(request)).status();
    MutexLock lock(mutex_);
    tokens_.erase(memory);
    return status;
  }

  uint64_t ReduceScatter(const std::vector<SharedTensor>& inputs,
                         const SharedTensor& output, Done done) override {
    v1::ReduceRequest request;
    v1::ReduceScatter* reduce = request.mutable_reduce_scatter();
    for (const SharedTensor& input : inputs) {
      Describe(input, *reduce->add_inputs());
    }
    Describe(output, *reduce->mutable_output());
    return Send(
        std::move(request),
        [done = std::move(done)](const absl::StatusOr<v1::ReduceReply>& r) {
          if (!r.ok()) return done(r.status());
          done(r->reduced());
        });
  }

  uint64_t Flush(Ended ended) override {
    v1::ReduceRequest request;
    request.mutable_flush();
    return Send(
        std::move(request),
        [ended = std::move(ended)](const absl::StatusOr<v1::ReduceReply>& r) {
          ended(r.status());
        });
  }
  absl::Status Flush() override {
    v1::ReduceRequest request;
    request.mutable_flush();
    return Await(std::move(request)).status();
  }
  absl::Status TearDown() override {
    v1::ReduceRequest request;
    request.mutable_teardown();
    return Await(std::move(request)).status();
  }

  absl::Status Leave() override {
    v1::ReduceRequest request;
    request.mutable_leave();
    return Await(std::move(request)).status();
  }

 private:
  using Answered = std::function<void(const absl::StatusOr<v1::ReduceReply>&)>;

  absl::StatusOr<std::shared_ptr<SharedBytes>> Lend(
      v1::ReduceRequest request, std::shared_ptr<SharedBytes> memory) {
    const uint64_t token = request.lend().token();
    SLUICE_RETURN_IF_ERROR(Await(std::move(request)).status());
    MutexLock lock(mutex_);
    tokens_[memory] = token;
    return memory;
  }

  uint64_t TokenOf(const std::shared_ptr<SharedBytes>& memory) {
    MutexLock lock(mutex_);
    const auto it = tokens_.find(memory);
    return it == tokens_.end() ? 0 : it->second;  // which was never lent
  }

  void Describe(const SharedTensor& tensor, v1::ReduceTensor& out) {
    out.set_memory(TokenOf(tensor.memory));
    out.set_offset_bytes(tensor.offset_bytes);
    for (const int64_t size : tensor.shape) out.add_shape(size);
    out.set_dtype(tensor.dtype);
  }

  uint64_t Send(v1::ReduceRequest request, Answered answered) {
    absl::Status over;
    uint64_t id = 0;
    {
      MutexLock sending(send_mutex_);
      {
        MutexLock lock(mutex_);
        id = next_id_++;
        over = over_ ? end_ : absl::OkStatus();
        if (!over_) waiting_[id] = answered;
        request.set_id(id);
      }
      // A stream that broke answers what waits.
      if (over.ok()) stream_->Write(request);
    }
    if (!over.ok()) answered(over);
    return id;
  }

  absl::StatusOr<v1::ReduceReply> Await(v1::ReduceRequest request) {
    // Shared with the callback, which may still be returning from its signal.
    struct Result {
      Mutex mutex;
      CondVar changed;
      bool there ABSL_GUARDED_BY(mutex) = false;
      absl::StatusOr<v1::ReduceReply> reply ABSL_GUARDED_BY(mutex);
    };
    const auto result = std::make_shared<Result>();
    Send(std::move(request),
         [result](const absl::StatusOr<v1::ReduceReply>& reply) {
           MutexLock lock(result->mutex);
           result->reply = reply;
           result->there = true;
           result->changed.SignalAll();
         });
    MutexLock lock(result->mutex);
    while (!result->there) result->changed.Wait(result->mutex);
    return result->reply;
  }

  void Read() {
    v1::ReduceReply reply;
    while (stream_->Read(&reply)) {
      Answered answered;
      {
        MutexLock lock(mutex_);
        const auto it = waiting_.find(reply.id());
        if (it == waiting_.end()) continue;
        answered = std::move(it->second);
        waiting_.erase(it);
      }
      const absl::Status status = StatusOf(reply.outcome());
      if (status.ok()) {
        answered(reply);
      } else {
        answered(status);
      }
    }
    absl::Status end = FromGrpcStatus(stream_->Finish());
    if (end.ok()) end = absl::CancelledError("the reduce group is over");
    std::map<uint64_t, Answered> rest;
    {
      MutexLock lock(mutex_);
      over_ = true;
      end_ = end;
      rest.swap(waiting_);
    }
    for (auto& [id, answered] : rest) answered(end);
  }

  const Giver giver_;
  std::vector<std::string> members_;
  int self_ = 0;
  std::string ready_event_;
  // Held while a request is numbered and written: one order for both.
  Mutex send_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);
  Mutex mutex_;
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  std::map<uint64_t, Answered> waiting_ ABSL_GUARDED_BY(mutex_);
  std::map<std::shared_ptr<SharedBytes>, uint64_t> tokens_
      ABSL_GUARDED_BY(mutex_);
  bool over_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status end_ ABSL_GUARDED_BY(mutex_);
  grpc::ClientContext context_;
  const std::unique_ptr<
      grpc::ClientReaderWriter<v1::ReduceRequest, v1::ReduceReply>>
      stream_;
  std::thread reader_;  // last: uses everything above
};

}  // namespace

absl::StatusOr<std::unique_ptr<ReduceGroup>> Worker::Impl::JoinReduceGroup(
    const ReduceGroupOptions& options) {
  SLUICE_ASSIGN_OR_RETURN(const Attachment::Current current, Await());
  auto group = std::make_unique<GroupStream>(
      attachment_.stub(),
      Giver{SourceOf(current), [this] { return next_token_.fetch_add(1); }});
  SLUICE_RETURN_IF_ERROR(group->Join(options));
  return group;
}

absl::StatusOr<std::unique_ptr<ReduceGroup>> Worker::JoinReduceGroup(
    const ReduceGroupOptions& options) {
  return impl_->JoinReduceGroup(options);
}

}  // namespace sluice
