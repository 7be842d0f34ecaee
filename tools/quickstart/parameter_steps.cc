#include "tools/quickstart/parameter_steps.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/checkpoint/checkpoint_model.h"
#include "common/convert_plan.h"
#include "common/convert_tensor.h"
#include "common/format.h"
#include "common/status_macros.h"
#include "tools/quickstart/placement_check.h"
#include "tools/quickstart/plan_work.h"
#include "tools/registration/registration.h"

namespace sluice::quickstart {
namespace {

// Lending and training touch every byte a worker holds.
constexpr absl::Duration kWorkerDeadline = absl::Minutes(5);

// The first agents of the cluster, in order, on these axes.
absl::StatusOr<Mesh> MeshOf(const std::string& axes) {
  Mesh mesh;
  SLUICE_ASSIGN_OR_RETURN(mesh.axes, ParseAxes(axes));
  int64_t size = 1;
  for (const MeshAxis& axis : mesh.axes) size *= axis.size;
  for (int32_t i = 0; i < size; ++i) mesh.ranks.emplace_back(i);
  return mesh;
}

absl::StatusOr<Placed> MakePlaced(const std::string& name,
                                  const std::string& preset,
                                  const std::string& axes,
                                  const agent::CheckpointModel& checkpoint) {
  Placed placed;
  placed.name = name;
  SLUICE_ASSIGN_OR_RETURN(
      placed.layout,
      registration::FindLayout(preset, checkpoint.model, checkpoint.variables));
  SLUICE_ASSIGN_OR_RETURN(placed.mesh, MeshOf(axes));
  SLUICE_RETURN_IF_ERROR(
      CheckLayout(checkpoint.model, placed.layout, placed.mesh));
  return placed;
}

absl::Status Register(Session& session, const Placed& placed,
                      const std::string& axes, v1::Storage storage) {
  std::vector<std::string> agents;
  for (const local_cluster::AgentProcess& agent : session.cluster->agents()) {
    agents.push_back(agent.name);
  }
  SLUICE_ASSIGN_OR_RETURN(v1::Mesh mesh, registration::MakeMesh(axes, agents));
  return session.client
      ->RegisterPlacement(registration::PlacementRequest(
          kModel, placed.name, std::move(mesh), placed.layout, storage))
      .status();
}

// Sends one command to all workers, then awaits all answers.
absl::StatusOr<std::vector<nlohmann::json>> AskAll(
    Session& session, const nlohmann::json& command) {
  for (const auto& worker : session.workers) {
    SLUICE_RETURN_IF_ERROR(worker->Send(command));
  }
  std::vector<nlohmann::json> answers;
  for (const auto& worker : session.workers) {
    SLUICE_ASSIGN_OR_RETURN(nlohmann::json answer,
                            worker->Answer(kWorkerDeadline));
    answers.push_back(std::move(answer));
  }
  return answers;
}

absl::Status StartWorkers(Session& session) {
  for (int64_t i = 0; i < session.trainer.mesh.size(); ++i) {
    const local_cluster::AgentProcess& agent =
        session.cluster->agents()[static_cast<size_t>(i)];
    const std::string name = absl::StrCat("trainer-", i);
    SLUICE_ASSIGN_OR_RETURN(
        std::unique_ptr<WorkerProcess> worker,
        WorkerProcess::Start(
            session.options.worker_binary, agent.socket, name,
            session.DeviceOf(static_cast<int>(i)),
            absl::StrCat(session.cluster->dir(), "/", name, ".log")));
    session.workers.push_back(std::move(worker));
  }
  for (const auto& worker : session.workers) {
    SLUICE_RETURN_IF_ERROR(worker->Answer(kWorkerDeadline));
  }
  return AskAll(session,
                {{"do", "lend"}, {"model", kModel}, {"placement", kTrainer}})
      .status();
}

// What the sync must do at least, from the plan the coordinator would run.
absl::StatusOr<Work> PlannedWork(Session& session,
                                 const v1::SyncRequest& request) {
  SLUICE_ASSIGN_OR_RETURN(const v1::PlanSyncResponse plan,
                          session.client->PlanSync(request));
  std::vector<Transfer> transfers;
  for (const v1::Transfer& proto : plan.transfers()) {
    SLUICE_ASSIGN_OR_RETURN(Transfer transfer, FromProto(proto));
    transfers.push_back(std::move(transfer));
  }
  // The plan speaks of ranks; the coordinator says whose they are.
  SLUICE_ASSIGN_OR_RETURN(const v1::GetStatusResponse status,
                          session.client->GetStatus(1));
  std::vector<RankEnds> ranks(static_cast<size_t>(status.agents_size()));
  const auto place = [&](const Placed& placed,
                         RankLayout RankEnds::*end) -> absl::Status {
    SLUICE_ASSIGN_OR_RETURN(
        std::vector<RankLayout> layouts,
        ExpandLayoutOnAll(session.model, placed.layout, placed.mesh));
    for (size_t i = 0; i < layouts.size(); ++i) {
      const std::string& name = session.AgentName(static_cast<int>(i));
      for (const v1::AgentStatus& agent : status.agents()) {
        if (agent.name() != name) continue;
        ranks.at(static_cast<size_t>(agent.rank())).*end =
            std::move(layouts[i]);
      }
    }
    return absl::OkStatus();
  };
  SLUICE_RETURN_IF_ERROR(place(session.trainer, &RankEnds::source));
  SLUICE_RETURN_IF_ERROR(place(session.rollout, &RankEnds::destination));
  return SyncWork(session.model, transfers, ranks);
}

}  // namespace

absl::Status PlanPlacements(Session& session) {
  SLUICE_ASSIGN_OR_RETURN(
      agent::CheckpointModel checkpoint,
      agent::ModelFromDirectory(session.checkpoint, kModel));
  SLUICE_ASSIGN_OR_RETURN(session.trainer,
                          MakePlaced(kTrainer, "megatron",
                                     session.options.trainer_mesh, checkpoint));
  SLUICE_ASSIGN_OR_RETURN(
      session.rollout,
      MakePlaced(kRollout, "vllm", session.options.rollout_mesh, checkpoint));
  session.model = std::move(checkpoint.model);
  return absl::OkStatus();
}

absl::StatusOr<int64_t> AgentMemoryNeeded(const Session& session) {
  SLUICE_ASSIGN_OR_RETURN(
      const std::vector<RankLayout> trainer,
      ExpandLayoutOnAll(session.model, session.trainer.layout,
                        session.trainer.mesh));
  SLUICE_ASSIGN_OR_RETURN(
      const std::vector<RankLayout> rollout,
      ExpandLayoutOnAll(session.model, session.rollout.layout,
                        session.rollout.mesh));
  int64_t needed = 0;
  for (size_t i = 0; i < std::max(trainer.size(), rollout.size()); ++i) {
    const int64_t lent = i < trainer.size() ? trainer[i].buffer_bytes : 0;
    const int64_t owned = i < rollout.size() ? rollout[i].buffer_bytes : 0;
    needed = std::max(needed, lent + 2 * owned);
  }
  return needed;
}

absl::Status Place(Session& session) {
  v1::RegisterModelRequest model;
  *model.mutable_model() = ToProto(session.model);
  SLUICE_RETURN_IF_ERROR(session.client->RegisterModel(model));
  SLUICE_RETURN_IF_ERROR(Register(session, session.trainer,
                                  session.options.trainer_mesh,
                                  v1::STORAGE_LENT));
  SLUICE_RETURN_IF_ERROR(Register(session, session.rollout,
                                  session.options.rollout_mesh,
                                  v1::STORAGE_ARENA));
  return StartWorkers(session);
}

absl::Status Load(Session& session) {
  SLUICE_ASSIGN_OR_RETURN(
      OperationReport * report,
      RunOperation(session, "load", [&](const Client::Progress& progress) {
        v1::LoadRequest request;
        request.set_model(kModel);
        request.set_placement(kTrainer);
        request.set_directory(session.checkpoint);
        return session.client->Load(request, progress);
      }));
  return CheckPlacement(session, session.trainer, /*sign_flips=*/0, *report);
}

absl::StatusOr<uint64_t> Train(Session& session, int64_t step) {
  SLUICE_ASSIGN_OR_RETURN(const std::vector<nlohmann::json> answers,
                          AskAll(session, {{"do", "train"},
                                           {"model", kModel},
                                           {"placement", kTrainer},
                                           {"step", step}}));
  // Who ends the step last hears of the version.
  uint64_t version = 0;
  for (const nlohmann::json& answer : answers) {
    version = std::max(version, answer.value("version", uint64_t{0}));
  }
  if (version == 0) {
    return absl::InternalError(
        absl::StrCat("step ", step, ": no worker was told the new version"));
  }
  return version;
}

absl::Status Sync(Session& session, const std::string& name, int sign_flips) {
  v1::SyncRequest request;
  request.set_model(kModel);
  request.set_source(kTrainer);
  request.add_destinations(kRollout);
  SLUICE_ASSIGN_OR_RETURN(const Work planned, PlannedWork(session, request));
  SLUICE_ASSIGN_OR_RETURN(
      OperationReport * report,
      RunOperation(session, name, [&](const Client::Progress& progress) {
        return session.client->Sync(request, progress);
      }));
  if (planned.bytes != report->work.bytes) {
    return absl::InternalError(absl::StrCat(
        name, ": planned ", planned.bytes[0], "+", planned.bytes[1], "+",
        planned.bytes[2], " bytes, moved ", report->work.bytes[0], "+",
        report->work.bytes[1], "+", report->work.bytes[2]));
  }
  report->work = planned;
  return CheckPlacement(session, session.rollout, sign_flips, *report);
}

}  // namespace sluice::quickstart
