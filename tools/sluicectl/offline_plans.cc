// plan reshard, plan redistribute without a cluster: planned and simulated.

#include "tools/sluicectl/offline_plans.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/planner/casts.h"
#include "coordinator/planner/planner_inputs.h"
#include "coordinator/planner/quantisation.h"
#include "coordinator/planner/simulation/evaluation.h"
#include "tools/sluicectl/offline_drawing.h"
#include "tools/sluicectl/offline_report.h"

namespace sluice::ctl {
namespace {

using coordinator::Topology;
using coordinator::simulation::Evaluation;
using coordinator::simulation::ParsePattern;
using coordinator::simulation::PatternResult;
using coordinator::simulation::PlanPattern;

struct ReshardOptions {
  OfflineReshard asked;
  OfflineOutput output;
};

absl::Status WriteFile(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  if (file.flush()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("cannot write ", path));
}

absl::StatusOr<std::vector<PlanPattern>> Patterns(const OfflineOutput& output,
                                                  bool samples) {
  SLUICE_ASSIGN_OR_RETURN(const PlanPattern drawn,
                          ParsePattern(absl::AsciiStrToUpper(output.pattern)));
  if (!output.compare) return std::vector<PlanPattern>{drawn};
  std::vector<PlanPattern> all = {PlanPattern::kGatherScatter,
                                  PlanPattern::kBroadcast};
  if (!samples) all.push_back(PlanPattern::kTwoStage);
  return all;
}

absl::Status Draw(const OfflineOutput& output, const Evaluation& evaluation,
                  const Topology& topology) {
  if (output.dot.empty() && output.svg.empty() && output.trace.empty()) {
    return absl::OkStatus();
  }
  SLUICE_ASSIGN_OR_RETURN(const PlanPattern pattern,
                          ParsePattern(absl::AsciiStrToUpper(output.pattern)));
  const PatternResult* drawn = nullptr;
  for (const PatternResult& result : evaluation.patterns) {
    if (result.pattern == pattern) drawn = &result;
  }
  if (drawn == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(output.pattern, " is not among the patterns planned"));
  }
  SLUICE_RETURN_IF_ERROR(drawn->status);
  if (!output.dot.empty()) {
    SLUICE_RETURN_IF_ERROR(
        WriteFile(output.dot, DrawDot(drawn->plan, topology)));
  }
  if (!output.svg.empty()) {
    SLUICE_RETURN_IF_ERROR(
        WriteFile(output.svg, DrawSvg(drawn->plan, topology)));
  }
  if (output.trace.empty()) return absl::OkStatus();
  return WriteFile(output.trace,
                   DrawTrace(drawn->plan, drawn->simulated, topology));
}

absl::Status Show(Context& context, const OfflineOutput& output,
                  const ReportHead& head, const Evaluation& evaluation,
                  const Topology& topology, const LinkTable& links) {
  SLUICE_RETURN_IF_ERROR(Draw(output, evaluation, topology));
  if (context.json()) {
    Context::Print(
        EvaluationJson(head, evaluation, topology, links)
            .dump(2, ' ', false, nlohmann::json::error_handler_t::replace) +
        "\n");
  } else {
    Context::Print(EvaluationText(head, evaluation, topology, links));
  }
  return absl::OkStatus();
}

std::string SideText(const OfflineSide& side) {
  return absl::StrCat(side.layout, " ", side.mesh);
}

absl::Status PlanReshardOffline(Context& context,
                                const ReshardOptions& options) {
  const OfflineOutput& output = options.output;
  SLUICE_ASSIGN_OR_RETURN(const LinkTable links, ReadLinks(output.links));
  SLUICE_ASSIGN_OR_RETURN(const std::vector<PlanPattern> patterns,
                          Patterns(output, /*samples=*/false));
  SLUICE_ASSIGN_OR_RETURN(const coordinator::ReshardInput input,
                          MakeReshard(options.asked, links, output.nodes));
  SLUICE_ASSIGN_OR_RETURN(const Evaluation evaluation,
                          coordinator::simulation::Evaluate(
                              input, patterns, links, output.simulation));
  ReportHead head;
  head.title =
      absl::StrCat(options.asked.model, ": ", SideText(options.asked.from),
                   " to ", SideText(options.asked.to));
  SLUICE_ASSIGN_OR_RETURN(head.casts, coordinator::CastsOf(input));
  // Shards that cut quantisation blocks are planned all the same.
  SLUICE_ASSIGN_OR_RETURN(head.warnings,
                          coordinator::QuantisationWarnings(input));
  return Show(context, output, head, evaluation, input.topology, links);
}

void DefineOutput(CLI::App& command, OfflineOutput& output) {
  command
      .add_option("--links", output.links,
                  "ethernet_100g, gb200_nvl72, h100_infiniband, or a JSON file")
      ->capture_default_str();
  command.add_option("--nodes", output.nodes,
                     "Node of each rank, 0,0,1,1 (default: as the links have)");
  command.add_flag("--compare", output.compare, "All patterns side by side");
  command.add_option("--dot", output.dot, "Writes a graph for Graphviz");
  command.add_option("--svg", output.svg,
                     "Writes a picture: who sends how much to whom");
  command.add_option("--trace", output.trace,
                     "Writes the simulated timeline for ui.perfetto.dev");
  command
      .add_option("--receive-window", output.simulation.receive_window,
                  "Transfers a rank receives at once (0: of all its peers)")
      ->capture_default_str();
}

void DefineSide(CLI::App& command, const std::string& name, OfflineSide& side) {
  command
      .add_option("--" + name, side.layout, "Layout: a preset or a JSON file")
      ->required();
  command
      .add_option("--" + name + "-mesh", side.mesh,
                  "Axes, such as pipe=2,tensor=4")
      ->required();
  command.add_option("--" + name + "-set", side.variables,
                     "Variables of the layout: name=number,...");
  command.add_option("--" + name + "-matrices", side.matrices,
                     "Element type of its matrices, such as F8_E4M3 "
                     "(default: as the layout says, or the model)");
  command
      .add_option("--" + name + "-rank", side.first_rank, "First rank of it")
      ->capture_default_str();
}

void DefineReshard(CLI::App& command, ReshardOptions& options) {
  command
      .add_option("--model", options.asked.model,
                  "A preset such as qwen3-30b-a3b, or a JSON file")
      ->required();
  command.add_option("--set", options.asked.variables,
                     "Variables of the model: num_hidden_layers=4,...");
  DefineSide(command, "from", options.asked.from);
  DefineSide(command, "to", options.asked.to);
  command
      .add_option("--pattern", options.output.pattern,
                  "direct, gather_scatter, broadcast or two_stage: planned "
                  "beside direct, and drawn")
      ->capture_default_str();
  DefineOutput(command, options.output);
}

}  // namespace

void DefineOfflineBatch(CLI::App& command, OfflineBatchOptions& options) {
  command.add_option("--batch", options.asked.file,
                     "JSON: who has which samples and who wants them");
  command.add_option("--samples", options.asked.samples,
                     "Instead: so many, dealt over the producers");
  command.add_option("--keys", options.asked.keys, "Tensors of a sample")
      ->capture_default_str();
  command.add_option("--bytes", options.asked.bytes, "Bytes of each tensor")
      ->capture_default_str();
  command.add_option("--from-mesh", options.asked.from_mesh,
                     "Producers: one for each position of the first axis");
  command.add_option("--to-mesh", options.asked.to_mesh,
                     "Consumers: samples are dealt over the first axis, all "
                     "ranks there want them");
  command.add_option("--from-rank", options.asked.from_rank, "First producer")
      ->capture_default_str();
  command.add_option("--to-rank", options.asked.to_rank, "First consumer")
      ->capture_default_str();
  DefineOutput(command, options.output);
}

absl::Status PlanBatchOffline(Context& context,
                              const OfflineBatchOptions& options) {
  const OfflineOutput& output = options.output;
  if (options.asked.file.empty() &&
      (options.asked.from_mesh.empty() || options.asked.to_mesh.empty())) {
    return absl::InvalidArgumentError(
        "which batch? Give --batch FILE, or --samples, --from-mesh and "
        "--to-mesh");
  }
  SLUICE_ASSIGN_OR_RETURN(const LinkTable links, ReadLinks(output.links));
  SLUICE_ASSIGN_OR_RETURN(const std::vector<PlanPattern> patterns,
                          Patterns(output, /*samples=*/true));
  SLUICE_ASSIGN_OR_RETURN(
      const coordinator::RedistributionInput input,
      MakeRedistribution(options.asked, links, output.nodes));
  SLUICE_ASSIGN_OR_RETURN(const Evaluation evaluation,
                          coordinator::simulation::Evaluate(
                              input, patterns, links, output.simulation));
  const std::string what =
      options.asked.file.empty()
          ? absl::StrCat(options.asked.from_mesh, " to ", options.asked.to_mesh)
          : options.asked.file;
  return Show(
      context, output,
      {absl::StrCat("samples: ", input.holdings.size(), " tensors, ", what),
       {},
       {}},
      evaluation, input.topology, links);
}

void AddOfflineCommands(CLI::App& app, Action& chosen) {
  CLI::App* plan = app.get_subcommand("plan");
  AddCommand<ReshardOptions>(
      *plan, chosen, "reshard",
      "Plans and simulates a sync without a cluster.\n"
      "Example: sluicectl plan reshard --model qwen3-30b-a3b "
      "--from megatron_moe --from-mesh pipe=2,data=4,tensor=4 "
      "--from-set expert_parallel=8 --to vllm_moe --to-mesh data=8,tensor=4 "
      "--to-rank 32 --compare --svg plan.svg",
      DefineReshard, PlanReshardOffline);
}

}  // namespace sluice::ctl
