#ifndef SLUICE_TOOLS_SLUICECTL_OFFLINE_REPORT_H_
#define SLUICE_TOOLS_SLUICECTL_OFFLINE_REPORT_H_

// An evaluation of plans, for people and for programs.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/link_table.h"
#include "coordinator/planner/casts.h"
#include "coordinator/planner/planner_inputs.h"
#include "coordinator/planner/simulation/evaluation.h"

namespace sluice::ctl {

// What is said of a plan before its figures.
struct ReportHead {
  // What was planned, in words: "qwen3-30b-a3b, megatron_moe pipe=2 to ...".
  std::string title;
  std::vector<coordinator::Cast> casts;
  std::vector<std::string> warnings;
};

std::string EvaluationText(
    const ReportHead& head,
    const coordinator::simulation::Evaluation& evaluation,
    const coordinator::Topology& topology, const LinkTable& links);

// Bytes and seconds as numbers; docs/planning_cli.md lists the members.
nlohmann::json EvaluationJson(
    const ReportHead& head,
    const coordinator::simulation::Evaluation& evaluation,
    const coordinator::Topology& topology, const LinkTable& links);

}  // namespace sluice::ctl

#endif  // SLUICE_TOOLS_SLUICECTL_OFFLINE_REPORT_H_
