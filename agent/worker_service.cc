#include "agent/worker_service.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "agent/device_memory_proto.h"
#include "agent/waiting_call.h"
#include "common/convert_command.h"
#include "common/convert_limits.h"
#include "common/convert_repeated.h"
#include "common/convert_tensor.h"
#include "common/convert_time.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

constexpr absl::Duration kWriteDeadline = absl::Seconds(10);
constexpr absl::Duration kPinDeadline = absl::Seconds(2);
constexpr absl::Duration kMaxDeadline = absl::Hours(1);

absl::Status CheckPlacement(absl::string_view model,
                            absl::string_view placement) {
  SLUICE_RETURN_IF_ERROR(CheckName("model", model, kMaxModelNameBytes));
  return CheckName("placement", placement, kMaxPlacementNameBytes);
}

// Returns the deadline of a request, or its default where it is unset.
template <typename Request>
absl::StatusOr<absl::Duration> DeadlineOf(const Request& request,
                                          absl::Duration otherwise) {
  if (!request.has_deadline()) return otherwise;
  SLUICE_ASSIGN_OR_RETURN(const absl::Duration deadline,
                          DurationFromProto("deadline", request.deadline()));
  return std::min(deadline, kMaxDeadline);
}

}  // namespace

grpc::ServerUnaryReactor* WorkerServiceImpl::GetPlacement(
    grpc::CallbackServerContext*, const v1::GetPlacementRequest* request,
    v1::GetPlacementResponse* response) {
  const absl::Status valid =
      CheckPlacement(request->model(), request->placement());
  if (!valid.ok()) return WaitingCall::Refuse(deps_.host, valid);
  return WaitingCall::Start<GetPlacementReply>(
      deps_.host,
      [request](CallId call) -> Event {
        return agent::GetPlacementRequest{call, request->model(),
                                          request->placement()};
      },
      [response](const GetPlacementReply& reply) {
        *response->mutable_placement() = ToProto(reply.ref);
        *response->mutable_layout() = ToProto(*reply.layout);
        response->set_mesh_index(reply.mesh_index);
        response->set_replica(reply.replica);
        response->set_storage(ToProto(reply.storage));
        response->set_version(reply.version.value());
        AppendProtos(reply.copies, *response->mutable_copies());
        return absl::OkStatus();
      });
}

absl::StatusOr<BufferId> WorkerServiceImpl::TakeLent(
    const v1::LendMemoryRequest& request, int64_t& bytes) {
  SLUICE_RETURN_IF_ERROR(CheckPlacement(request.model(), request.placement()));
  SLUICE_RETURN_IF_ERROR(
      CheckNotNegative("offset_bytes", request.offset_bytes()));
  SLUICE_RETURN_IF_ERROR(CheckNotNegative("step", request.step()));
  std::shared_ptr<MappedMemory> memory;
  if (request.has_device()) {
    SLUICE_ASSIGN_OR_RETURN(memory,
                            deps_.arenas.AdoptRange(RangeOf(request.device())));
  } else {
    SLUICE_ASSIGN_OR_RETURN(
        UniqueFd fd,
        deps_.descriptors.Take(SessionId(request.session()), request.token()));
    SLUICE_ASSIGN_OR_RETURN(memory, deps_.lent.Adopt(std::move(fd)));
  }
  if (request.offset_bytes() > memory->size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("offset_bytes ", request.offset_bytes(),
                     ": the memory has ", memory->size(), " bytes"));
  }
  bytes = memory->size() - request.offset_bytes();
  const BufferId buffer = deps_.buffers.NewLentId();
  SLUICE_RETURN_IF_ERROR(deps_.buffers.Add(
      buffer, std::move(memory),
      absl::StrCat("lent for ", request.model(), "/", request.placement())));
  return buffer;
}

grpc::ServerUnaryReactor* WorkerServiceImpl::LendMemory(
    grpc::CallbackServerContext*, const v1::LendMemoryRequest* request,
    v1::LendMemoryResponse*) {
  int64_t bytes = 0;
  const absl::StatusOr<BufferId> buffer = TakeLent(*request, bytes);
  if (!buffer.ok()) return WaitingCall::Refuse(deps_.host, buffer.status());
  // From here on the buffer is the core's: it orders its end, also if it
  // refuses it.
  return WaitingCall::Start<LendMemoryReply>(
      deps_.host,
      [this, request, buffer = *buffer, bytes](CallId call) -> Event {
        return agent::LendMemoryRequest{call,
                                        CoreSession(request->session()),
                                        request->model(),
                                        request->placement(),
                                        buffer,
                                        bytes,
                                        request->offset_bytes(),
                                        Version(request->version()),
                                        request->step(),
                                        request->has_device()};
      },
      [](const LendMemoryReply&) { return absl::OkStatus(); });
}

grpc::ServerUnaryReactor* WorkerServiceImpl::AcknowledgeOverwrite(
    grpc::CallbackServerContext*,
    const v1::AcknowledgeOverwriteRequest* request,
    v1::AcknowledgeOverwriteResponse*) {
  const absl::Status valid =
      CheckPlacement(request->model(), request->placement());
  if (!valid.ok()) return WaitingCall::Refuse(deps_.host, valid);
  return WaitingCall::Start<AcknowledgeOverwriteReply>(
      deps_.host,
      [this, request](CallId call) -> Event {
        return agent::AcknowledgeOverwriteRequest{
            call, CoreSession(request->session()), request->model(),
            request->placement(), request->overwrite()};
      },
      [](const AcknowledgeOverwriteReply&) { return absl::OkStatus(); });
}

grpc::ServerUnaryReactor* WorkerServiceImpl::BeginWrite(
    grpc::CallbackServerContext*, const v1::BeginWriteRequest* request,
    v1::BeginWriteResponse*) {
  absl::Status valid = CheckPlacement(request->model(), request->placement());
  const auto deadline = DeadlineOf(*request, kWriteDeadline);
  if (valid.ok()) valid = deadline.status();
  if (!valid.ok()) return WaitingCall::Refuse(deps_.host, valid);
  return WaitingCall::Start<BeginWriteReply>(
      deps_.host,
      [this, request, deadline = *deadline](CallId call) -> Event {
        return agent::BeginWriteRequest{call, CoreSession(request->session()),
                                        request->model(), request->placement(),
                                        deadline};
      },
      [](const BeginWriteReply&) { return absl::OkStatus(); });
}

grpc::ServerUnaryReactor* WorkerServiceImpl::EndWrite(
    grpc::CallbackServerContext*, const v1::EndWriteRequest* request,
    v1::EndWriteResponse* response) {
  absl::Status valid = CheckPlacement(request->model(), request->placement());
  if (valid.ok()) valid = CheckNotNegative("step", request->step());
  if (!valid.ok()) return WaitingCall::Refuse(deps_.host, valid);
  return WaitingCall::Start<EndWriteReply>(
      deps_.host,
      [this, request](CallId call) -> Event {
        return agent::EndWriteRequest{call, CoreSession(request->session()),
                                      request->model(), request->placement(),
                                      request->step()};
      },
      [response](const EndWriteReply& reply) {
        response->set_version(reply.version.value());
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* WorkerServiceImpl::Pin(grpc::CallbackServerContext*,
                                                 const v1::PinRequest* request,
                                                 v1::PinResponse* response) {
  absl::Status valid = CheckPlacement(request->model(), request->placement());
  const auto deadline = DeadlineOf(*request, kPinDeadline);
  if (valid.ok()) valid = deadline.status();
  if (!valid.ok()) return WaitingCall::Refuse(deps_.host, valid);
  return WaitingCall::Start<PinReply>(
      deps_.host,
      [this, request, deadline = *deadline](CallId call) -> Event {
        return agent::PinRequest{call,
                                 CoreSession(request->session()),
                                 request->model(),
                                 request->placement(),
                                 Version(request->version()),
                                 deadline};
      },
      [this, request, response](const PinReply& reply) -> absl::Status {
        response->set_pin(reply.pin.value());
        response->set_version(reply.version.value());
        response->set_bytes(reply.bytes);
        response->set_offset_bytes(reply.offset_bytes);
        // A rank may hold nothing of a placement.
        if (reply.bytes == 0) return absl::OkStatus();
        SLUICE_ASSIGN_OR_RETURN(const std::shared_ptr<MappedMemory> memory,
                                deps_.buffers.Get(reply.buffer));
        if (memory->space() == MemorySpace::kDevice) {
          SLUICE_ASSIGN_OR_RETURN(const DeviceRange range, memory->ToRange());
          FillRange(range, *response->mutable_device());
          NotePin(response->pin(), memory);
          return absl::OkStatus();
        }
        response->set_token(
            deps_.descriptors.Grant(SessionId(request->session()), reply.buffer,
                                    Access::kReadOnly, memory));
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* WorkerServiceImpl::Unpin(
    grpc::CallbackServerContext*, const v1::UnpinRequest* request,
    v1::UnpinResponse*) {
  const absl::Status held = HoldBack(*request);
  // The pin goes all the same: its reader may be gone.
  if (!held.ok()) LogWarn("unpinned without its event", {{"status", held}});
  return WaitingCall::Start<UnpinReply>(
      deps_.host,
      [this, request](CallId call) -> Event {
        return agent::UnpinRequest{call, CoreSession(request->session()),
                                   PinId(request->pin())};
      },
      [](const UnpinReply&) { return absl::OkStatus(); });
}

void WorkerServiceImpl::NotePin(uint64_t pin,
                                const std::shared_ptr<MappedMemory>& memory) {
  MutexLock lock(mutex_);
  // Pins that ended with their sessions.
  if (pinned_.size() >= 1024) {
    absl::erase_if(pinned_,
                   [](const auto& item) { return item.second.expired(); });
  }
  pinned_[pin] = memory;
}

absl::Status WorkerServiceImpl::HoldBack(const v1::UnpinRequest& request) {
  std::shared_ptr<MappedMemory> memory;
  {
    MutexLock lock(mutex_);
    const auto it = pinned_.find(request.pin());
    if (it == pinned_.end()) return absl::OkStatus();
    memory = it->second.lock();
    pinned_.erase(it);
  }
  if (memory == nullptr || request.event().empty()) return absl::OkStatus();
  return memory->HoldBackFor(
      request.event(), deps_.descriptors.LifeOf(SessionId(request.session())));
}

absl::Status WorkerServiceImpl::Describe(
    SessionId wire_session, Access access,
    const std::vector<SamplePlace>& places,
    google::protobuf::RepeatedPtrField<v1::SamplePlace>* out) {
  out->Reserve(static_cast<int>(places.size()));
  for (const SamplePlace& place : places) {
    v1::SamplePlace* made = out->Add();
    *made->mutable_entry() = ToProto(place.entry);
    if (place.entry.num_bytes() == 0) continue;
    SLUICE_ASSIGN_OR_RETURN(const std::shared_ptr<MappedMemory> memory,
                            deps_.buffers.Get(place.buffer));
    made->set_token(
        deps_.descriptors.Grant(wire_session, place.buffer, access, memory));
    made->set_segment_bytes(memory->size());
    made->set_offset_bytes(place.offset_bytes);
  }
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* WorkerServiceImpl::ReserveSamples(
    grpc::CallbackServerContext*, const v1::ReserveSamplesRequest* request,
    v1::ReserveSamplesResponse* response) {
  std::vector<SampleEntry> entries;
  const absl::Status valid = ParseRepeated(
      "entries", request->entries(), kMaxSampleEntries,
      [](const v1::SampleEntry& entry) { return FromProto(entry); }, entries);
  if (!valid.ok()) return WaitingCall::Refuse(deps_.host, valid);
  return WaitingCall::Start<ReserveSamplesReply>(
      deps_.host,
      [this, request,
       entries = std::move(entries)](CallId call) mutable -> Event {
        return agent::ReserveSamplesRequest{
            call, CoreSession(request->session()), std::move(entries)};
      },
      [this, request, response](const ReserveSamplesReply& reply) {
        response->set_reservation(reply.reservation.value());
        return Describe(SessionId(request->session()), Access::kReadWrite,
                        reply.places, response->mutable_places());
      });
}

grpc::ServerUnaryReactor* WorkerServiceImpl::CommitSamples(
    grpc::CallbackServerContext*, const v1::CommitSamplesRequest* request,
    v1::CommitSamplesResponse*) {
  return WaitingCall::Start<CommitSamplesReply>(
      deps_.host,
      [this, request](CallId call) -> Event {
        return agent::CommitSamplesRequest{
            call, CoreSession(request->session()),
            ReservationId(request->reservation())};
      },
      [](const CommitSamplesReply&) { return absl::OkStatus(); });
}

grpc::ServerUnaryReactor* WorkerServiceImpl::GetSamples(
    grpc::CallbackServerContext*, const v1::GetSamplesRequest* request,
    v1::GetSamplesResponse* response) {
  std::vector<std::string> ids, keys;
  absl::Status valid = ParseNames("sample_ids", request->sample_ids(),
                                  kMaxSampleIds, kMaxSampleIdBytes, ids);
  if (valid.ok()) {
    valid =
        ParseNames("keys", request->keys(), kMaxSampleIds, kMaxKeyBytes, keys);
  }
  if (!valid.ok()) return WaitingCall::Refuse(deps_.host, valid);
  return WaitingCall::Start<GetSamplesReply>(
      deps_.host,
      [this, request, ids = std::move(ids),
       keys = std::move(keys)](CallId call) mutable -> Event {
        return agent::GetSamplesRequest{call, CoreSession(request->session()),
                                        std::move(ids), std::move(keys)};
      },
      [this, request, response](const GetSamplesReply& reply) {
        return Describe(SessionId(request->session()), Access::kReadOnly,
                        reply.places, response->mutable_places());
      });
}

}  // namespace sluice::agent
