#ifndef SLUICE_AGENT_WORKER_SERVICE_H_
#define SLUICE_AGENT_WORKER_SERVICE_H_

// proto/sluice/v1/worker_service.proto: local workers. Decodes requests for the
// host, encodes its replies; buffers become tokens of the descriptor socket.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/buffer_registry.h"
#include "agent/collective/reduce_groups.h"
#include "agent/core/effects.h"
#include "agent/core/events.h"
#include "agent/descriptor_table.h"
#include "agent/device/device.h"
#include "agent/device/mapped_memory.h"
#include "agent/host.h"
#include "agent/nccl/gpu_copies.h"
#include "common/ids.h"
#include "common/mutex.h"
#include "proto/sluice/v1/worker_service.grpc.pb.h"

namespace sluice::agent {

// Everything given must outlive the server.
//
// A session's number on the wire is the core's xor the agent's incarnation: one
// of a former life of this agent names nobody now.
class WorkerServiceImpl final : public v1::WorkerService::CallbackService {
 public:
  struct Deps {
    AgentHost& host;
    Device& arenas;  // maps what lies on a GPU
    Device& device;  // maps descriptors
    Device& lent;    // the same, of what is lent for placements
    BufferRegistry& buffers;
    DescriptorTable& descriptors;
    ReduceGroups& reduce_groups;
    // Takes memory of a GPU for groups of GPUs; unused without them.
    std::function<absl::StatusOr<std::shared_ptr<MappedMemory>>(
        const GpuMemoryOffer&)>
        adopt_gpu_memory = {};
  };
  struct Identity {
    std::string name;
    Incarnation incarnation;
    std::string descriptor_socket;
  };

  WorkerServiceImpl(Deps deps, Identity identity)
      : deps_(deps), identity_(std::move(identity)) {}

  grpc::ServerWriteReactor<v1::SessionEvent>* Session(
      grpc::CallbackServerContext* context,
      const v1::SessionRequest* request) override;
  grpc::ServerUnaryReactor* GetPlacement(
      grpc::CallbackServerContext* context,
      const v1::GetPlacementRequest* request,
      v1::GetPlacementResponse* response) override;
  grpc::ServerUnaryReactor* LendMemory(
      grpc::CallbackServerContext* context,
      const v1::LendMemoryRequest* request,
      v1::LendMemoryResponse* response) override;
  grpc::ServerUnaryReactor* AcknowledgeOverwrite(
      grpc::CallbackServerContext* context,
      const v1::AcknowledgeOverwriteRequest* request,
      v1::AcknowledgeOverwriteResponse* response) override;
  grpc::ServerUnaryReactor* BeginWrite(
      grpc::CallbackServerContext* context,
      const v1::BeginWriteRequest* request,
      v1::BeginWriteResponse* response) override;
  grpc::ServerUnaryReactor* EndWrite(grpc::CallbackServerContext* context,
                                     const v1::EndWriteRequest* request,
                                     v1::EndWriteResponse* response) override;
  grpc::ServerUnaryReactor* Pin(grpc::CallbackServerContext* context,
                                const v1::PinRequest* request,
                                v1::PinResponse* response) override;
  grpc::ServerUnaryReactor* Unpin(grpc::CallbackServerContext* context,
                                  const v1::UnpinRequest* request,
                                  v1::UnpinResponse* response) override;
  grpc::ServerUnaryReactor* ReserveSamples(
      grpc::CallbackServerContext* context,
      const v1::ReserveSamplesRequest* request,
      v1::ReserveSamplesResponse* response) override;
  grpc::ServerUnaryReactor* CommitSamples(
      grpc::CallbackServerContext* context,
      const v1::CommitSamplesRequest* request,
      v1::CommitSamplesResponse* response) override;
  grpc::ServerUnaryReactor* GetSamples(
      grpc::CallbackServerContext* context,
      const v1::GetSamplesRequest* request,
      v1::GetSamplesResponse* response) override;
  grpc::ServerBidiReactor<v1::ReduceRequest, v1::ReduceReply>* ReduceGroup(
      grpc::CallbackServerContext* context) override;

 private:
  SessionId CoreSession(uint64_t wire) const {
    return SessionId(wire ^ identity_.incarnation.value());
  }

  // Maps lent memory and registers it; returns the buffer.
  absl::StatusOr<BufferId> TakeLent(const v1::LendMemoryRequest& request,
                                    int64_t& bytes);
  // Grants the places' segments to a session and describes them.
  absl::Status Describe(
      SessionId wire_session, Access access,
      const std::vector<SamplePlace>& places,
      google::protobuf::RepeatedPtrField<v1::SamplePlace>* out);

  // Keeps in mind which memory of a GPU a pin is of.
  void NotePin(uint64_t pin, const std::shared_ptr<MappedMemory>& memory);
  // Lets the memory of a pin wait for its reader.
  absl::Status HoldBack(const v1::UnpinRequest& request);

  const Deps deps_;
  const Identity identity_;
  Mutex mutex_;
  absl::flat_hash_map<uint64_t, std::weak_ptr<MappedMemory>> pinned_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_WORKER_SERVICE_H_
