#include "tools/sluicectl/offline_report.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "common/dtype.h"
#include "common/format.h"
#include "common/plan.h"
#include "tools/console/table.h"
#include "tools/sluicectl/plan_notes.h"

namespace sluice::ctl {
namespace {

using coordinator::Cast;
using coordinator::Topology;
using coordinator::simulation::Evaluation;
using coordinator::simulation::LinkUse;
using coordinator::simulation::PatternName;
using coordinator::simulation::PatternResult;
using Json = nlohmann::json;

int64_t Of(const LinkBytes& bytes, LinkClass link) {
  return bytes[static_cast<size_t>(link)];
}

size_t NumNodes(const Topology& topology) {
  std::set<int32_t> nodes(topology.node_of_rank.begin(),
                          topology.node_of_rank.end());
  nodes.erase(-1);
  return nodes.size();
}

std::string Seconds(double seconds) {
  return HumanDuration(absl::Seconds(seconds));
}

std::vector<std::string> Row(const Evaluation& evaluation,
                             const PatternResult& result) {
  const Certificate& certificate = result.plan.certificate;
  return {PatternName(result.pattern),
          HumanBytes(Of(certificate.bytes, LinkClass::kSameDevice)),
          HumanBytes(Of(certificate.bytes, LinkClass::kSameNode)),
          HumanBytes(Of(certificate.bytes, LinkClass::kBetweenNodes)),
          HumanBytes(certificate.max_link_bytes),
          absl::StrFormat("%.3f", certificate.bound_ratio),
          Seconds(result.simulated.seconds),
          absl::StrFormat("%.3f", evaluation.TimeRatio(result)),
          HumanCount(certificate.num_transfers),
          absl::StrCat(certificate.rounds),
          HumanBytes(certificate.peak_staging_bytes)};
}

Json PatternJson(const Evaluation& evaluation, const PatternResult& result) {
  Json out = {{"pattern", PatternName(result.pattern)}};
  if (!result.status.ok()) {
    out["refused"] = std::string(result.status.message());
    return out;
  }
  const Certificate& certificate = result.plan.certificate;
  out["bytes"] = {
      {"same_device", Of(certificate.bytes, LinkClass::kSameDevice)},
      {"same_node", Of(certificate.bytes, LinkClass::kSameNode)},
      {"between_nodes", Of(certificate.bytes, LinkClass::kBetweenNodes)}};
  out["max_link_bytes"] = certificate.max_link_bytes;
  out["byte_ratio"] = certificate.bound_ratio;
  out["seconds"] = result.simulated.seconds;
  out["time_ratio"] = evaluation.TimeRatio(result);
  out["transfers"] = certificate.num_transfers;
  out["rounds"] = certificate.rounds;
  out["peak_staging_bytes"] = certificate.peak_staging_bytes;
  out["busiest_links"] = Json::array();
  for (const LinkUse& use : result.simulated.busiest) {
    out["busiest_links"].push_back(
        {{"link", use.name}, {"bytes", use.bytes}, {"seconds", use.seconds}});
  }
  return out;
}

}  // namespace

std::string EvaluationText(const ReportHead& head, const Evaluation& evaluation,
                           const Topology& topology, const LinkTable& links) {
  std::string text = absl::StrCat(
      head.title, "\n", topology.num_ranks(), " ranks on ", NumNodes(topology),
      " nodes, links ", links.name, "\n", "every plan  at least ",
      HumanBytes(evaluation.lower_bound_bytes),
      " over its most loaded link and ", Seconds(evaluation.bound.seconds));
  if (!evaluation.bound.limit.empty()) {
    absl::StrAppend(&text, " (", evaluation.bound.limit, ")");
  }
  absl::StrAppend(&text, "\n", PlanNotesText(head.casts, head.warnings), "\n");
  using console::Align;
  console::Table table({{"pattern"},
                        {"in devices", Align::kRight},
                        {"in nodes", Align::kRight},
                        {"between nodes", Align::kRight},
                        {"most loaded link", Align::kRight},
                        {"/ bound", Align::kRight},
                        {"simulated", Align::kRight},
                        {"/ bound", Align::kRight},
                        {"transfers", Align::kRight},
                        {"rounds", Align::kRight},
                        {"peak staging", Align::kRight}});
  std::string refused;
  for (const PatternResult& result : evaluation.patterns) {
    if (result.status.ok()) {
      table.Add(Row(evaluation, result));
    } else {
      absl::StrAppend(&refused, PatternName(result.pattern),
                      " cannot: ", std::string(result.status.message()), "\n");
    }
  }
  absl::StrAppend(&text, table.Print(), refused, "\n");
  console::Table busiest({{"busiest links of DIRECT"},
                          {"bytes", Align::kRight},
                          {"at full rate", Align::kRight}});
  const auto& links_used = evaluation.patterns[0].simulated.busiest;
  for (size_t i = 0; i < std::min<size_t>(links_used.size(), 4); ++i) {
    busiest.Add({links_used[i].name, HumanBytes(links_used[i].bytes),
                 Seconds(links_used[i].seconds)});
  }
  return busiest.empty() ? text : text + busiest.Print();
}

Json EvaluationJson(const ReportHead& head, const Evaluation& evaluation,
                    const Topology& topology, const LinkTable& links) {
  Json patterns = Json::array();
  for (const PatternResult& result : evaluation.patterns) {
    patterns.push_back(PatternJson(evaluation, result));
  }
  Json converted = Json::array();
  for (const Cast& cast : head.casts) {
    converted.push_back({{"placement", cast.placement},
                         {"from", std::string(DTypeName(cast.from))},
                         {"to", std::string(DTypeName(cast.to))},
                         {"wire", std::string(DTypeName(cast.wire))},
                         {"tensors", cast.num_tensors}});
  }
  return {{"title", head.title},
          {"casts", std::move(converted)},
          {"warnings", head.warnings},
          {"ranks", topology.num_ranks()},
          {"nodes", NumNodes(topology)},
          {"links", links.name},
          {"lower_bound_bytes", evaluation.lower_bound_bytes},
          {"bound_seconds", evaluation.bound.seconds},
          {"bound_limit", evaluation.bound.limit},
          {"patterns", std::move(patterns)}};
}

}  // namespace sluice::ctl
