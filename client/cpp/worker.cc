#include "client/cpp/worker.h"

#include <google/protobuf/util/time_util.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <optional>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "client/cpp/attachment.h"
#include "client/cpp/descriptors.h"
#include "common/convert_tensor.h"
#include "common/mutex.h"
#include "common/plan.h"
#include "common/status_grpc.h"
#include "common/status_macros.h"

namespace sluice {
namespace {

// How long after a failed call to wait for the session's own news of the same
// failure, which comes over the same connection.
constexpr absl::Duration kBreakGrace = absl::Milliseconds(200);

// Between tries to lend memory again to a restarted agent.
constexpr absl::Duration kFirstLendBackoff = absl::Milliseconds(20);
constexpr absl::Duration kLargestLendBackoff = absl::Milliseconds(500);

// Bytes of a sample's tensor; 0 for an entry that is no sample's.
int64_t SampleBytes(const v1::SampleEntry& proto) {
  const absl::StatusOr<SampleEntry> entry = FromProto(proto);
  return entry.ok() ? entry->num_bytes() : 0;
}

google::protobuf::Duration ToProtoDuration(absl::Duration duration) {
  return google::protobuf::util::TimeUtil::NanosecondsToDuration(
      absl::ToInt64Nanoseconds(duration));
}

using PlacementName = std::pair<std::string, std::string>;

}  // namespace

class Worker::Impl : public std::enable_shared_from_this<Worker::Impl> {
 public:
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
  void Unpin(uint64_t pin, uint64_t generation);

 private:
  // Memory lent to a placement, and what it holds.
  struct Lent {
    std::shared_ptr<agent::MappedMemory> memory;
    std::shared_ptr<SharedBytes> shared;
    uint64_t version = 0;
    int64_t step = 0;
    bool writing = false;
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
  // Gives and lends one memory in an attachment that callers do not see yet.
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

namespace {

// A pin that is released when it goes, if its attachment still stands.
class Pinned final : public PinnedVersion {
 public:
  Pinned(uint64_t version, std::shared_ptr<agent::MappedMemory> memory,
         int64_t bytes, std::function<void()> unpin)
      : version_(version),
        memory_(std::move(memory)),
        bytes_(bytes),
        unpin_(std::move(unpin)) {}
  ~Pinned() override { unpin_(); }
  uint64_t version() const override { return version_; }
  const std::byte* data() const override { return memory_->data(); }
  int64_t size() const override { return bytes_; }

 private:
  const uint64_t version_;
  const std::shared_ptr<agent::MappedMemory> memory_;
  const int64_t bytes_;
  const std::function<void()> unpin_;
};

}  // namespace

void Worker::Impl::OnNews(const v1::VersionNews& news) {
  {
    MutexLock lock(mutex_);
    const auto it = lent_.find({news.model(), news.placement()});
    if (it != lent_.end() && !it->second.writing) {
      it->second.version = news.version();
    }
  }
  if (on_version_) on_version_(news);
}

void Worker::Impl::OnAttached(const Attachment::Current& current) {
  MutexLock lock(mutex_);
  to_lend_in_ = current;
  changed_.SignalAll();
}

void Worker::Impl::RunLender() {
  absl::Duration backoff = kFirstLendBackoff;
  for (;;) {
    Attachment::Current current;
    std::map<PlacementName, Lent> lent;
    {
      MutexLock lock(mutex_);
      while (!stopping_ && !to_lend_in_.has_value()) changed_.Wait(mutex_);
      if (stopping_) return;
      current = *to_lend_in_;
      lent = lent_;
    }
    bool all = true;
    for (const auto& [name, memory] : lent) {
      all = LendNow(current, name, memory).ok() && all;
    }
    MutexLock lock(mutex_);
    const bool is_newest = to_lend_in_->generation == current.generation;
    if (is_newest && all) to_lend_in_.reset();
    if (!is_newest || all) {
      backoff = kFirstLendBackoff;
      continue;
    }
    if (!stopping_) changed_.WaitFor(mutex_, backoff);
    backoff = std::min(backoff * 2, kLargestLendBackoff);
  }
}

absl::Status Worker::Impl::LendNow(const Attachment::Current& current,
                                   const PlacementName& name,
                                   const Lent& lent) {
  const uint64_t token = next_token_.fetch_add(1);
  SLUICE_RETURN_IF_ERROR(
      GiveDescriptor(SourceOf(current), token, *lent.memory));
  v1::LendMemoryRequest request;
  request.set_session(current.attached.session());
  request.set_model(name.first);
  request.set_placement(name.second);
  request.set_token(token);
  request.set_version(lent.version);
  request.set_step(lent.step);
  v1::LendMemoryResponse response;
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + options_.rpc_deadline));
  SLUICE_RETURN_IF_ERROR(FromGrpcStatus(
      attachment_.stub().LendMemory(&context, request, &response)));
  if (!lent.writing) return absl::OkStatus();
  v1::BeginWriteRequest begin;
  begin.set_session(current.attached.session());
  begin.set_model(name.first);
  begin.set_placement(name.second);
  v1::BeginWriteResponse begun;
  grpc::ClientContext begin_context;
  begin_context.set_deadline(
      absl::ToChronoTime(absl::Now() + options_.rpc_deadline));
  return FromGrpcStatus(
      attachment_.stub().BeginWrite(&begin_context, begin, &begun));
}

absl::StatusOr<v1::GetPlacementResponse> Worker::Impl::GetPlacement(
    const std::string& model, const std::string& placement) {
  v1::GetPlacementRequest request;
  request.set_model(model);
  request.set_placement(placement);
  return Call(&v1::WorkerService::Stub::GetPlacement, request);
}

absl::StatusOr<std::shared_ptr<SharedBytes>> Worker::Impl::Lend(
    const std::string& model, const std::string& placement) {
  const PlacementName name(model, placement);
  SLUICE_ASSIGN_OR_RETURN(const v1::GetPlacementResponse described,
                          GetPlacement(model, placement));
  Lent lent;
  {
    MutexLock lock(mutex_);
    const auto it = lent_.find(name);
    if (it != lent_.end()) lent = it->second;
  }
  if (lent.memory == nullptr) {
    // A rank that holds nothing still lends, so that it counts as there.
    const int64_t bytes =
        std::max<int64_t>(1, described.layout().buffer_bytes());
    SLUICE_ASSIGN_OR_RETURN(
        agent::UniqueFd fd,
        agent::CreateMemoryFile(bytes, absl::StrCat(model, "/", placement)));
    SLUICE_ASSIGN_OR_RETURN(
        lent.memory,
        agent::MapMemoryFile(std::move(fd), bytes, agent::Access::kReadWrite));
    lent.shared = AsSharedBytes(lent.memory);
  }
  SLUICE_ASSIGN_OR_RETURN(const Attachment::Current current, Await());
  SLUICE_RETURN_IF_ERROR(LendNow(current, name, lent));
  MutexLock lock(mutex_);
  lent_[name] = lent;
  return lent.shared;
}

absl::Status Worker::Impl::BeginWrite(const std::string& model,
                                      const std::string& placement,
                                      absl::Duration deadline) {
  v1::BeginWriteRequest request;
  request.set_model(model);
  request.set_placement(placement);
  *request.mutable_deadline() = ToProtoDuration(deadline);
  SLUICE_RETURN_IF_ERROR(
      Call(&v1::WorkerService::Stub::BeginWrite, request, deadline).status());
  MutexLock lock(mutex_);
  Lent& lent = lent_[{model, placement}];
  lent.writing = true;
  lent.version = 0;
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> Worker::Impl::EndWrite(const std::string& model,
                                                const std::string& placement,
                                                int64_t step) {
  v1::EndWriteRequest request;
  request.set_model(model);
  request.set_placement(placement);
  request.set_step(step);
  {
    // From here on news of versions mean the new content.
    MutexLock lock(mutex_);
    Lent& lent = lent_[{model, placement}];
    lent.step = step;
    lent.writing = false;
  }
  const absl::StatusOr<v1::EndWriteResponse> response =
      Call(&v1::WorkerService::Stub::EndWrite, request);
  MutexLock lock(mutex_);
  Lent& lent = lent_[{model, placement}];
  if (!response.ok()) {
    lent.writing = response.status().code() != absl::StatusCode::kUnavailable;
    return response.status();
  }
  if (response->version() != 0) lent.version = response->version();
  return response->version();
}

absl::StatusOr<std::unique_ptr<PinnedVersion>> Worker::Impl::Pin(
    const std::string& model, const std::string& placement, uint64_t version,
    absl::Duration deadline) {
  v1::PinRequest request;
  request.set_model(model);
  request.set_placement(placement);
  request.set_version(version);
  *request.mutable_deadline() = ToProtoDuration(deadline);
  SLUICE_ASSIGN_OR_RETURN(
      const v1::PinResponse response,
      Call(&v1::WorkerService::Stub::Pin, request, deadline));
  SLUICE_ASSIGN_OR_RETURN(const Attachment::Current current, Await());
  const auto unpin = [self = shared_from_this(), pin = response.pin(),
                      generation = current.generation] {
    self->Unpin(pin, generation);
  };
  auto memory = FetchMemory(SourceOf(current), response.token(),
                            agent::Access::kReadOnly);
  if (!memory.ok()) {
    unpin();
    return memory.status();
  }
  return std::make_unique<Pinned>(response.version(), *std::move(memory),
                                  response.bytes(), unpin);
}

void Worker::Impl::Unpin(uint64_t pin, uint64_t generation) {
  // A pin ends with its attachment; there is nothing to release in a new one.
  const auto current = attachment_.Await(absl::Now());
  if (!current.ok() || current->generation != generation) return;
  v1::UnpinRequest request;
  request.set_session(current->attached.session());
  request.set_pin(pin);
  v1::UnpinResponse response;
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + options_.rpc_deadline));
  attachment_.stub().Unpin(&context, request, &response);
}

absl::StatusOr<std::map<uint64_t, std::shared_ptr<agent::MappedMemory>>>
Worker::Impl::MapTokens(
    const Attachment::Current& current,
    const google::protobuf::RepeatedPtrField<v1::SamplePlace>& places,
    agent::Access access) {
  std::map<uint64_t, std::shared_ptr<agent::MappedMemory>> mapped;
  for (const v1::SamplePlace& place : places) {
    // An empty tensor lies nowhere.
    if (SampleBytes(place.entry()) == 0) continue;
    auto& memory = mapped[place.token()];
    if (memory != nullptr) continue;
    SLUICE_ASSIGN_OR_RETURN(
        memory, FetchMemory(SourceOf(current), place.token(), access));
  }
  return mapped;
}

absl::Status Worker::Impl::PutSamples(absl::Span<const SampleValue> values) {
  v1::ReserveSamplesRequest reserve;
  for (const SampleValue& value : values) {
    *reserve.add_entries() = value.entry;
  }
  SLUICE_ASSIGN_OR_RETURN(
      const v1::ReserveSamplesResponse reserved,
      Call(&v1::WorkerService::Stub::ReserveSamples, std::move(reserve)));
  if (static_cast<size_t>(reserved.places_size()) != values.size()) {
    return absl::InternalError(absl::StrCat("reserved ", reserved.places_size(),
                                            " places for ", values.size(),
                                            " samples"));
  }
  SLUICE_ASSIGN_OR_RETURN(const Attachment::Current current, Await());
  SLUICE_ASSIGN_OR_RETURN(
      const auto memories,
      MapTokens(current, reserved.places(), agent::Access::kReadWrite));
  for (size_t i = 0; i < values.size(); ++i) {
    const v1::SamplePlace& place = reserved.places(static_cast<int>(i));
    const int64_t bytes = SampleBytes(values[i].entry);
    if (bytes == 0) continue;
    const auto& memory = memories.at(place.token());
    if (place.offset_bytes() < 0 ||
        bytes > memory->size() - place.offset_bytes()) {
      return absl::InternalError(absl::StrCat("place of ",
                                              values[i].entry.sample_id(),
                                              " lies outside its segment"));
    }
    std::memcpy(memory->data() + place.offset_bytes(), values[i].data,
                static_cast<size_t>(bytes));
  }
  v1::CommitSamplesRequest commit;
  commit.set_reservation(reserved.reservation());
  return Call(&v1::WorkerService::Stub::CommitSamples, commit).status();
}

absl::StatusOr<std::vector<SampleView>> Worker::Impl::GetSamples(
    const std::vector<std::string>& sample_ids,
    const std::vector<std::string>& keys) {
  v1::GetSamplesRequest request;
  *request.mutable_sample_ids() = {sample_ids.begin(), sample_ids.end()};
  *request.mutable_keys() = {keys.begin(), keys.end()};
  SLUICE_ASSIGN_OR_RETURN(
      const v1::GetSamplesResponse response,
      Call(&v1::WorkerService::Stub::GetSamples, std::move(request)));
  SLUICE_ASSIGN_OR_RETURN(const Attachment::Current current, Await());
  SLUICE_ASSIGN_OR_RETURN(
      const auto memories,
      MapTokens(current, response.places(), agent::Access::kReadOnly));
  std::vector<SampleView> views;
  for (const v1::SamplePlace& place : response.places()) {
    SampleView view;
    view.entry = place.entry();
    view.bytes = SampleBytes(place.entry());
    if (view.bytes > 0) {
      view.memory = AsSharedBytes(memories.at(place.token()));
      view.data = view.memory->data() + place.offset_bytes();
    }
    views.push_back(std::move(view));
  }
  return views;
}

absl::StatusOr<std::unique_ptr<Worker>> Worker::Attach(WorkerOptions options,
                                                       OnVersion on_version) {
  auto impl = std::make_shared<Impl>(std::move(options), std::move(on_version));
  SLUICE_RETURN_IF_ERROR(impl->Await().status());
  return std::unique_ptr<Worker>(new Worker(std::move(impl)));
}

Worker::Worker(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
Worker::~Worker() = default;

v1::Attached Worker::attached() const {
  const auto current = impl_->Await();
  return current.ok() ? current->attached : v1::Attached();
}

absl::StatusOr<v1::GetPlacementResponse> Worker::GetPlacement(
    const std::string& model, const std::string& placement) {
  return impl_->GetPlacement(model, placement);
}

absl::StatusOr<std::shared_ptr<SharedBytes>> Worker::Lend(
    const std::string& model, const std::string& placement) {
  return impl_->Lend(model, placement);
}

absl::Status Worker::BeginWrite(const std::string& model,
                                const std::string& placement,
                                absl::Duration deadline) {
  return impl_->BeginWrite(model, placement, deadline);
}

absl::StatusOr<uint64_t> Worker::EndWrite(const std::string& model,
                                          const std::string& placement,
                                          int64_t step) {
  return impl_->EndWrite(model, placement, step);
}

absl::StatusOr<std::unique_ptr<PinnedVersion>> Worker::Pin(
    const std::string& model, const std::string& placement, uint64_t version,
    absl::Duration deadline) {
  return impl_->Pin(model, placement, version, deadline);
}

absl::Status Worker::PutSamples(absl::Span<const SampleValue> values) {
  return impl_->PutSamples(values);
}

absl::StatusOr<std::vector<SampleView>> Worker::GetSamples(
    const std::vector<std::string>& sample_ids,
    const std::vector<std::string>& keys) {
  return impl_->GetSamples(sample_ids, keys);
}

}  // namespace sluice
