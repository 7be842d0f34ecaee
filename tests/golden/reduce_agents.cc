#include "tests/golden/reduce_agents.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "agent/cuda/cuda_device.h"
#include "agent/cuda/cuda_runtime.h"
#include "agent/cuda/handles.h"
#include "client/cpp/reduce_group.h"
#include "common/mutex.h"
#include "common/status_macros.h"
#include "tests/golden/ask.h"
#include "tests/golden/topics.h"
#include "tests/integration/reduce_ranks.h"
#include "tools/local_cluster/binaries.h"

namespace sluice::golden {
namespace {

using testing::ElementBytes;
using testing::kPatience;

v1::DType ReadDType(const std::string& name) {
  if (name == "f16") return v1::DTYPE_F16;
  if (name == "f64") return v1::DTYPE_F64;
  return name == "i32" ? v1::DTYPE_I32 : v1::DTYPE_F32;
}

std::string WriteDType(const std::string& name) {
  return (name == "i32" ? "int" : "float") + name.substr(1);
}

const char* WriteReason(v1::ReducedScatter::Reason reason) {
  switch (reason) {
    case v1::ReducedScatter::REASON_IMMEDIATE:
      return "immediate";
    case v1::ReducedScatter::REASON_BUCKET_FULL:
      return "bucket_full";
    case v1::ReducedScatter::REASON_FLUSH:
      return "flush";
    default:
      return "?";
  }
}

int64_t Numel(const Json& shape) {
  int64_t numel = 1;
  for (const Json& size : shape) numel *= size.get<int64_t>();
  return numel;
}

// What rank `rank` gives for shard `shard` of operation `op`.
int64_t InputAt(int64_t rank, int64_t op, int64_t shard, int64_t element) {
  return (31 * rank + 17 * op + 7 * shard + 3 * element) % 41 - 20;
}

// One answered reduce-scatter of one rank.
struct Completion {
  int64_t op = 0;
  int64_t seen_during = 0;  // operation
  v1::ReducedScatter how;
};

// A rank of the case: its part in each group, and what it was told.
class RankRun {
 public:
  // With `gpus`, tensors lie on GPU `gpu`, else on the host.
  RankRun(const Json& golden, int64_t rank,
          agent::cuda::ProcessGpuRuntime* gpus, int gpu)
      : golden_(golden), rank_(rank), gpus_(gpus), gpu_(gpu) {}
  ~RankRun() {
    for (Part& part : groups_) {
      part.part.reset();
      if (gpus_ == nullptr || part.bytes == nullptr) continue;
      (void)gpus_->DestroyEvent(part.ready);
      (void)gpus_->Free(part.bytes);
    }
  }

  void AddGroup(std::unique_ptr<ReduceGroup> group) {
    groups_.emplace_back().part = std::move(group);
  }
  ReduceGroup& group(size_t g) { return *groups_[g].part; }

  // Makes room for everything that is reduced in each group.
  absl::Status Allocate() {
    const int64_t world = golden_.at("world_size");
    std::vector<int64_t> bytes(groups_.size(), 8);
    for (const Json& op : golden_.at("ops")) {
      if (op.at("op") != "reduce_scatter") continue;
      bytes[op.at("group").get<size_t>()] +=
          (world + 1) * Numel(op.at("shape")) * 8;
    }
    for (size_t g = 0; g < groups_.size(); ++g) {
      Part& part = groups_[g];
      if (gpus_ != nullptr) {
        SLUICE_RETURN_IF_ERROR(AllocateOnGpu(part, bytes[g]));
        continue;
      }
      SLUICE_ASSIGN_OR_RETURN(part.memory, part.part->Allocate(bytes[g]));
      part.bytes = part.memory->data();
    }
    return absl::OkStatus();
  }

  absl::Status Do(int64_t op) {
    const Json& what = golden_.at("ops").at(static_cast<size_t>(op));
    {
      MutexLock lock(mutex_);
      now_ = op;
    }
    if (what.at("op") == "reduce_scatter") {
      Reduce(op, what);
      return absl::OkStatus();
    }
    for (Part& part : groups_) {
      if (what.at("op") == "flush") {
        part.op_of_request[part.part->Flush([](const absl::Status&) {})] = op;
      } else {
        SLUICE_RETURN_IF_ERROR(part.part->TearDown());
      }
    }
    return absl::OkStatus();
  }

  absl::Status Leave() {
    for (Part& part : groups_) SLUICE_RETURN_IF_ERROR(part.part->Leave());
    if (gpus_ == nullptr) return absl::OkStatus();
    // Answers come when results are on their way.
    SLUICE_ASSIGN_OR_RETURN(const auto stream,
                            agent::cuda::CudaStream::Create(*gpus_, gpu_));
    for (Part& part : groups_) {
      SLUICE_RETURN_IF_ERROR(gpus_->Wait(stream.get(), part.ready));
    }
    return gpus_->Synchronize(stream.get());
  }

  // Waits until so many callbacks that the case wants were called.
  absl::Status Await(size_t callbacks) {
    const absl::Time give_up = absl::Now() + kPatience;
    MutexLock lock(mutex_);
    while (failure_.ok() && num_wanted_ < callbacks) {
      const absl::Duration left = give_up - absl::Now();
      if (left <= absl::ZeroDuration()) {
        return absl::DeadlineExceededError(
            absl::StrCat("rank ", rank_, ": operation ", now_, ": expected ",
                         callbacks, " callbacks, found ", num_wanted_));
      }
      changed_.WaitFor(mutex_, left);
    }
    return failure_;
  }

  std::vector<Completion> completions() {
    MutexLock lock(mutex_);
    return completions_;
  }
  // The operation that made a completion go.
  int64_t SentBy(const Completion& completion) const {
    const auto g = golden_.at("ops")
                       .at(static_cast<size_t>(completion.op))
                       .at("group")
                       .get<size_t>();
    const auto it = groups_[g].op_of_request.find(completion.how.sent_by());
    return it == groups_[g].op_of_request.end() ? -1 : it->second;
  }
  Json Result(int64_t op) const;

 private:
  struct Part {
    std::unique_ptr<ReduceGroup> part;
    std::map<uint64_t, int64_t> op_of_request;
    std::shared_ptr<SharedBytes> memory;
    std::byte* bytes = nullptr;  // of it: the GPU's are this process's, too
    std::map<int64_t, SharedTensor> outputs;  // by operation
    int64_t used_bytes = 0;
    agent::cuda::EventHandle ready = nullptr;  // with GPUs
  };

  absl::Status AllocateOnGpu(Part& part, int64_t bytes) {
    SLUICE_RETURN_IF_ERROR(gpus_->Use(gpu_));
    agent::cuda::IpcHandle handle{};
    const std::string& ready = part.part->ready_event();
    if (ready.size() != handle.size()) {
      return absl::InternalError("a group of GPUs has no event");
    }
    std::copy(ready.begin(), ready.end(), handle.begin());
    SLUICE_ASSIGN_OR_RETURN(part.ready, gpus_->ImportEvent(handle));
    SLUICE_ASSIGN_OR_RETURN(void* const memory, gpus_->Allocate(bytes));
    part.bytes = static_cast<std::byte*>(memory);
    SLUICE_ASSIGN_OR_RETURN(const agent::cuda::SharedRange range,
                            agent::cuda::ShareRange(*gpus_, memory, bytes));
    // Without an event: this process writes before it asks.
    const GpuMemory lent = {
        std::string(range.handle.begin(), range.handle.end()),
        range.offset_bytes, range.size_bytes, "", ""};
    SLUICE_ASSIGN_OR_RETURN(part.memory, part.part->LendGpu(lent));
    return absl::OkStatus();
  }

  void Reduce(int64_t op, const Json& what) {
    Part& part = groups_[what.at("group").get<size_t>()];
    const v1::DType dtype = ReadDType(what.at("dtype"));
    const int64_t world = golden_.at("world_size");
    const int64_t numel = Numel(what.at("shape"));
    std::vector<SharedTensor> tensors;
    part.used_bytes = (part.used_bytes + 7) / 8 * 8;
    for (int64_t shard = 0; shard <= world; ++shard) {
      SharedTensor tensor{part.memory, part.used_bytes, {}, dtype};
      for (const Json& size : what.at("shape")) tensor.shape.push_back(size);
      for (int64_t e = 0; e < numel && shard < world; ++e) {
        testing::WriteElement(
            dtype, InputAt(rank_, op, shard, e),
            part.bytes + part.used_bytes + e * ElementBytes(dtype));
      }
      part.used_bytes += numel * ElementBytes(dtype);
      tensors.push_back(std::move(tensor));
    }
    part.outputs[op] = tensors.back();
    tensors.pop_back();
    const bool wanted = what.value("callback", false);
    const uint64_t request = part.part->ReduceScatter(
        tensors, part.outputs[op],
        [this, op, wanted](const absl::StatusOr<v1::ReducedScatter>& how) {
          OnReduced(op, wanted, how);
        });
    part.op_of_request[request] = op;
  }

  void OnReduced(int64_t op, bool wanted,
                 const absl::StatusOr<v1::ReducedScatter>& how) {
    MutexLock lock(mutex_);
    if (how.ok()) {
      completions_.push_back({op, now_, *how});
      num_wanted_ += wanted ? 1 : 0;
    } else if (failure_.ok()) {
      failure_ = how.status();
    }
    changed_.SignalAll();
  }

  const Json& golden_;
  const int64_t rank_;
  agent::cuda::ProcessGpuRuntime* const gpus_;
  const int gpu_;
  Mutex mutex_;
  CondVar changed_;
  int64_t now_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t num_wanted_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  std::vector<Completion> completions_ ABSL_GUARDED_BY(mutex_);
  std::vector<Part> groups_;  // last: their callbacks use the rest
};

Json RankRun::Result(int64_t op) const {
  const Json& what = golden_.at("ops").at(static_cast<size_t>(op));
  const Part& part = groups_[what.at("group").get<size_t>()];
  const SharedTensor& output = part.outputs.at(op);
  const int64_t numel = Numel(what.at("shape"));
  Json values = Json::array();
  int64_t sum = 0, weighted = 0;
  for (int64_t e = 0; e < numel; ++e) {
    const double value =
        testing::ReadElement(output.dtype, part.bytes + output.offset_bytes +
                                               e * ElementBytes(output.dtype));
    const auto whole = static_cast<int64_t>(value);
    // What is no integer equals none that is expected.
    values.push_back(static_cast<double>(whole) == value ? Json(whole)
                                                         : Json(value));
    sum += whole;
    weighted += (e % 97 + 1) * whole;
  }
  return {{"op", op},         {"shape", what.at("shape")},
          {"numel", numel},   {"sum", sum},
          {"wsum", weighted}, {"values", std::move(values)}};
}

// What a rank was told, as the case writes it.
absl::StatusOr<Json> Describe(const Json& golden, RankRun& rank) {
  const Json& ops = golden.at("ops");
  Json events = Json::array();
  for (size_t i = 0; i < ops.size(); ++i) {
    events.push_back({{"op", i},
                      {"callbacks_fired", Json::array()},
                      {"collectives", Json::array()}});
  }
  Json order = Json::array();
  Json results = Json::array();
  std::set<std::pair<int64_t, uint64_t>> collectives;  // of groups
  std::vector<Completion> completions = rank.completions();
  // Groups do not wait for each other: between two there is no order.
  std::stable_sort(completions.begin(), completions.end(),
                   [&](const Completion& a, const Completion& b) {
                     return ops.at(static_cast<size_t>(a.op)).at("group") <
                            ops.at(static_cast<size_t>(b.op)).at("group");
                   });
  for (const Completion& done : completions) {
    const Json& op = ops.at(static_cast<size_t>(done.op));
    const int64_t sent_by = rank.SentBy(done);
    if (sent_by < 0 || done.seen_during < sent_by) {
      return absl::InternalError(
          absl::StrCat("operation ", done.op, ": went by operation ", sent_by,
                       " and was seen during operation ", done.seen_during));
    }
    Json& event = events.at(static_cast<size_t>(sent_by));
    if (done.how.collective() != 0 &&
        collectives.insert({op.at("group"), done.how.collective()}).second) {
      event["collectives"].push_back(
          {{"group", absl::StrCat("g", op.at("group").get<int64_t>())},
           {"numel_per_shard", done.how.shard_elements()},
           {"dtype", WriteDType(op.at("dtype"))}});
    }
    if (!op.value("callback", false)) continue;
    event["callbacks_fired"].push_back(done.op);
    order.push_back({{"callback_of_op", done.op},
                     {"fired_during_op", sent_by},
                     {"reason", WriteReason(done.how.reason())}});
    results.push_back(rank.Result(done.op));
  }
  return Json{{"events", std::move(events)},
              {"callback_order", std::move(order)},
              {"results", std::move(results)}};
}

using Ranks = std::vector<std::unique_ptr<RankRun>>;

// Does all operations of a case on all ranks, side by side.
absl::Status DoAll(const Json& ops, const Json& expected, const Ranks& ranks) {
  size_t callbacks = 0;
  for (size_t op = 0; op < ops.size(); ++op) {
    for (const auto& rank : ranks) {
      SLUICE_RETURN_IF_ERROR(rank->Do(static_cast<int64_t>(op)));
    }
    callbacks += expected.at("events").at(op).at("callbacks_fired").size();
    for (const auto& rank : ranks)
      SLUICE_RETURN_IF_ERROR(rank->Await(callbacks));
  }
  return absl::OkStatus();
}

absl::Status LeaveAll(const Ranks& ranks) {
  std::vector<absl::Status> left(ranks.size());
  std::vector<std::thread> threads;
  for (size_t r = 0; r < ranks.size(); ++r) {
    threads.emplace_back([&, r] { left[r] = ranks[r]->Leave(); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& status : left) SLUICE_RETURN_IF_ERROR(status);
  return absl::OkStatus();
}

// What all ranks were told. Errors: INTERNAL - they differ.
absl::StatusOr<Json> DescribeAll(const Json& golden, const Ranks& ranks) {
  Json answer;
  answer["results_by_rank"] = Json::array();
  for (const auto& rank : ranks) {
    SLUICE_ASSIGN_OR_RETURN(Json told, Describe(golden, *rank));
    answer["results_by_rank"].push_back(std::move(told["results"]));
    told.erase("results");
    // When what goes is the same on every rank.
    if (answer.contains("events") &&
        (answer["events"] != told["events"] ||
         answer["callback_order"] != told["callback_order"])) {
      return absl::InternalError(
          absl::StrCat("ranks differ: ", answer["events"].dump(), " and ",
                       told["events"].dump()));
    }
    answer["events"] = told["events"];
    answer["callback_order"] = told["callback_order"];
  }
  return answer;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ReduceAgents>> ReduceAgents::Start(
    bool on_gpus) {
  std::unique_ptr<ReduceAgents> out(new ReduceAgents());
  testing::TestCluster::Options options;
  if (on_gpus) {
    SLUICE_ASSIGN_OR_RETURN(
        const std::string library,
        local_cluster::FindProgram({"tests/fakes/nccl/libfake_nccl.so"}));
    options.agent_flags.push_back(absl::StrCat("--nccl-library=", library));
    out->gpus_ = std::make_unique<agent::cuda::ProcessGpuRuntime>(
        agent::cuda::ProcessGpuRuntime::Options{.devices = kAgents});
    for (int i = 0; i < kAgents; ++i) options.gpus.push_back(i);
  }
  options.nodes = 1;
  options.agents_per_node = kAgents;
  options.agent_memory_bytes = int64_t{1} << 30;
  SLUICE_ASSIGN_OR_RETURN(out->cluster_, testing::TestCluster::Start(options));
  for (int i = 0; i < kAgents; ++i) {
    SLUICE_ASSIGN_OR_RETURN(std::unique_ptr<Worker> worker,
                            out->cluster_->Attach(i, absl::StrCat("rank-", i)));
    out->workers_.push_back(std::move(worker));
  }
  return out;
}

absl::StatusOr<Json> ReduceAgents::Answer(const Json& golden,
                                          const Json& expected) {
  const int world = golden.at("world_size");
  const auto num_groups = golden.value("n_groups", size_t{1});
  if (world < 1 || world > kAgents) {
    return absl::InvalidArgumentError(absl::StrCat(
        "world_size: expected 1 to ", kAgents, " agents, found ", world));
  }
  // Any agents, in any order, are a group.
  std::vector<Worker*> workers;
  ReduceGroupOptions options;
  for (int r = 0; r < world; ++r) {
    const int agent = (next_first_ + 3 * r) % kAgents;
    workers.push_back(workers_[static_cast<size_t>(agent)].get());
    options.agents.push_back(cluster_->AgentName(agent));
  }
  const int first = std::exchange(next_first_, (next_first_ + 1) % kAgents);
  if (gpus_ != nullptr) options.space = v1::REDUCE_SPACE_GPU;
  options.bucket_mib =
      std::clamp(golden.at("bucket_cap_mb").get<double>(), 0.0, 1024.0);
  Ranks ranks;
  for (int r = 0; r < world; ++r) {
    const int agent = (first + 3 * r) % kAgents;
    ranks.push_back(std::make_unique<RankRun>(golden, r, gpus_.get(), agent));
  }
  for (size_t g = 0; g < num_groups; ++g) {
    options.name = absl::StrCat("g", g);
    SLUICE_ASSIGN_OR_RETURN(testing::ReduceRanks parts,
                            testing::JoinTogether(workers, options));
    for (size_t r = 0; r < parts.size(); ++r) {
      ranks[r]->AddGroup(std::move(parts[r]));
    }
  }
  for (const auto& rank : ranks) SLUICE_RETURN_IF_ERROR(rank->Allocate());
  SLUICE_RETURN_IF_ERROR(DoAll(golden.at("ops"), expected, ranks));
  // Whatever went is answered then, callbacks or not.
  SLUICE_RETURN_IF_ERROR(LeaveAll(ranks));
  return DescribeAll(golden, ranks);
}

void CheckBucketerOnAgents(ReduceAgents& agents, CaseCheck& check) {
  if (check.ExpectsRefusal()) return;  // of arguments, as the value does
  const std::optional<Json> value = AnswerToCase("bucketer", check);
  if (!value.has_value()) return;
  const absl::StatusOr<Json> answer = agents.Answer(check.golden(), *value);
  if (!check.Ok("real agents", answer.status())) return;
  CompareBucketerOnAgents(*answer, check);
}

}  // namespace sluice::golden
