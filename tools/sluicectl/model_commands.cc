// place, remove, load, sync, verify, plan sync: models and their placements.

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "agent/checkpoint/checkpoint_model.h"
#include "common/convert_tensor.h"
#include "common/format.h"
#include "common/status_macros.h"
#include "coordinator/planner/casts.h"
#include "tools/registration/registration.h"
#include "tools/sluicectl/context.h"
#include "tools/sluicectl/plan_notes.h"

namespace sluice::ctl {
namespace {

const std::map<std::string, v1::Storage> kStorages = {
    {"arena", v1::STORAGE_ARENA},
    {"host_arena", v1::STORAGE_HOST_ARENA},
    {"lent", v1::STORAGE_LENT}};

struct PlaceOptions {
  std::string model = "policy", placement;
  std::string checkpoint, layout, mesh, agents, variables;
  std::string storage = "arena";
};

// The agents that were named, else all that can be used.
absl::StatusOr<std::vector<std::string>> AgentNames(Client& client,
                                                    const std::string& named) {
  if (!named.empty()) {
    return std::vector<std::string>(absl::StrSplit(named, ','));
  }
  SLUICE_ASSIGN_OR_RETURN(const v1::GetStatusResponse status,
                          client.GetStatus(1));
  return registration::UsableAgents(status);
}

absl::Status Place(Context& context, const PlaceOptions& options) {
  SLUICE_ASSIGN_OR_RETURN(
      agent::CheckpointModel model,
      agent::ModelFromDirectory(options.checkpoint, options.model));
  SLUICE_ASSIGN_OR_RETURN(const auto variables,
                          registration::ParseVariables(options.variables));
  for (const auto& [name, value] : variables) model.variables[name] = value;
  SLUICE_ASSIGN_OR_RETURN(
      const Layout layout,
      registration::FindLayout(options.layout, model.model, model.variables));
  SLUICE_ASSIGN_OR_RETURN(Client * client, context.client());
  SLUICE_ASSIGN_OR_RETURN(const std::vector<std::string> agents,
                          AgentNames(*client, options.agents));
  SLUICE_ASSIGN_OR_RETURN(const std::string axes,
                          registration::CompleteAxes(layout, options.mesh));
  SLUICE_ASSIGN_OR_RETURN(v1::Mesh mesh, registration::MakeMesh(axes, agents));
  v1::RegisterModelRequest request;
  *request.mutable_model() = ToProto(model.model);
  SLUICE_RETURN_IF_ERROR(client->RegisterModel(request));
  SLUICE_ASSIGN_OR_RETURN(
      const v1::RegisterPlacementResponse placed,
      client->RegisterPlacement(registration::PlacementRequest(
          options.model, options.placement, std::move(mesh), layout,
          kStorages.at(options.storage))));
  if (context.json()) {
    Context::PrintJson(placed);
    return absl::OkStatus();
  }
  int64_t bytes = 0;
  for (const int64_t agent_bytes : placed.bytes()) bytes += agent_bytes;
  Context::Print(absl::StrCat(options.model, " placed as ", options.placement,
                              " on ", placed.bytes_size(), " agents in ",
                              placed.replicas(), " replicas, ",
                              HumanBytes(bytes), "\n"));
  return absl::OkStatus();
}

struct PlacementName {
  std::string model, placement;
};

absl::Status Remove(Context& context, const PlacementName& options) {
  SLUICE_ASSIGN_OR_RETURN(Client * client, context.client());
  v1::RemovePlacementRequest request;
  request.set_model(options.model);
  request.set_placement(options.placement);
  SLUICE_ASSIGN_OR_RETURN(const v1::RemovePlacementResponse removed,
                          client->RemovePlacement(request));
  if (context.json()) {
    Context::PrintJson(removed);
  } else {
    Context::Print(
        absl::StrCat(options.model, "/", options.placement, " removed\n"));
  }
  return absl::OkStatus();
}

struct LoadOptions {
  std::string model, placement, checkpoint;
  double deadline_seconds = 600;
  bool detach = false;
};

absl::Status Load(Context& context, const LoadOptions& options) {
  SLUICE_ASSIGN_OR_RETURN(Client * client, context.client());
  v1::LoadRequest request;
  request.set_model(options.model);
  request.set_placement(options.placement);
  request.set_directory(
      std::filesystem::absolute(options.checkpoint).lexically_normal());
  request.mutable_deadline()->set_seconds(
      static_cast<int64_t>(options.deadline_seconds));
  if (options.detach) request.set_on_caller_loss(v1::CALLER_LOSS_POLICY_DETACH);
  return context.RunOperation("load", [&](const Client::Progress& progress) {
    return client->Load(request, progress);
  });
}

struct SyncOptions {
  std::string model, source;
  std::vector<std::string> destinations;
  std::string pattern = "direct";
  std::string transport = "auto";
  bool skip_digests = false;
  bool detach = false;
  int64_t staging_bytes = 0;
  double deadline_seconds = 600;
  double wait_seconds = 10;
  double progress_seconds = 5;
};

absl::StatusOr<v1::SyncRequest> RequestOf(const SyncOptions& options) {
  v1::SyncRequest request;
  SLUICE_ASSIGN_OR_RETURN(
      const v1::Pattern pattern,
      ParsePatternFlag(options.pattern, {"direct", "two_stage"}));
  request.set_pattern(pattern);
  SLUICE_ASSIGN_OR_RETURN(const v1::Transport transport,
                          ParseTransportFlag(options.transport));
  request.set_transport(transport);
  request.set_model(options.model);
  request.set_source(options.source);
  for (const std::string& name : options.destinations) {
    request.add_destinations(name);
  }
  request.set_skip_digests(options.skip_digests);
  request.set_staging_bytes(options.staging_bytes);
  if (options.detach) request.set_on_caller_loss(v1::CALLER_LOSS_POLICY_DETACH);
  request.mutable_deadline()->set_seconds(
      static_cast<int64_t>(options.deadline_seconds));
  request.mutable_wait_deadline()->set_seconds(
      static_cast<int64_t>(options.wait_seconds));
  request.mutable_progress_timeout()->set_seconds(
      static_cast<int64_t>(options.progress_seconds));
  return request;
}

absl::Status Sync(Context& context, const SyncOptions& options) {
  SLUICE_ASSIGN_OR_RETURN(const v1::SyncRequest request, RequestOf(options));
  SLUICE_ASSIGN_OR_RETURN(Client * client, context.client());
  return context.RunOperation("sync", [&](const Client::Progress& progress) {
    return client->Sync(request, progress);
  });
}

absl::StatusOr<std::vector<coordinator::Cast>> CastsOf(
    const v1::PlanSyncResponse& plan) {
  std::vector<coordinator::Cast> out;
  for (const v1::PlannedCast& cast : plan.casts()) {
    coordinator::Cast& one = out.emplace_back();
    one.placement = cast.placement();
    SLUICE_ASSIGN_OR_RETURN(one.from, FromProto(cast.from()));
    SLUICE_ASSIGN_OR_RETURN(one.to, FromProto(cast.to()));
    SLUICE_ASSIGN_OR_RETURN(one.wire, FromProto(cast.wire()));
    one.num_tensors = cast.tensors();
  }
  return out;
}

absl::Status PlanSync(Context& context, const SyncOptions& options) {
  SLUICE_ASSIGN_OR_RETURN(const v1::SyncRequest request, RequestOf(options));
  SLUICE_ASSIGN_OR_RETURN(Client * client, context.client());
  SLUICE_ASSIGN_OR_RETURN(const v1::PlanSyncResponse plan,
                          client->PlanSync(request));
  if (context.json()) {
    Context::PrintJson(plan);
  } else {
    SLUICE_ASSIGN_OR_RETURN(const std::vector<coordinator::Cast> casts,
                            CastsOf(plan));
    const std::vector<std::string> warnings(plan.warnings().begin(),
                                            plan.warnings().end());
    Context::Print(absl::StrCat(PlanNotesText(casts, warnings),
                                CertificateText(plan.certificate())));
  }
  return absl::OkStatus();
}

struct VerifyOptions {
  std::string model, placement, against;
};

absl::Status Verify(Context& context, const VerifyOptions& options) {
  SLUICE_ASSIGN_OR_RETURN(Client * client, context.client());
  v1::VerifyRequest request;
  request.set_model(options.model);
  request.set_placement(options.placement);
  request.set_against(options.against);
  return context.RunOperation("verify", [&](const Client::Progress& progress) {
    return client->Verify(request, progress);
  });
}

void DefineSync(CLI::App& command, SyncOptions& options) {
  command.add_option("model", options.model, "Model")->required();
  command.add_option("source", options.source, "Placement that gives")
      ->required();
  command
      .add_option("destinations", options.destinations, "Placements that take")
      ->required();
  command
      .add_option("--pattern", options.pattern,
                  "direct, or two_stage: ranks paired by position")
      ->capture_default_str();
  AddTransportFlag(command, options.transport);
  command.add_flag("--skip-digests", options.skip_digests,
                   "Compare no digests of what arrived");
  command.add_flag("--detach", options.detach,
                   "Go on when this command is interrupted");
  command.add_option("--staging", options.staging_bytes,
                     "Staging memory of an agent in bytes (default: its own)");
  command
      .add_option("--deadline", options.deadline_seconds,
                  "Seconds the whole may take")
      ->capture_default_str();
  command
      .add_option("--wait", options.wait_seconds,
                  "Seconds to wait for pins and brackets")
      ->capture_default_str();
  command
      .add_option("--progress-timeout", options.progress_seconds,
                  "Seconds without progress that fail it")
      ->capture_default_str();
}

void AddPlacementCommands(CLI::App& app, Action& chosen) {
  AddCommand<PlaceOptions>(
      app, chosen, "place",
      "Registers a checkpoint's model, if it is new, and a placement of it.\n"
      "Example: sluicectl place --checkpoint DIR --placement trainer "
      "--layout megatron --mesh pipe=2,data=2,tensor=2 --storage arena",
      [](CLI::App& command, PlaceOptions& options) {
        command.add_option("--model", options.model, "Name of the model")
            ->capture_default_str();
        command
            .add_option("--placement", options.placement,
                        "Name of the placement")
            ->required();
        command
            .add_option("--checkpoint", options.checkpoint,
                        "Directory whose tensors are the model's")
            ->required();
        command
            .add_option("--layout,--preset", options.layout,
                        "huggingface, megatron, vllm, or a JSON file")
            ->required();
        command
            .add_option("--mesh", options.mesh,
                        "Axes, such as pipe=2,data=2,tensor=2")
            ->required();
        command.add_option("--agents", options.agents,
                           "Names in mesh order (default: by rank)");
        command.add_option("--set", options.variables,
                           "Variables of the preset: name=number,...");
        command
            .add_option("--storage", options.storage,
                        "arena: the agents' memory; host_arena: theirs, on "
                        "the host also where they serve GPUs; lent: workers'")
            ->check(CLI::IsMember(kStorages))
            ->capture_default_str();
      },
      Place);
  AddCommand<PlacementName>(
      app, chosen, "remove",
      "Forgets a placement and frees its memory.\n"
      "Example: sluicectl remove policy rollout",
      [](CLI::App& command, PlacementName& options) {
        command.add_option("model", options.model, "Model")->required();
        command.add_option("placement", options.placement, "Placement")
            ->required();
      },
      Remove);
}

}  // namespace

void AddModelCommands(CLI::App& app, Action& chosen) {
  AddPlacementCommands(app, chosen);
  AddCommand<LoadOptions>(
      app, chosen, "load",
      "Loads a checkpoint into a placement; publishes a new version.\n"
      "Example: sluicectl load policy trainer /data/qwen",
      [](CLI::App& command, LoadOptions& options) {
        command.add_option("model", options.model, "Model")->required();
        command.add_option("placement", options.placement, "Placement")
            ->required();
        command.add_option("checkpoint", options.checkpoint, "Directory")
            ->required();
        command
            .add_option("--deadline", options.deadline_seconds,
                        "Seconds it may take")
            ->capture_default_str();
        command.add_flag("--detach", options.detach,
                         "Go on when this command is interrupted");
      },
      Load);
  AddCommand<SyncOptions>(
      app, chosen, "sync",
      "Brings the source's newest version to the destinations.\n"
      "Example: sluicectl sync policy trainer rollout",
      DefineSync, Sync);
  AddCommand<VerifyOptions>(
      app, chosen, "verify",
      "Reads a placement's memory again and compares digests.\n"
      "Example: sluicectl verify policy rollout --against trainer",
      [](CLI::App& command, VerifyOptions& options) {
        command.add_option("model", options.model, "Model")->required();
        command.add_option("placement", options.placement, "Placement")
            ->required();
        command.add_option("--against", options.against,
                           "Another placement (default: among its replicas)");
      },
      Verify);
  CLI::App* plan = app.get_subcommand("plan");
  AddCommand<SyncOptions>(
      *plan, chosen, "sync",
      "Plans a sync, proves the plan and shows its certificate; moves "
      "nothing.\nExample: sluicectl plan sync policy trainer rollout",
      DefineSync, PlanSync);
}

}  // namespace sluice::ctl
