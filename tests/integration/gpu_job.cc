#include "tests/integration/gpu_job.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/cpp/client.h"
#include "common/convert_time.h"
#include "common/status_macros.h"

namespace sluice::testing {

absl::Status GpuJob::Start(const Options& options) {
  model_ = PatternedModel("policy", options.rows);
  gpus_ = options.cluster.gpus;
  SLUICE_ASSIGN_OR_RETURN(cluster_, TestCluster::Start(options.cluster));
  v1::RegisterModelRequest request;
  *request.mutable_model() = model_;
  SLUICE_RETURN_IF_ERROR(cluster_->client().RegisterModel(request).status());
  const auto ranks = static_cast<int64_t>(options.trainers.size());
  SLUICE_RETURN_IF_ERROR(Place("trainer", RowLayout(), v1::STORAGE_LENT,
                               MeshOf({{"data", 1}, {"tensor", ranks}},
                                      cluster_->AgentNames(options.trainers))));
  std::vector<int> all;
  for (int i = 0; i < cluster_->size(); ++i) all.push_back(i);
  SLUICE_RETURN_IF_ERROR(
      Place("rollout", ServingLayout(), v1::STORAGE_ARENA,
            MeshOf({{"data", options.replicas},
                    {"tensor", cluster_->size() / options.replicas}},
                   cluster_->AgentNames(all))));
  for (const int i : all) {
    SLUICE_ASSIGN_OR_RETURN(workers_.emplace_back(),
                            cluster_->Attach(i, absl::StrCat("w", i)));
  }
  for (const int i : options.trainers) SLUICE_RETURN_IF_ERROR(Lend(i));
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> GpuJob::WriteNextStep(int64_t delay_ns) {
  ++step_;
  uint64_t version = 0;
  for (Rank& rank : ranks_) {
    Worker& worker = *workers_[static_cast<size_t>(rank.agent)];
    SLUICE_RETURN_IF_ERROR(worker.BeginWrite("policy", "trainer"));
    std::vector<std::byte> content(
        static_cast<size_t>(rank.layout.buffer_bytes()));
    FillStep(model_, rank.layout, step_, content.data());
    SLUICE_RETURN_IF_ERROR(rank.gpu->Write(rank.lent, content, delay_ns));
    SLUICE_ASSIGN_OR_RETURN(const uint64_t ended,
                            worker.EndWrite("policy", "trainer", step_));
    if (ended != 0) version = ended;
  }
  return version;
}

absl::StatusOr<v1::OperationResult> GpuJob::Sync() {
  return Sync("rollout", v1::TRANSPORT_AUTO);
}

absl::StatusOr<v1::OperationResult> GpuJob::Sync(
    const std::string& destination, v1::Transport transport,
    absl::Duration progress_timeout) {
  v1::SyncRequest request;
  request.set_model("policy");
  request.set_source("trainer");
  request.add_destinations(destination);
  request.set_transport(transport);
  *request.mutable_progress_timeout() = ToProto(progress_timeout);
  return cluster_->client().Sync(request);
}

absl::Status GpuJob::PlaceOn(const std::string& name,
                             const std::vector<int>& agents,
                             v1::Storage storage) {
  return Place(
      name, ServingLayout(), storage,
      MeshOf({{"data", 1}, {"tensor", static_cast<int64_t>(agents.size())}},
             cluster_->AgentNames(agents)));
}

absl::StatusOr<int64_t> GpuJob::ReadRollout(int agent, uint64_t version,
                                            const std::string& name) {
  Worker& worker = *workers_[static_cast<size_t>(agent)];
  SLUICE_ASSIGN_OR_RETURN(const v1::GetPlacementResponse described,
                          worker.GetPlacement("policy", name));
  SLUICE_ASSIGN_OR_RETURN(const auto pin, worker.Pin("policy", name, version));
  if (!pin->device().has_value()) {
    return ReadStep(model_, described.layout(), pin->data());
  }
  ++device_pins_;
  SLUICE_ASSIGN_OR_RETURN(const auto gpu, GpuOfWorker::Open(runtime_));
  SLUICE_ASSIGN_OR_RETURN(const auto bytes, gpu->Read(*pin));
  return ReadStep(model_, described.layout(), bytes.data());
}

absl::Status GpuJob::Lend(int agent) {
  Rank rank;
  rank.agent = agent;
  Worker& worker = *workers_[static_cast<size_t>(agent)];
  SLUICE_ASSIGN_OR_RETURN(const v1::GetPlacementResponse described,
                          worker.GetPlacement("policy", "trainer"));
  rank.layout = described.layout();
  SLUICE_ASSIGN_OR_RETURN(
      rank.gpu, GpuOfWorker::Open(runtime_, gpus_[static_cast<size_t>(agent)]));
  SLUICE_ASSIGN_OR_RETURN(rank.lent,
                          rank.gpu->Allocate(rank.layout.buffer_bytes()));
  SLUICE_RETURN_IF_ERROR(
      worker.LendDevice("policy", "trainer", rank.lent.bytes));
  ranks_.push_back(std::move(rank));
  return absl::OkStatus();
}

absl::Status GpuJob::Place(const std::string& name, const v1::Layout& layout,
                           v1::Storage storage, v1::Mesh mesh) {
  v1::RegisterPlacementRequest request;
  request.set_model(model_.name());
  request.set_placement(name);
  *request.mutable_mesh() = std::move(mesh);
  *request.mutable_layout() = layout;
  request.set_storage(storage);
  return cluster_->client().RegisterPlacement(request).status();
}

}  // namespace sluice::testing
