#include "tools/sluicectl/offline_drawing.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/format.h"
#include "common/ids.h"

namespace sluice::ctl {
namespace {

using coordinator::Topology;
using coordinator::simulation::SimulationResult;
using coordinator::simulation::TransferTimes;
using Json = nlohmann::json;

size_t At(int32_t index) { return static_cast<size_t>(index); }

// What is drawn as one thing: a rank, a node, a run of nodes.
struct Drawn {
  std::vector<int32_t> group_of_rank;
  std::vector<std::string> names;
  std::map<std::pair<int32_t, int32_t>, int64_t> bytes;  // (from, to)
  int64_t most = 1;
};

Drawn GroupRanks(const Topology& topology) {
  Drawn out;
  const int32_t ranks = topology.num_ranks();
  if (ranks <= kMaxDrawn) {
    for (int32_t r = 0; r < ranks; ++r) {
      out.group_of_rank.push_back(r);
      out.names.push_back(absl::StrCat("rank ", r));
    }
    return out;
  }
  std::set<int32_t> nodes(topology.node_of_rank.begin(),
                          topology.node_of_rank.end());
  nodes.erase(-1);
  const std::vector<int32_t> list(nodes.begin(), nodes.end());
  const size_t width = (list.size() + kMaxDrawn - 1) / kMaxDrawn;
  std::map<int32_t, int32_t> group_of_node;
  for (size_t i = 0; i < list.size(); i += width) {
    const size_t last = std::min(i + width, list.size()) - 1;
    for (size_t n = i; n <= last; ++n) {
      group_of_node[list[n]] = static_cast<int32_t>(out.names.size());
    }
    out.names.push_back(width == 1
                            ? absl::StrCat("node ", list[i])
                            : absl::StrCat("nodes ", list[i], "-", list[last]));
  }
  for (const int32_t node : topology.node_of_rank) {
    out.group_of_rank.push_back(node < 0 ? 0 : group_of_node[node]);
  }
  return out;
}

Drawn Group(const TransferPlan& plan, const Topology& topology) {
  Drawn out = GroupRanks(topology);
  for (const Transfer& transfer : plan.transfers) {
    if (transfer.link == LinkClass::kSameDevice) continue;
    int64_t& bytes =
        out.bytes[{out.group_of_rank[At(transfer.source.value())],
                   out.group_of_rank[At(transfer.destination.value())]}];
    bytes += transfer.bytes;
    out.most = std::max(out.most, bytes);
  }
  return out;
}

double Share(const Drawn& drawn, int64_t bytes) {
  return static_cast<double>(bytes) / static_cast<double>(drawn.most);
}

constexpr int kCell = 12;
constexpr int kMargin = 96;

std::string SvgLabels(const Drawn& drawn) {
  std::string out;
  for (size_t i = 0; i < drawn.names.size(); ++i) {
    const int middle = kMargin + static_cast<int>(i) * kCell + kCell / 2;
    absl::StrAppend(&out, "<text x=\"", kMargin - 4, "\" y=\"", middle + 3,
                    "\" text-anchor=\"end\">", drawn.names[i], "</text>\n",
                    "<text transform=\"translate(", middle + 3, ",",
                    kMargin - 4, ") rotate(-90)\">", drawn.names[i],
                    "</text>\n");
  }
  return out;
}

// The track of each transfer at its receiver: the first that is free.
std::vector<int32_t> Tracks(const TransferPlan& plan,
                            const SimulationResult& times,
                            const std::vector<uint32_t>& order,
                            int32_t num_ranks) {
  std::vector<int32_t> tracks(plan.transfers.size());
  std::vector<std::vector<double>> free_at(At(num_ranks));
  for (const uint32_t id : order) {
    std::vector<double>& ends =
        free_at[At(plan.transfers[id].destination.value())];
    const TransferTimes& span = times.transfers[id];
    size_t track = 0;
    while (track < ends.size() && ends[track] > span.start) ++track;
    if (track == ends.size()) ends.push_back(0);
    ends[track] = span.end;
    tracks[id] = static_cast<int32_t>(track);
  }
  return tracks;
}

}  // namespace

std::string DrawDot(const TransferPlan& plan, const Topology& topology) {
  const Drawn drawn = Group(plan, topology);
  std::string out =
      "digraph plan {\n  rankdir=LR;\n  node [shape=box, fontsize=10];\n"
      "  edge [fontsize=8];\n";
  std::set<int32_t> used;
  for (const auto& [ends, bytes] : drawn.bytes) {
    used.insert(ends.first);
    used.insert(ends.second);
  }
  for (const int32_t group : used) {
    absl::StrAppend(&out, "  n", group, " [label=\"", drawn.names[At(group)],
                    "\"];\n");
  }
  for (const auto& [ends, bytes] : drawn.bytes) {
    absl::StrAppend(&out, "  n", ends.first, " -> n", ends.second, " [label=\"",
                    HumanBytes(bytes), "\", penwidth=",
                    absl::StrFormat("%.2f", 0.5 + 3 * Share(drawn, bytes)),
                    "];\n");
  }
  return out + "}\n";
}

std::string DrawSvg(const TransferPlan& plan, const Topology& topology) {
  const Drawn drawn = Group(plan, topology);
  const int size = kMargin + static_cast<int>(drawn.names.size()) * kCell + 8;
  std::string out =
      absl::StrCat("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"", size,
                   "\" height=\"", size + 20, "\" font-family=\"sans-serif\" ",
                   "font-size=\"9\">\n<text x=\"4\" y=\"", size + 12,
                   "\">bytes from each row to each column; darkest: ",
                   HumanBytes(drawn.most), "</text>\n", SvgLabels(drawn));
  absl::StrAppend(&out, "<rect x=\"", kMargin, "\" y=\"", kMargin,
                  "\" width=\"", size - kMargin - 8, "\" height=\"",
                  size - kMargin - 8,
                  "\" fill=\"#f4f6f8\" stroke=\"#889\"/>\n");
  for (const auto& [ends, bytes] : drawn.bytes) {
    absl::StrAppend(&out, "<rect x=\"", kMargin + ends.second * kCell,
                    "\" y=\"", kMargin + ends.first * kCell, "\" width=\"",
                    kCell, "\" height=\"", kCell,
                    "\" fill=\"#0b4f8a\" fill-opacity=\"",
                    absl::StrFormat("%.3f", 0.08 + 0.92 * Share(drawn, bytes)),
                    "\"><title>", drawn.names[At(ends.first)], " to ",
                    drawn.names[At(ends.second)], ": ", HumanBytes(bytes),
                    "</title></rect>\n");
  }
  return out + "</svg>\n";
}

std::string DrawTrace(const TransferPlan& plan, const SimulationResult& times,
                      const Topology& topology) {
  std::vector<uint32_t> order(plan.transfers.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return times.transfers[a].start < times.transfers[b].start;
  });
  const std::vector<int32_t> tracks =
      Tracks(plan, times, order, topology.num_ranks());
  constexpr const char* kLinks[] = {"same device", "same node",
                                    "between nodes"};
  Json events = Json::array();
  for (int32_t r = 0; r < topology.num_ranks(); ++r) {
    events.push_back(
        {{"ph", "M"},
         {"name", "process_name"},
         {"pid", r},
         {"args",
          {{"name", absl::StrCat("rank ", r, " (node ",
                                 topology.node_of_rank[At(r)], ")")}}}});
  }
  for (const uint32_t id : order) {
    const Transfer& transfer = plan.transfers[id];
    const TransferTimes& span = times.transfers[id];
    events.push_back({{"ph", "X"},
                      {"name", absl::StrCat("from ", transfer.source.value())},
                      {"cat", kLinks[static_cast<size_t>(transfer.link)]},
                      {"pid", transfer.destination.value()},
                      {"tid", tracks[id]},
                      {"ts", span.start * 1e6},
                      {"dur", (span.end - span.start) * 1e6},
                      {"args",
                       {{"transfer", id},
                        {"round", transfer.round},
                        {"bytes", transfer.bytes}}}});
  }
  return Json{{"displayTimeUnit", "ms"}, {"traceEvents", std::move(events)}}
      .dump();
}

}  // namespace sluice::ctl
