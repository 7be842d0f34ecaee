#ifndef SLUICE_CLIENT_CPP_WORKER_H_
#define SLUICE_CLIENT_CPP_WORKER_H_

// A user's process attached to the agent of its device: it lends the memory of
// its weights, brackets its writes, pins and maps published versions, puts and
// gets samples. Bytes are shared, never copied over a socket.
//
//   auto worker = sluice::Worker::Attach({.agent_socket = path, .name = "t0"});
//   auto memory = (*worker)->Lend("policy", "trainer");   // write weights
//   there
//   (*worker)->BeginWrite("policy", "trainer");
//   ...
//   (*worker)->EndWrite("policy", "trainer", step);
//
// An agent that dies takes nothing of a worker with it: the worker attaches to
// its successor by itself, lends its memory again with the version it holds,
// and opens its bracket again if one was open.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "proto/sluice/v1/tensor.pb.h"
#include "proto/sluice/v1/worker_service.pb.h"

namespace sluice {

class ReduceGroup;          // client/cpp/reduce_group.h
struct ReduceGroupOptions;  // there

struct WorkerOptions {
  // Path of the agent's Unix socket (AgentStatus.socket_path).
  std::string agent_socket;
  // Name, unique among the agent's workers.
  std::string name;
  // Deadline of each attempt of a call, beside the call's own waiting time.
  absl::Duration rpc_deadline = absl::Seconds(10);
  // How long a call waits for the agent to come back.
  absl::Duration reconnect_for = absl::Seconds(10);
};

// Bytes another process shares with this one. Readable (writable where said) as
// long as the object lives, whatever becomes of the agent.
class SharedBytes {
 public:
  virtual ~SharedBytes() = default;
  virtual std::byte* data() const = 0;
  virtual int64_t size() const = 0;
};

// Memory of a GPU, as CUDA IPC names it between processes of a node: bytes
// only, this library does not use CUDA. See v1::DeviceMemory for who records
// and who waits for the event.
struct DeviceBytes {
  std::string handle;  // cudaIpcMemHandle_t
  int64_t offset_bytes = 0;
  int64_t size_bytes = 0;
  std::string event;  // cudaIpcEventHandle_t; empty for none
};

// A pinned version of a placement on this agent: it does not change before the
// object goes.
class PinnedVersion {
 public:
  virtual ~PinnedVersion() = default;
  virtual uint64_t version() const = 0;
  // The placement's buffer, read only; parameters lie at their offset_bytes.
  // Null where it lies on a GPU.
  virtual const std::byte* data() const = 0;
  virtual int64_t size() const = 0;
  // The buffer on a GPU, to map for reading: wait for the event before.
  virtual const std::optional<DeviceBytes>& device() const = 0;
  // An event of this process (64 bytes), recorded behind its reads, that the
  // agent waits for before it writes the memory. To be set before the pin goes.
  virtual void SetReadEvent(std::string event) = 0;
};

// A tensor of a sample to put.
struct SampleValue {
  v1::SampleEntry entry;
  const void* data = nullptr;  // as many bytes as the entry says
};

// A tensor of a sample as the agent holds it.
struct SampleView {
  v1::SampleEntry entry;
  std::shared_ptr<SharedBytes> memory;  // keeps `data` readable
  const std::byte* data = nullptr;
  int64_t bytes = 0;
};

// Thread-safe; calls block.
class Worker {
 public:
  // News of published versions, on a thread of the library; must not block.
  using OnVersion = std::function<void(const v1::VersionNews&)>;

  // Attaches and waits for the answer.
  // Errors: UNAVAILABLE - no agent there within reconnect_for; ALREADY_EXISTS -
  // the name is attached.
  static absl::StatusOr<std::unique_ptr<Worker>> Attach(
      WorkerOptions options, OnVersion on_version = {});

  // Detaches: pins go, an open bracket leaves its copy torn.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // The agent's answer to the present attachment.
  v1::Attached attached() const;

  // What this agent holds of a placement. Errors: NOT_FOUND.
  absl::StatusOr<v1::GetPlacementResponse> GetPlacement(
      const std::string& model, const std::string& placement);

  // Makes shared memory of the size a LENT placement needs here and lends it;
  // lending again returns the same memory.
  // Errors: as WorkerService.LendMemory.
  absl::StatusOr<std::shared_ptr<SharedBytes>> Lend(
      const std::string& model, const std::string& placement);

  // Lends memory of a GPU to a LENT placement: at least as much as it needs
  // here. The event is to be recorded behind all writes before EndWrite. The
  // memory must live until the placement goes or other memory is lent.
  // Errors: as WorkerService.LendMemory.
  absl::Status LendDevice(const std::string& model,
                          const std::string& placement,
                          const DeviceBytes& memory);

  // Opens and closes a write bracket over lent memory.
  // Errors: as WorkerService.BeginWrite and EndWrite. EndWrite returns the
  // version, or 0 while other members of the replica have not ended the step.
  absl::Status BeginWrite(const std::string& model,
                          const std::string& placement,
                          absl::Duration deadline = absl::Seconds(10));
  absl::StatusOr<uint64_t> EndWrite(const std::string& model,
                                    const std::string& placement, int64_t step);

  // Pins and maps a version; 0 is the current one. Errors: as
  // WorkerService.Pin.
  absl::StatusOr<std::unique_ptr<PinnedVersion>> Pin(
      const std::string& model, const std::string& placement,
      uint64_t version = 0, absl::Duration deadline = absl::Seconds(2));

  // Puts samples: room is reserved in the agent's arena, the bytes are copied
  // there once, and all become visible together.
  // Errors: as WorkerService.ReserveSamples and CommitSamples.
  absl::Status PutSamples(absl::Span<const SampleValue> values);

  // Maps samples held by this agent; no byte is copied. No keys means all.
  // Errors: NOT_FOUND - not held here (id and key named).
  absl::StatusOr<std::vector<SampleView>> GetSamples(
      const std::vector<std::string>& sample_ids,
      const std::vector<std::string>& keys);

  // Joins a group of workers that reduce tensors together, and waits for the
  // others. The worker outlives its groups; a group does not survive its agent.
  // Errors: as WorkerService.ReduceGroup.
  absl::StatusOr<std::unique_ptr<ReduceGroup>> JoinReduceGroup(
      const ReduceGroupOptions& options);

 private:
  class Impl;
  explicit Worker(std::shared_ptr<Impl> impl);

  std::shared_ptr<Impl> impl_;
};

}  // namespace sluice

#endif  // SLUICE_CLIENT_CPP_WORKER_H_
