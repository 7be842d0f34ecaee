#include "tools/registration/registration.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/convert_layout.h"
#include "common/layout_json.h"
#include "common/status_macros.h"
#include "presets/layout_presets.h"

namespace sluice::registration {
namespace {

// The axes of a mesh that a layout names; regroups make further ones of these.
std::set<std::string> AxesOf(const Layout& layout) {
  std::set<std::string> axes(layout.replica_axes.begin(),
                             layout.replica_axes.end());
  const auto add = [&axes](const std::vector<std::string>& more) {
    axes.insert(more.begin(), more.end());
  };
  if (!layout.stage_axis.empty()) axes.insert(layout.stage_axis);
  for (const LayoutRule& rule : layout.rules) {
    for (const DimSplit& split : rule.splits) add(split.axes);
    add(rule.experts.axes);
    add(rule.flat.axes);
  }
  for (const AxisRegroup& regroup : layout.regroups) add(regroup.axes);
  for (const AxisRegroup& regroup : layout.regroups) {
    for (const MeshAxis& made : regroup.into) axes.erase(made.name);
  }
  return axes;
}

}  // namespace

absl::StatusOr<std::map<std::string, int64_t>> ParseVariables(
    absl::string_view text) {
  std::map<std::string, int64_t> variables;
  for (const absl::string_view item :
       absl::StrSplit(text, ',', absl::SkipEmpty())) {
    const std::vector<std::string> parts = absl::StrSplit(item, '=');
    int64_t value = 0;
    if (parts.size() != 2 || parts[0].empty() ||
        !absl::SimpleAtoi(parts[1], &value)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "variables: expected NAME=NUMBER,..., found \"", item, "\""));
    }
    variables[parts[0]] = value;
  }
  return variables;
}

absl::StatusOr<Layout> FindLayout(
    const std::string& name, const ModelSpec& model,
    const std::map<std::string, int64_t>& variables) {
  if (!absl::StrContains(name, '/') && !absl::EndsWith(name, ".json")) {
    SLUICE_ASSIGN_OR_RETURN(const absl::string_view text,
                            FindLayoutPreset(name));
    return ResolvePreset(text, variables);
  }
  std::ifstream file(name, std::ios::binary);
  if (!file) {
    return absl::NotFoundError(absl::StrCat("cannot read layout ", name));
  }
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  // A layout may name the model's tensors, a preset has variables.
  absl::StatusOr<Layout> layout = absl::StrContains(text, "\"$")
                                      ? ResolvePreset(text, variables)
                                      : ParseLayout(text, &model);
  if (!layout.ok()) return Annotate(layout.status(), name);
  return layout;
}

absl::StatusOr<std::string> CompleteAxes(const Layout& layout,
                                         absl::string_view axes) {
  SLUICE_ASSIGN_OR_RETURN(const std::vector<MeshAxis> given, ParseAxes(axes));
  if (!layout.explicit_ranks.empty()) return std::string(axes);
  std::set<std::string> named = AxesOf(layout);
  for (const MeshAxis& axis : given) {
    if (named.erase(axis.name) == 1) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "mesh ", axes, ": axis \"", axis.name, "\" is unknown to layout \"",
        layout.name, "\"; it knows ", absl::StrJoin(AxesOf(layout), ", ")));
  }
  std::string complete(axes);
  for (const std::string& axis : named) {
    complete = absl::StrCat(axis, "=1,", complete);
  }
  return complete;
}

absl::StatusOr<v1::Mesh> MakeMesh(absl::string_view axes,
                                  const std::vector<std::string>& agents) {
  NamedMesh mesh;
  SLUICE_ASSIGN_OR_RETURN(mesh.axes, ParseAxes(axes));
  int64_t size = 1;
  for (const MeshAxis& axis : mesh.axes) {
    const auto most = static_cast<int64_t>(agents.size());
    if (axis.size > most || size * axis.size > most) {
      return absl::FailedPreconditionError(
          absl::StrCat("mesh ", axes,
                       " has more positions than there are "
                       "agents: ",
                       agents.size()));
    }
    size *= axis.size;
  }
  mesh.agents.assign(agents.begin(), agents.begin() + size);
  return ToProto(mesh);
}

std::vector<std::string> UsableAgents(const v1::GetStatusResponse& status) {
  std::vector<std::pair<int32_t, std::string>> agents;
  for (const v1::AgentStatus& agent : status.agents()) {
    if (agent.state() == v1::AGENT_STATE_ALIVE ||
        agent.state() == v1::AGENT_STATE_JOINING) {
      agents.emplace_back(agent.rank(), agent.name());
    }
  }
  std::sort(agents.begin(), agents.end());
  std::vector<std::string> names;
  for (auto& [rank, name] : agents) names.push_back(std::move(name));
  return names;
}

v1::RegisterPlacementRequest PlacementRequest(const std::string& model,
                                              const std::string& placement,
                                              v1::Mesh mesh,
                                              const Layout& layout,
                                              v1::Storage storage) {
  v1::RegisterPlacementRequest request;
  request.set_model(model);
  request.set_placement(placement);
  *request.mutable_mesh() = std::move(mesh);
  *request.mutable_layout() = ToProto(layout);
  request.set_storage(storage);
  return request;
}

}  // namespace sluice::registration
