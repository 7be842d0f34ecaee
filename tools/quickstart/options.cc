#include "tools/quickstart/options.h"

#include <cstdlib>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "common/mesh.h"
#include "common/status_macros.h"

namespace sluice::quickstart {
namespace {

constexpr int kMaxAgents = 256;
constexpr int64_t kMaxSamples = 65536;  // what the catalogue takes at once

constexpr int kMaxGpu = 1023;

// N of "cuda:N"; nullopt for anything else.
std::optional<int> NumberedGpu(absl::string_view device) {
  int number = 0;
  if (!absl::ConsumePrefix(&device, "cuda:") || device.empty() ||
      device.find_first_not_of("0123456789") != absl::string_view::npos ||
      !absl::SimpleAtoi(device, &number) || number > kMaxGpu) {
    return std::nullopt;
  }
  return number;
}

// Two of everything where it divides: eight agents are 2 x 2 x 2.
std::string DefaultTrainer(int agents) {
  const int tensor = agents % 2 == 0 ? 2 : 1;
  const int data = agents / tensor % 2 == 0 ? 2 : 1;
  return absl::StrCat("pipe=", agents / tensor / data, ",data=", data,
                      ",tensor=", tensor);
}

// Checks the axes, and adds those the layout knows and the mesh lacks.
absl::Status CompleteMesh(const char* option, std::string& text,
                          const std::vector<absl::string_view>& known,
                          int agents) {
  const auto axes = ParseAxes(text);
  if (!axes.ok()) return Annotate(axes.status(), option);
  int64_t size = 1;
  std::vector<absl::string_view> missing = known;
  for (const MeshAxis& axis : *axes) {
    if (!absl::c_linear_search(known, absl::string_view(axis.name))) {
      return absl::InvalidArgumentError(
          absl::StrCat(option, ": unknown axis \"", axis.name, "\", expected ",
                       absl::StrJoin(known, ", ")));
    }
    if (axis.size > agents || size * axis.size > agents) {
      return absl::InvalidArgumentError(
          absl::StrCat(option, ": mesh ", text, " needs more than the ", agents,
                       " agents there are"));
    }
    size *= axis.size;
    missing.erase(absl::c_find(missing, absl::string_view(axis.name)));
  }
  for (const absl::string_view axis : missing) {
    text = absl::StrCat(axis, "=1,", text);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Options::Complete() {
  if (nodes < 1 || agents_per_node < 1 || nodes > kMaxAgents ||
      agents_per_node > kMaxAgents || num_agents() > kMaxAgents) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--nodes ", nodes, " --agents-per-node ", agents_per_node,
        ": expected at least 1 each and at most ", kMaxAgents, " agents"));
  }
  if (samples < 1 || samples > kMaxSamples) {
    return absl::InvalidArgumentError(
        absl::StrCat("--samples ", samples, ": expected 1 to ", kMaxSamples));
  }
  if (device != "host" && device != "cuda" &&
      !NumberedGpu(device).has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--device ", device, ": expected \"host\", \"cuda\" or \"cuda:N\""));
  }
  if (layers < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("--layers ", layers, ": expected at least 1"));
  }
  if (trainer_mesh.empty()) trainer_mesh = DefaultTrainer(num_agents());
  if (rollout_mesh.empty()) {
    rollout_mesh = absl::StrCat("data=", nodes, ",tensor=", agents_per_node);
  }
  SLUICE_RETURN_IF_ERROR(CompleteMesh(
      "--trainer", trainer_mesh, {"pipe", "data", "tensor"}, num_agents()));
  SLUICE_RETURN_IF_ERROR(CompleteMesh("--rollout", rollout_mesh,
                                      {"data", "tensor"}, num_agents()));
  if (state_dir.empty()) state_dir = DefaultStateDir();
  return absl::OkStatus();
}

std::optional<int> Options::GpuOf(int agent, int gpus) const {
  if (!on_gpus()) return std::nullopt;
  return NumberedGpu(device).value_or(agent % gpus);
}

std::string DefaultStateDir() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const std::string base =
      cache != nullptr && *cache != '\0'
          ? cache
          : absl::StrCat(home != nullptr ? home : "/tmp", "/.cache");
  return absl::StrCat(base, "/sluice/quickstart");
}

}  // namespace sluice::quickstart
