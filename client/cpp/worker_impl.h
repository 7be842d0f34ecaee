#ifndef SLUICE_CLIENT_CPP_WORKER_IMPL_H_
#define SLUICE_CLIENT_CPP_WORKER_IMPL_H_

// What is behind client/cpp/worker.h: calls that survive a restart of the
// agent, and the memory that is lent again after one.

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/clock.h"
#include "agent/device/mapped_memory.h"
#include "agent/device/memory_file.h"
#include "client/cpp/attachment.h"
#include "client/cpp/descriptors.h"
#include "client/cpp/worker.h"
#include "common/mutex.h"
#include "common/status_grpc.h"
#include "common/status_macros.h"

namespace sluice {

class Worker::Impl : public std::enable_shared_from_this<Worker::Impl> {
 public:
  // How long after a failed call to wait for the session's own news of the
  // same failure, which comes over the same connection.
  static constexpr absl::Duration kBreakGrace = absl::Milliseconds(200);
  // What the agent may take to hear from the coordinator of a change.
  static constexpr absl::Duration kAckWait = absl::Seconds(5);

  using PlacementName = std::pair<std::string, std::string>;

  Impl(WorkerOptions options, OnVersion on_version)
      : options_(std::move(options)),
        on_version_(std::move(on_version)),
        attachment_(
            {options_.agent_socket, options_.name},
            [this](const v1::VersionNews& news) { OnNews(news); },
            [this](const Attachment::Current& current) {
              OnAttached(current);
            }),
        lender_([this] { RunLender(); }) {}

  ~Impl() {
    {
      MutexLock lock(mutex_);
      stopping_ = true;
      changed_.SignalAll();
    }
    lender_.join();
  }

  absl::StatusOr<Attachment::Current> Await() {
    return attachment_.Await(absl::Now() + options_.reconnect_for);
  }

  // Calls `method` in the present attachment; again in the next one if this
  // one broke. `waiting` is what the call itself may take.
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (v1::WorkerService::Stub::*method)(
                                    grpc::ClientContext*, const Request&,
                                    Response*),
                                Request request,
                                absl::Duration waiting = absl::ZeroDuration()) {
    const absl::Time give_up = absl::Now() + options_.reconnect_for + waiting;
    for (;;) {
      SLUICE_ASSIGN_OR_RETURN(const Attachment::Current current,
                              attachment_.Await(give_up));
      SetSession(request, current.attached.session());
      Response response;
      grpc::ClientContext context;
      context.set_deadline(
          absl::ToChronoTime(absl::Now() + waiting + options_.rpc_deadline));
      const absl::Status status = FromGrpcStatus(
          (attachment_.stub().*method)(&context, request, &response));
      if (status.ok()) return response;
      const bool may_be_broken =
          status.code() == absl::StatusCode::kUnavailable ||
          status.code() == absl::StatusCode::kNotFound;
      if (!may_be_broken || absl::Now() >= give_up ||
          !attachment_.AwaitEnd(current.generation,
                                absl::Now() + kBreakGrace)) {
        return status;
      }
    }
  }

  absl::StatusOr<std::shared_ptr<SharedBytes>> Lend(
      const std::string& model, const std::string& placement);
  absl::Status LendDevice(const std::string& model,
                          const std::string& placement,
                          const DeviceBytes& memory);
  absl::Status BeginWrite(const std::string& model,
                          const std::string& placement,
                          absl::Duration deadline);
  absl::StatusOr<uint64_t> EndWrite(const std::string& model,
                                    const std::string& placement, int64_t step);
  absl::StatusOr<std::unique_ptr<PinnedVersion>> Pin(
      const std::string& model, const std::string& placement, uint64_t version,
      absl::Duration deadline);
  absl::Status PutSamples(absl::Span<const SampleValue> values);
  absl::StatusOr<std::vector<SampleView>> GetSamples(
      const std::vector<std::string>& sample_ids,
      const std::vector<std::string>& keys);
  absl::StatusOr<v1::GetPlacementResponse> GetPlacement(
      const std::string& model, const std::string& placement);
  absl::StatusOr<std::unique_ptr<ReduceGroup>> JoinReduceGroup(
      const ReduceGroupOptions& options);
  // `event` as PinnedVersion::SetReadEvent; may be empty.
  void Unpin(uint64_t pin, uint64_t generation, const std::string& event);

 private:
  // Memory lent to a placement, and what it holds.
  struct Lent {
    std::shared_ptr<agent::MappedMemory> memory;
    std::shared_ptr<SharedBytes> shared;
    std::optional<DeviceBytes> device;  // then there is no other memory
    uint64_t version = 0;
    int64_t step = 0;
    bool writing = false;
    uint64_t lent_in = 0;  // generation of the attachment that has it
    int lending = 0;       // calls that lend it now
  };

  template <typename Request>
  static void SetSession(Request& request, uint64_t session) {
    request.set_session(session);
  }
  static void SetSession(v1::GetPlacementRequest&, uint64_t) {}

  DescriptorSource SourceOf(const Attachment::Current& current) const {
    return {current.attached.descriptor_socket(), current.attached.session(),
            options_.rpc_deadline};
  }

  void OnNews(const v1::VersionNews& news);
  // Leaves the lending of all memory to the lender, if this is a new agent.
  void OnAttached(const Attachment::Current& current);
  // Lends all memory again after each new attachment. A restarted agent does
  // not know its placements before the coordinator told it, so that this may
  // take several tries; calls do not wait for it.
  void RunLender();
  // Waits until the present agent has the memory, if this worker lent any.
  // Errors: UNAVAILABLE - not within reconnect_for.
  absl::Status AwaitLent(const PlacementName& name);
  // As Call, for a placement whose memory is lent: once the present agent has
  // it, and once more if the agent was restarted meanwhile.
  template <typename Request, typename Response>
  absl::StatusOr<Response> CallOnLent(
      grpc::Status (v1::WorkerService::Stub::*method)(grpc::ClientContext*,
                                                      const Request&,
                                                      Response*),
      const Request& request, absl::Duration waiting) {
    const absl::Time give_up = absl::Now() + options_.reconnect_for + waiting;
    for (;;) {
      SLUICE_RETURN_IF_ERROR(AwaitLent({request.model(), request.placement()}));
      SLUICE_ASSIGN_OR_RETURN(const Attachment::Current before, Await());
      absl::StatusOr<Response> response = Call(method, request, waiting);
      if (response.ok() || absl::Now() >= give_up) return response;
      const auto after = attachment_.Await(absl::Now());
      if (after.ok() && after->generation == before.generation) {
        return response;
      }
    }
  }
  void AcknowledgeOverwrite(const v1::VersionNews& news);
  // Lends what lent_ has, with what it holds.
  absl::Status LendKnown(const Attachment::Current& current,
                         const PlacementName& name);
  // Gives and lends one memory.
  absl::Status LendNow(const Attachment::Current& current,
                       const PlacementName& name, const Lent& lent);
  // Maps the memory of each token once.
  absl::StatusOr<std::map<uint64_t, std::shared_ptr<agent::MappedMemory>>>
  MapTokens(const Attachment::Current& current,
            const google::protobuf::RepeatedPtrField<v1::SamplePlace>& places,
            agent::Access access);

  const WorkerOptions options_;
  const OnVersion on_version_;
  std::atomic<uint64_t> next_token_{1};
  mutable Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<Attachment::Current> to_lend_in_ ABSL_GUARDED_BY(mutex_);
  std::map<PlacementName, Lent> lent_ ABSL_GUARDED_BY(mutex_);
  // Its thread uses everything above; the lender uses it.
  Attachment attachment_;
  std::thread lender_;

  friend class Worker;
};

}  // namespace sluice

#endif  // SLUICE_CLIENT_CPP_WORKER_IMPL_H_
