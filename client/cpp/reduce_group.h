#ifndef SLUICE_CLIENT_CPP_REDUCE_GROUP_H_
#define SLUICE_CLIENT_CPP_REDUCE_GROUP_H_

// A worker's part in a reduce group: tensors in shared memory are added (or
// averaged) over the group's members, each of which gets its part. The agents
// move the bytes; small requests go together.
//
//   auto group = worker->JoinReduceGroup({.name = "dp", .agents = names});
//   auto memory = (*group)->Allocate(bytes);
//   (*group)->ReduceScatter(inputs, output, [](const auto& reduced) { ... });
//   absl::Status done = (*group)->Flush();
//
// In a group of GPUs (space = REDUCE_SPACE_GPU) workers lend memory that they
// have themselves, by CUDA IPC: this library does not know CUDA, handles are
// bytes to it.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cpp/worker.h"
#include "proto/sluice/v1/tensor.pb.h"
#include "proto/sluice/v1/worker_service.pb.h"

namespace sluice {

struct ReduceGroupOptions {
  // The same on all members, like everything but the deadlines.
  std::string name;
  // Members in order: names of agents, or their ranks.
  std::vector<std::string> agents = {};
  std::vector<int32_t> ranks = {};
  v1::ReduceOperation operation = v1::REDUCE_OPERATION_SUM;
  // Size of a bucket, all members' shards together; 0 means none.
  double bucket_mib = 25;
  // Where all tensors lie: host (Allocate) or GPUs (LendGpu).
  v1::ReduceSpace space = v1::REDUCE_SPACE_HOST;
  // How long to wait for the other members.
  absl::Duration deadline = absl::Seconds(30);
  // How long what was asked for may stand still because a member has not asked
  // for the same; beyond it the group ends.
  absl::Duration call_deadline = absl::Seconds(60);
};

// Memory of the worker's GPU, which must be its agent's.
struct GpuMemory {
  std::string handle;        // cudaIpcMemHandle_t of its allocation, 64 bytes
  int64_t offset_bytes = 0;  // in that allocation
  int64_t size_bytes = 0;
  std::string bus_id;  // of the GPU, such as "0000:3b:00.0"; compared if given
  // cudaIpcEventHandle_t of an event that the worker records, behind what it
  // does to the memory, before each ReduceScatter that names it. Empty: it has
  // waited itself.
  std::string event;
};

// A contiguous tensor in memory of ReduceGroup::Allocate or LendGpu.
struct SharedTensor {
  std::shared_ptr<SharedBytes> memory;
  int64_t offset_bytes = 0;
  std::vector<int64_t> shape;
  v1::DType dtype = v1::DTYPE_UNSPECIFIED;
};

// Thread-safe. All members ask for the same, in the same order. A group that
// failed stays so: all calls say why; join anew. Errors are those of
// WorkerService.ReduceGroup.
//
// Callbacks run exactly once each, on a thread of the group (once it is over,
// on the caller's), and may ask for more; they must not wait for the group nor
// destroy it.
class ReduceGroup {
 public:
  using Done = std::function<void(const absl::StatusOr<v1::ReducedScatter>&)>;
  using Ended = std::function<void(const absl::Status&)>;

  // Breaks off the part of this member, which ends the group on all, unless it
  // was left. Every callback has run when it returns.
  virtual ~ReduceGroup() = default;

  // Names of the members' agents, and this one's place among them.
  virtual const std::vector<std::string>& members() const = 0;
  virtual int self() const = 0;

  // Makes memory that the group can use.
  virtual absl::StatusOr<std::shared_ptr<SharedBytes>> Allocate(
      int64_t bytes) = 0;
  // Makes a worker's memory known. What is returned names it, and has no data()
  // for this process. Errors: INVALID_ARGUMENT - no such memory, another GPU,
  // one that does not live; no group of GPUs.
  virtual absl::StatusOr<std::shared_ptr<SharedBytes>> LendGpu(
      const GpuMemory& memory) = 0;
  // Of groups of GPUs: cudaIpcEventHandle_t. What the worker queues behind this
  // event, once a request is done, finds its result.
  virtual const std::string& ready_event() const = 0;
  // The group uses memory no more; what was asked for before still does.
  virtual absl::Status Release(const std::shared_ptr<SharedBytes>& memory) = 0;

  // Adds `inputs[self]` of all members into `output`: one input for each
  // member. Until `done`, inputs must not change and the output not be looked
  // at.
  // Returns the request's number, which ReducedScatter.sent_by refers to.
  virtual uint64_t ReduceScatter(const std::vector<SharedTensor>& inputs,
                                 const SharedTensor& output, Done done) = 0;
  // Sends what waits in buckets; ends after everything asked for before.
  // The first returns the request's number.
  virtual uint64_t Flush(Ended ended) = 0;
  virtual absl::Status Flush() = 0;
  // Gives the agent's memory of the buckets back. Errors: FAILED_PRECONDITION -
  // something waits.
  virtual absl::Status TearDown() = 0;
  // Leaves together with the others, and waits for them: none breaks off while
  // another one still works.
  virtual absl::Status Leave() = 0;
};

}  // namespace sluice

#endif  // SLUICE_CLIENT_CPP_REDUCE_GROUP_H_
