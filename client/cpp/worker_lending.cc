// The part of a worker that lends memory and brackets its writes.

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cpp/worker_impl.h"
#include "common/convert_time.h"
#include "common/logging.h"

namespace sluice {
namespace {

// Between tries to lend memory again to a restarted agent.
constexpr absl::Duration kFirstLendBackoff = absl::Milliseconds(20);
constexpr absl::Duration kLargestLendBackoff = absl::Milliseconds(500);

void Fill(const DeviceBytes& memory, v1::DeviceMemory& proto) {
  proto.set_handle(memory.handle);
  proto.set_offset_bytes(memory.offset_bytes);
  proto.set_size_bytes(memory.size_bytes);
  proto.set_event(memory.event);
}

}  // namespace

void Worker::Impl::OnNews(const v1::VersionNews& news) {
  {
    MutexLock lock(mutex_);
    const auto it = lent_.find({news.model(), news.placement()});
    // Other news are not of what this worker lent.
    if (it != lent_.end() && !it->second.writing && news.lent()) {
      Lent& lent = it->second;
      // An operation overwrites the content: it is no step of ours any more,
      // whatever becomes of the agent meanwhile.
      if (news.version() == 0) lent.step = 0;
      lent.version = news.version();
    }
  }
  if (news.overwrite() != 0) AcknowledgeOverwrite(news);
  if (on_version_) on_version_(news);
}

void Worker::Impl::AcknowledgeOverwrite(const v1::VersionNews& news) {
  {
    // What is being lent with the version it had must be lent before.
    MutexLock lock(mutex_);
    for (;;) {
      const auto it = lent_.find({news.model(), news.placement()});
      if (stopping_ || it == lent_.end() || it->second.lending == 0) break;
      changed_.Wait(mutex_);
    }
  }
  const absl::StatusOr<Attachment::Current> current =
      attachment_.Await(absl::Now());
  if (!current.ok()) return;  // the session broke, and the load ends with it
  v1::AcknowledgeOverwriteRequest request;
  request.set_session(current->attached.session());
  request.set_model(news.model());
  request.set_placement(news.placement());
  request.set_overwrite(news.overwrite());
  v1::AcknowledgeOverwriteResponse response;
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + options_.rpc_deadline));
  const absl::Status status = FromGrpcStatus(
      attachment_.stub().AcknowledgeOverwrite(&context, request, &response));
  if (!status.ok()) {
    LogWarn("an overwriting is not acknowledged",
            {{"model", news.model()},
             {"placement", news.placement()},
             {"status", status.ToString()}});
  }
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
    std::vector<PlacementName> names;
    {
      MutexLock lock(mutex_);
      while (!stopping_ && !to_lend_in_.has_value()) changed_.Wait(mutex_);
      if (stopping_) return;
      current = *to_lend_in_;
      for (const auto& [name, lent] : lent_) {
        if (lent.lent_in != current.generation) names.push_back(name);
      }
    }
    bool all = true;
    for (const PlacementName& name : names) {
      all = LendKnown(current, name).ok() && all;
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

absl::Status Worker::Impl::AwaitLent(const PlacementName& name) {
  const absl::Time give_up = absl::Now() + options_.reconnect_for;
  for (;;) {
    SLUICE_ASSIGN_OR_RETURN(const Attachment::Current current,
                            attachment_.Await(give_up));
    MutexLock lock(mutex_);
    const auto it = lent_.find(name);
    // What was never lent is for the agent to refuse.
    if (it == lent_.end() || it->second.lent_in >= current.generation) {
      return absl::OkStatus();
    }
    const absl::Duration left = give_up - absl::Now();
    if (left <= absl::ZeroDuration()) {
      return absl::UnavailableError(
          absl::StrCat("the memory of ", name.first, "/", name.second,
                       " is not lent to the restarted agent ",
                       current.attached.agent(), " yet"));
    }
    // A short wait: the agent may be gone again.
    changed_.WaitFor(mutex_, std::min(left, kLargestLendBackoff));
  }
}

absl::Status Worker::Impl::LendKnown(const Attachment::Current& current,
                                     const PlacementName& name) {
  Lent lent;
  {
    MutexLock lock(mutex_);
    ++lent_[name].lending;
    lent = lent_[name];
  }
  const absl::Status status = LendNow(current, name, lent);
  MutexLock lock(mutex_);
  --lent_[name].lending;
  if (status.ok()) lent_[name].lent_in = current.generation;
  if (absl::IsInvalidArgument(status)) {
    // A claim that is not believed (the model was registered anew) is not
    // repeated.
    lent_[name].version = 0;
    lent_[name].step = 0;
  }
  changed_.SignalAll();
  return status;
}

absl::Status Worker::Impl::LendNow(const Attachment::Current& current,
                                   const PlacementName& name,
                                   const Lent& lent) {
  v1::LendMemoryRequest request;
  if (lent.device.has_value()) {
    Fill(*lent.device, *request.mutable_device());
  } else {
    const uint64_t token = next_token_.fetch_add(1);
    SLUICE_RETURN_IF_ERROR(
        GiveDescriptor(SourceOf(current), token, *lent.memory));
    request.set_token(token);
  }
  request.set_session(current.attached.session());
  request.set_model(name.first);
  request.set_placement(name.second);
  request.set_version(lent.version);
  request.set_step(lent.step);
  v1::LendMemoryResponse response;
  grpc::ClientContext context;
  context.set_deadline(
      absl::ToChronoTime(absl::Now() + options_.rpc_deadline + kAckWait));
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

absl::StatusOr<std::shared_ptr<SharedBytes>> Worker::Impl::Lend(
    const std::string& model, const std::string& placement) {
  const PlacementName name(model, placement);
  SLUICE_ASSIGN_OR_RETURN(const v1::GetPlacementResponse described,
                          GetPlacement(model, placement));
  // A rank that holds nothing still lends, so that it counts as there.
  const int64_t bytes = std::max<int64_t>(1, described.layout().buffer_bytes());
  bool is_new;
  {
    MutexLock lock(mutex_);
    const auto it = lent_.find(name);
    is_new = it == lent_.end() || it->second.memory == nullptr ||
             it->second.memory->size() < bytes;
  }
  if (is_new) {
    Lent lent;
    SLUICE_ASSIGN_OR_RETURN(
        agent::UniqueFd fd,
        agent::CreateMemoryFile(bytes, absl::StrCat(model, "/", placement)));
    SLUICE_ASSIGN_OR_RETURN(
        lent.memory,
        agent::MapMemoryFile(std::move(fd), bytes, agent::Access::kReadWrite));
    // Or the first load and the first write make them one by one.
    agent::MakePages(*lent.memory, 0, bytes);
    lent.shared = AsSharedBytes(lent.memory);
    MutexLock lock(mutex_);
    lent_[name] = std::move(lent);
  }
  SLUICE_ASSIGN_OR_RETURN(const Attachment::Current current, Await());
  absl::Status lending = LendKnown(current, name);
  if (absl::IsInvalidArgument(lending)) lending = LendKnown(current, name);
  SLUICE_RETURN_IF_ERROR(lending);
  MutexLock lock(mutex_);
  return lent_[name].shared;
}

absl::Status Worker::Impl::LendDevice(const std::string& model,
                                      const std::string& placement,
                                      const DeviceBytes& memory) {
  const PlacementName name(model, placement);
  {
    MutexLock lock(mutex_);
    Lent lent;
    lent.device = memory;
    lent_[name] = std::move(lent);
  }
  SLUICE_ASSIGN_OR_RETURN(const Attachment::Current current, Await());
  const absl::Status lending = LendKnown(current, name);
  if (!lending.ok()) {
    // Not to be lent again to a restarted agent.
    MutexLock lock(mutex_);
    lent_.erase(name);
  }
  return lending;
}

absl::Status Worker::Impl::BeginWrite(const std::string& model,
                                      const std::string& placement,
                                      absl::Duration deadline) {
  v1::BeginWriteRequest request;
  request.set_model(model);
  request.set_placement(placement);
  *request.mutable_deadline() = ToProto(deadline);
  SLUICE_RETURN_IF_ERROR(
      CallOnLent(&v1::WorkerService::Stub::BeginWrite, request, deadline)
          .status());
  MutexLock lock(mutex_);
  Lent& lent = lent_[{model, placement}];  // there: else it was refused
  lent.writing = true;
  lent.version = 0;
  lent.step = 0;
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> Worker::Impl::EndWrite(const std::string& model,
                                                const std::string& placement,
                                                int64_t step) {
  v1::EndWriteRequest request;
  request.set_model(model);
  request.set_placement(placement);
  request.set_step(step);
  const PlacementName name(model, placement);
  Lent before;
  {
    // From here on news of versions mean the new content.
    MutexLock lock(mutex_);
    if (const auto it = lent_.find(name); it != lent_.end()) {
      before = it->second;
      it->second.step = step;
      it->second.writing = false;
    }
  }
  const absl::StatusOr<v1::EndWriteResponse> response =
      CallOnLent(&v1::WorkerService::Stub::EndWrite, request, kAckWait);
  MutexLock lock(mutex_);
  const auto it = lent_.find(name);
  if (it == lent_.end()) return response.status();  // never lent: refused
  if (!response.ok()) {
    // A bracket that no coordinator has heard of is closed all the same.
    if (response.status().code() != absl::StatusCode::kUnavailable) {
      it->second.step = before.step;
      it->second.writing = before.writing;
    }
    return response.status();
  }
  if (response->version() != 0) it->second.version = response->version();
  return response->version();
}

}  // namespace sluice
