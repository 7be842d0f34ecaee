#include "tests/gpu/agent_checks.h"

#include <stdlib.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/cuda/cuda_device.h"
#include "agent/cuda/handles.h"
#include "client/cpp/reduce_group.h"
#include "client/cpp/worker.h"
#include "common/mutex.h"
#include "common/status_macros.h"
#include "proto/sluice/v1/tensor.pb.h"
#include "proto/sluice/v1/worker_service.pb.h"
#include "tools/local_cluster/binaries.h"
#include "tools/local_cluster/local_cluster.h"
#include "tools/local_cluster/process.h"

namespace sluice::gpu_tests {
namespace {

namespace cuda = agent::cuda;
namespace fs = std::filesystem;

constexpr int kRanks = 3;
// Of all ranks: large pieces go at once.
constexpr double kBucketMib = 0.25;
constexpr absl::Duration kPatience = absl::Seconds(60);

std::string BytesOf(const cuda::IpcHandle& handle) {
  return std::string(handle.begin(), handle.end());
}

// What one rank gives and gets, on the GPU and (pinned) on the host: an input
// for each member, then the output, of so many floats.
class Shards {
 public:
  static absl::StatusOr<std::unique_ptr<Shards>> Make(
      const AgentSettings& settings, ReduceGroup& group, int64_t elements) {
    auto out = std::unique_ptr<Shards>(new Shards(settings, group, elements));
    SLUICE_RETURN_IF_ERROR(out->Open());
    return out;
  }
  // After Release, or when the group is gone.
  ~Shards() {
    (void)runtime_.Use(device_);
    if (memory_ != nullptr) (void)runtime_.Free(memory_);
    if (pinned_ != nullptr) (void)runtime_.FreePinned(pinned_);
  }

  absl::Status Release() { return group_.Release(lent_); }

  // Queues the write of inputs that the rank decides, and poisons the output.
  absl::Status Fill(int rank) {
    for (int64_t m = 0; m < members_; ++m) {
      for (int64_t e = 0; e < elements_; ++e) {
        At(m)[e] = static_cast<float>(rank + m + e % 7);
      }
    }
    std::memset(At(members_), 0xff, static_cast<size_t>(elements_) * 4);
    SLUICE_RETURN_IF_ERROR(runtime_.Use(device_));
    SLUICE_RETURN_IF_ERROR(
        runtime_.Copy(memory_, pinned_, bytes_, stream_->get()));
    return event_->Record(*stream_);
  }
  void Reduce(ReduceGroup::Done done) {
    std::vector<SharedTensor> inputs;
    for (int64_t m = 0; m < members_; ++m) inputs.push_back(Tensor(m));
    group_.ReduceScatter(inputs, Tensor(members_), std::move(done));
  }
  // Waits, on the stream, for the agent's event; then compares.
  absl::Status Verify(int self, int64_t divisor) {
    SLUICE_RETURN_IF_ERROR(runtime_.Use(device_));
    SLUICE_RETURN_IF_ERROR(ready_->HoldBack(*stream_));
    SLUICE_RETURN_IF_ERROR(
        runtime_.Copy(pinned_, memory_, bytes_, stream_->get()));
    SLUICE_RETURN_IF_ERROR(runtime_.Synchronize(stream_->get()));
    for (int64_t e = 0; e < elements_; ++e) {
      const int64_t sum =
          members_ * (members_ - 1) / 2 + members_ * (self + e % 7);
      const float expected =
          static_cast<float>(sum) / static_cast<float>(divisor);
      const float found = At(members_)[e];
      if (found >= expected - 1e-3f && found <= expected + 1e-3f) continue;
      return absl::DataLossError(absl::StrCat("rank ", self, ", element ", e,
                                              " of ", elements_, ": expected ",
                                              expected, ", found ", found));
    }
    return absl::OkStatus();
  }

 private:
  Shards(const AgentSettings& settings, ReduceGroup& group, int64_t elements)
      : runtime_(*settings.runtime),
        device_(settings.device),
        group_(group),
        members_(static_cast<int64_t>(group.members().size())),
        elements_(elements),
        bytes_((members_ + 1) * elements * 4) {}

  absl::Status Open() {
    SLUICE_RETURN_IF_ERROR(runtime_.Use(device_));
    SLUICE_ASSIGN_OR_RETURN(pinned_, runtime_.AllocatePinned(bytes_));
    SLUICE_ASSIGN_OR_RETURN(memory_, runtime_.Allocate(bytes_));
    SLUICE_ASSIGN_OR_RETURN(auto stream,
                            cuda::CudaStream::Create(runtime_, device_));
    stream_.emplace(std::move(stream));
    SLUICE_ASSIGN_OR_RETURN(
        auto event, cuda::CudaEvent::Create(runtime_, device_,
                                            cuda::EventKind::kInterprocess));
    event_.emplace(std::move(event));
    cuda::IpcHandle handle{};
    const std::string& ready = group_.ready_event();
    if (ready.size() != handle.size()) {
      return absl::InternalError("the group has no event");
    }
    std::copy(ready.begin(), ready.end(), handle.begin());
    SLUICE_ASSIGN_OR_RETURN(auto imported,
                            cuda::CudaEvent::Import(runtime_, device_, handle));
    ready_.emplace(std::move(imported));
    SLUICE_ASSIGN_OR_RETURN(const cuda::SharedRange range,
                            cuda::ShareRange(runtime_, memory_, bytes_));
    SLUICE_ASSIGN_OR_RETURN(const cuda::DeviceInfo info,
                            runtime_.Describe(device_));
    SLUICE_ASSIGN_OR_RETURN(const cuda::IpcHandle own, event_->Export());
    SLUICE_ASSIGN_OR_RETURN(
        lent_,
        group_.LendGpu({BytesOf(range.handle), range.offset_bytes,
                        range.size_bytes, info.pci_bus_id, BytesOf(own)}));
    return absl::OkStatus();
  }

  float* At(int64_t tensor) {
    return static_cast<float*>(pinned_) + tensor * elements_;
  }
  SharedTensor Tensor(int64_t index) const {
    return {lent_, index * elements_ * 4, {elements_}, v1::DTYPE_F32};
  }

  cuda::CudaRuntime& runtime_;
  const int device_;
  ReduceGroup& group_;
  const int64_t members_;
  const int64_t elements_;
  const int64_t bytes_;
  void* pinned_ = nullptr;
  void* memory_ = nullptr;
  std::optional<cuda::CudaStream> stream_;
  std::optional<cuda::CudaEvent> event_;
  std::optional<cuda::CudaEvent> ready_;
  std::shared_ptr<SharedBytes> lent_;
};

// Statuses that callbacks were called with; which may come after it is gone.
class Heard {
 public:
  ReduceGroup::Done Done() {
    return [state = state_](const absl::StatusOr<v1::ReducedScatter>& reduced) {
      state->Note(reduced.status());
    };
  }
  void Note(const absl::Status& status) { state_->Note(status); }
  // The first error among so many, or any that came.
  absl::Status Await(int count) {
    MutexLock lock(state_->mutex);
    while (state_->count < count && state_->error.ok()) {
      if (!state_->changed.WaitFor(state_->mutex, kPatience)) {
        return absl::DeadlineExceededError(absl::StrCat(
            "expected ", count, " answers, found ", state_->count, " in time"));
      }
    }
    return state_->error;
  }

 private:
  struct State {
    void Note(const absl::Status& status) {
      MutexLock lock(mutex);
      ++count;
      if (!status.ok() && error.ok()) error = status;
      changed.SignalAll();
    }

    Mutex mutex;
    CondVar changed;
    int count ABSL_GUARDED_BY(mutex) = 0;
    absl::Status error ABSL_GUARDED_BY(mutex);
  };
  const std::shared_ptr<State> state_ = std::make_shared<State>();
};

// Agents on one GPU, each with a worker, in a folder of their own.
class Agents {
 public:
  using Groups = std::vector<std::unique_ptr<ReduceGroup>>;

  static absl::StatusOr<std::unique_ptr<Agents>> Start(
      const AgentSettings& settings, int count) {
    std::unique_ptr<Agents> out(new Agents);
    std::string folder = (fs::temp_directory_path() / "sluice-XXXXXX").string();
    if (::mkdtemp(folder.data()) == nullptr) {
      return absl::InternalError(absl::StrCat("cannot make ", folder));
    }
    out->dir_ = folder;
    local_cluster::Options options;
    options.dir = folder + "/c";
    options.agent_binary = settings.agent_binary;
    SLUICE_RETURN_IF_ERROR(local_cluster::FindBinaries(options));
    options.nodes = 1;
    options.agents_per_node = count;
    options.agent_memory_bytes = int64_t{256} << 20;
    options.agent_staging_bytes = int64_t{16} << 20;
    options.lease = absl::Seconds(5);
    options.heartbeat_interval = absl::Milliseconds(500);
    options.die_with_parent = true;
    options.agent_flags = {absl::StrCat("--device=cuda:", settings.device)};
    for (int i = 0; i < count; ++i) {
      // Sockets of this machine alone; "=" before the name: it and no other
      // that begins so.
      options.own_agent_environment.push_back(
          {absl::StrCat("NCCL_HOSTID=rank-", i), "NCCL_NET=Socket",
           "NCCL_SOCKET_IFNAME==lo", "NCCL_IB_DISABLE=1",
           "NCCL_MNNVL_ENABLE=0"});
    }
    SLUICE_ASSIGN_OR_RETURN(
        auto cluster, local_cluster::LocalCluster::Start(options, kPatience));
    out->cluster_.emplace(std::move(cluster));
    for (int i = 0; i < count; ++i) SLUICE_RETURN_IF_ERROR(out->Attach(i));
    return out;
  }
  ~Agents() {
    workers_.clear();
    if (cluster_.has_value()) cluster_->Stop().IgnoreError();
    std::error_code ignored;
    fs::remove_all(dir_, ignored);
  }

  absl::StatusOr<Groups> Join(const std::string& name,
                              v1::ReduceOperation operation) {
    ReduceGroupOptions options;
    options.name = name;
    options.operation = operation;
    options.space = v1::REDUCE_SPACE_GPU;
    options.bucket_mib = kBucketMib;
    options.deadline = kPatience;
    for (const auto& agent : cluster_->agents()) {
      options.agents.push_back(agent.name);
    }
    std::vector<absl::StatusOr<std::unique_ptr<ReduceGroup>>> joined(
        workers_.size());
    std::vector<std::thread> threads;
    for (size_t i = 0; i < workers_.size(); ++i) {
      threads.emplace_back([this, i, &joined, &options] {
        joined[i] = workers_[i]->JoinReduceGroup(options);
      });
    }
    for (std::thread& thread : threads) thread.join();
    Groups out;
    for (auto& group : joined) {
      if (!group.ok()) return group.status();
      out.push_back(*std::move(group));
    }
    return out;
  }

  absl::Status Kill(size_t agent) {
    const local_cluster::Process process = cluster_->agents()[agent].process;
    SLUICE_RETURN_IF_ERROR(local_cluster::Signal(process, SIGKILL));
    return local_cluster::WaitForExit(process, kPatience).status();
  }
  absl::Status Restart(size_t agent) {
    SLUICE_RETURN_IF_ERROR(cluster_->RestartAgent(agent, kPatience));
    workers_[agent].reset();
    return Attach(static_cast<int>(agent));
  }

 private:
  Agents() = default;

  absl::Status Attach(int agent) {
    const auto number = static_cast<size_t>(agent);
    WorkerOptions options;
    options.agent_socket = cluster_->agents()[number].socket;
    options.name = absl::StrCat("worker-", agent);
    options.reconnect_for = kPatience;
    SLUICE_ASSIGN_OR_RETURN(auto worker, Worker::Attach(std::move(options)));
    workers_.resize(std::max(workers_.size(), number + 1));
    workers_[number] = std::move(worker);
    return absl::OkStatus();
  }

  std::string dir_;
  std::optional<local_cluster::LocalCluster> cluster_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

// Reduces small and large pieces on all ranks, and compares.
absl::Status ReduceAll(const AgentSettings& settings,
                       const Agents::Groups& groups, int64_t divisor) {
  const std::vector<int64_t> sizes = {1, 1001, 4096, settings.elements + 3};
  std::vector<std::vector<std::unique_ptr<Shards>>> shards(groups.size());
  std::vector<Heard> heard(groups.size());
  for (size_t r = 0; r < groups.size(); ++r) {
    for (const int64_t size : sizes) {
      SLUICE_ASSIGN_OR_RETURN(auto made,
                              Shards::Make(settings, *groups[r], size));
      SLUICE_RETURN_IF_ERROR(made->Fill(static_cast<int>(r)));
      shards[r].push_back(std::move(made));
    }
  }
  for (size_t r = 0; r < groups.size(); ++r) {
    for (const auto& each : shards[r]) each->Reduce(heard[r].Done());
    groups[r]->Flush([](const absl::Status&) {});
  }
  for (size_t r = 0; r < groups.size(); ++r) {
    SLUICE_RETURN_IF_ERROR(heard[r].Await(static_cast<int>(sizes.size())));
    for (const auto& each : shards[r]) {
      SLUICE_RETURN_IF_ERROR(each->Verify(static_cast<int>(r), divisor));
      SLUICE_RETURN_IF_ERROR(each->Release());
    }
  }
  return absl::OkStatus();
}

absl::Status CheckSums(const AgentSettings& settings, int ranks) {
  SLUICE_ASSIGN_OR_RETURN(const auto agents, Agents::Start(settings, ranks));
  for (const bool average : {false, true}) {
    SLUICE_ASSIGN_OR_RETURN(const Agents::Groups groups,
                            agents->Join(average ? "average" : "sum",
                                         average ? v1::REDUCE_OPERATION_AVERAGE
                                                 : v1::REDUCE_OPERATION_SUM));
    SLUICE_RETURN_IF_ERROR(ReduceAll(settings, groups, average ? ranks : 1));
  }
  return absl::OkStatus();
}

// Large reductions on one rank, one after the other, until one fails.
class Endless {
 public:
  static absl::StatusOr<std::unique_ptr<Endless>> Start(
      const AgentSettings& settings, ReduceGroup& group, int rank) {
    auto out = std::unique_ptr<Endless>(new Endless);
    SLUICE_ASSIGN_OR_RETURN(out->shards_,
                            Shards::Make(settings, group, settings.elements));
    SLUICE_RETURN_IF_ERROR(out->shards_->Fill(rank));
    out->Next();
    return out;
  }
  absl::Status AwaitSome() { return heard_.Await(3); }
  absl::Status AwaitError() { return ended_.Await(1); }

 private:
  Endless() = default;
  void Next() {
    shards_->Reduce([this](const absl::StatusOr<v1::ReducedScatter>& reduced) {
      heard_.Note(reduced.status());
      if (reduced.ok()) return Next();
      ended_.Note(reduced.status());
    });
  }

  std::unique_ptr<Shards> shards_;
  Heard heard_;
  Heard ended_;
};

// Runs reductions, lets `disturb` end them on agent-1, which the others are to
// be told with `code`, and reduces again in a new group.
absl::Status CheckEnd(
    const AgentSettings& settings, absl::StatusCode code,
    const std::function<absl::Status(Agents&, Agents::Groups&)>& disturb,
    const std::function<absl::Status(Agents&)>& mend) {
  SLUICE_ASSIGN_OR_RETURN(const auto agents, Agents::Start(settings, kRanks));
  {
    // Groups go first: until then they may call back.
    std::vector<std::unique_ptr<Endless>> loops;
    SLUICE_ASSIGN_OR_RETURN(Agents::Groups groups,
                            agents->Join("g", v1::REDUCE_OPERATION_SUM));
    for (int r = 0; r < kRanks; ++r) {
      SLUICE_ASSIGN_OR_RETURN(
          auto loop,
          Endless::Start(settings, *groups[static_cast<size_t>(r)], r));
      loops.push_back(std::move(loop));
    }
    for (const auto& loop : loops) SLUICE_RETURN_IF_ERROR(loop->AwaitSome());
    const absl::Status disturbed = disturb(*agents, groups);
    std::vector<absl::Status> errors;
    for (const auto& loop : loops) errors.push_back(loop->AwaitError());
    SLUICE_RETURN_IF_ERROR(disturbed);
    for (const size_t r : {0, 2}) {
      if (errors[r].code() == code &&
          absl::StrContains(errors[r].message(), "agent-1")) {
        continue;
      }
      return absl::InternalError(absl::StrCat(
          "rank ", r, ": expected ", absl::StatusCodeToString(code),
          " naming agent-1, found ", errors[r].ToString()));
    }
  }
  SLUICE_RETURN_IF_ERROR(mend(*agents));
  SLUICE_ASSIGN_OR_RETURN(const Agents::Groups groups,
                          agents->Join("g", v1::REDUCE_OPERATION_SUM));
  return ReduceAll(settings, groups, /*divisor=*/1);
}

}  // namespace

absl::Status CheckOneRank(const AgentSettings& settings) {
  return CheckSums(settings, 1);
}

absl::Status CheckSharedGpu(const AgentSettings& settings) {
  return CheckSums(settings, kRanks);
}

absl::Status CheckKilledAgent(const AgentSettings& settings) {
  return CheckEnd(
      settings, absl::StatusCode::kUnavailable,
      [](Agents& agents, Agents::Groups&) { return agents.Kill(1); },
      [](Agents& agents) { return agents.Restart(1); });
}

absl::Status CheckAbortedGroup(const AgentSettings& settings) {
  return CheckEnd(
      settings, absl::StatusCode::kInvalidArgument,
      [](Agents&, Agents::Groups& groups) {
        // Memory that nobody lent.
        const SharedTensor nothing = {nullptr, 0, {4}, v1::DTYPE_F32};
        groups[1]->ReduceScatter(
            std::vector<SharedTensor>(kRanks, nothing), nothing,
            [](const absl::StatusOr<v1::ReducedScatter>&) {});
        return absl::OkStatus();
      },
      [](Agents&) { return absl::OkStatus(); });
}

}  // namespace sluice::gpu_tests
