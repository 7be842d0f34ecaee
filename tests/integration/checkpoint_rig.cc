#include "tests/integration/checkpoint_rig.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/checkpoint/checkpoint_model.h"
#include "common/convert_tensor.h"
#include "common/status_macros.h"
#include "tools/checker/checker.h"
#include "tools/checker/checkpoint_bytes.h"
#include "tools/checker/expectation.h"
#include "tools/registration/registration.h"

namespace sluice::testing {
namespace {

constexpr char kModel[] = "policy";
constexpr char kTrainer[] = "trainer";
constexpr char kRollout[] = "rollout";

std::vector<std::string> AllAgents(const TestCluster& cluster, int size) {
  std::vector<std::string> names;
  for (int agent = 0; agent < size; ++agent) {
    names.push_back(cluster.AgentName(agent));
  }
  return names;
}

}  // namespace

GeneratorOptions TinyCheckpoint() {
  GeneratorOptions options;
  options.layers = 4;
  options.hidden = 64;
  options.heads = 4;
  options.kv_heads = 2;
  options.head_dim = 16;
  options.intermediate = 176;
  options.vocab = 300;
  return options;
}

absl::StatusOr<std::unique_ptr<CheckpointRig>> CheckpointRig::Start(
    TestCluster& cluster, const Options& options) {
  std::unique_ptr<CheckpointRig> rig(new CheckpointRig(cluster, options));
  rig->directory_ = absl::StrCat(cluster.dir(), "/checkpoint");
  SLUICE_RETURN_IF_ERROR(
      GenerateCheckpoint(options.checkpoint, rig->directory_).status());
  SLUICE_RETURN_IF_ERROR(rig->Register());
  for (int agent = 0; agent < cluster.size(); ++agent) {
    SLUICE_ASSIGN_OR_RETURN(std::unique_ptr<Worker> worker,
                            cluster.Attach(agent, "trainer"));
    SLUICE_ASSIGN_OR_RETURN(std::shared_ptr<SharedBytes> lent,
                            worker->Lend(kModel, kTrainer));
    rig->workers_.push_back(std::move(worker));
    rig->lent_.push_back(std::move(lent));
  }
  return rig;
}

absl::Status CheckpointRig::Register() {
  SLUICE_ASSIGN_OR_RETURN(const agent::CheckpointModel model,
                          agent::ModelFromDirectory(directory_, kModel));
  v1::RegisterModelRequest request;
  *request.mutable_model() = ToProto(model.model);
  SLUICE_RETURN_IF_ERROR(cluster_.client().RegisterModel(request).status());
  const std::vector<std::string> agents = AllAgents(cluster_, cluster_.size());
  struct Wanted {
    const char *placement, *layout;
    std::string mesh;
    v1::Storage storage;
  };
  for (const Wanted& wanted :
       {Wanted{kTrainer, "megatron",
               absl::StrCat("pipe=", options_.pipe, ",data=", options_.data,
                            ",tensor=", options_.tensor),
               v1::STORAGE_LENT},
        Wanted{kRollout, "vllm",
               absl::StrCat("data=", options_.rollout_data,
                            ",tensor=", options_.rollout_tensor),
               v1::STORAGE_ARENA}}) {
    SLUICE_ASSIGN_OR_RETURN(
        const Layout layout,
        registration::FindLayout(wanted.layout, model.model, model.variables));
    SLUICE_ASSIGN_OR_RETURN(v1::Mesh mesh,
                            registration::MakeMesh(wanted.mesh, agents));
    SLUICE_RETURN_IF_ERROR(
        cluster_.client()
            .RegisterPlacement(registration::PlacementRequest(
                kModel, wanted.placement, std::move(mesh), layout,
                wanted.storage))
            .status());
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::OperationResult> CheckpointRig::Load(
    const std::string& placement) {
  v1::LoadRequest request;
  request.set_model(kModel);
  request.set_placement(placement);
  request.set_directory(directory_);
  return cluster_.client().Load(request);
}

v1::SyncRequest CheckpointRig::SyncRequest() const {
  v1::SyncRequest request;
  request.set_model(kModel);
  request.set_source(kTrainer);
  request.add_destinations(kRollout);
  return request;
}

absl::StatusOr<v1::OperationResult> CheckpointRig::Sync() {
  return cluster_.client().Sync(SyncRequest());
}

absl::StatusOr<uint64_t> CheckpointRig::FlipSigns() {
  ++step_;
  uint64_t version = 0;
  for (size_t i = 0; i < workers_.size(); ++i) {
    SLUICE_RETURN_IF_ERROR(workers_[i]->BeginWrite(kModel, kTrainer));
    SLUICE_ASSIGN_OR_RETURN(const v1::GetPlacementResponse held,
                            workers_[i]->GetPlacement(kModel, kTrainer));
    for (const v1::LocalParam& param : held.layout().params()) {
      int64_t elements = 1;
      for (const int64_t size : param.shape()) elements *= size;
      auto* values =
          reinterpret_cast<uint16_t*>(lent_[i]->data() + param.offset_bytes());
      for (int64_t e = 0; e < elements; ++e) values[e] ^= 0x8000;
    }
  }
  for (const auto& worker : workers_) {
    SLUICE_ASSIGN_OR_RETURN(const uint64_t ended,
                            worker->EndWrite(kModel, kTrainer, step_));
    if (ended != 0) version = ended;
  }
  return version;
}

absl::StatusOr<int64_t> CheckpointRig::CheckRollout(uint64_t version,
                                                    int flips) {
  SLUICE_ASSIGN_OR_RETURN(const checker::CheckpointBytes checkpoint,
                          checker::CheckpointBytes::Open(directory_));
  int64_t compared = 0;
  for (size_t i = 0; i < workers_.size(); ++i) {
    SLUICE_ASSIGN_OR_RETURN(const v1::GetPlacementResponse held,
                            workers_[i]->GetPlacement(kModel, kRollout));
    std::vector<checker::HeldParam> params;
    for (const v1::LocalParam& param : held.layout().params()) {
      params.push_back({param.name(),
                        {param.shape().begin(), param.shape().end()},
                        param.offset_bytes()});
    }
    SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<PinnedVersion> pin,
                            workers_[i]->Pin(kModel, kRollout, version));
    std::vector<std::byte> copy;
    if (pin->device().has_value()) {
      SLUICE_ASSIGN_OR_RETURN(copy, options_.read_device(*pin));
    }
    checker::Position at;
    at.tensor = static_cast<int64_t>(i) % options_.rollout_tensor;
    at.tensors = options_.rollout_tensor;
    SLUICE_ASSIGN_OR_RETURN(
        const int64_t bytes,
        checker::CheckMemory(checkpoint, checker::ExpectVllm(checkpoint, at),
                             params, copy.empty() ? pin->data() : copy.data(),
                             pin->size(), flips));
    compared += bytes;
  }
  return compared;
}

}  // namespace sluice::testing
