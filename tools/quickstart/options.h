#ifndef SLUICE_TOOLS_QUICKSTART_OPTIONS_H_
#define SLUICE_TOOLS_QUICKSTART_OPTIONS_H_

// What the quickstart is asked to do.

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"

namespace sluice::quickstart {

struct Options {
  // A Hugging Face style directory; empty: one is generated and kept.
  std::string checkpoint;
  int64_t layers = 8;  // of the generated one
  uint64_t seed = 1;   // of the generated one and of the samples
  int nodes = 2;
  int agents_per_node = 4;
  // Axes; empty: chosen for the number of agents.
  std::string trainer_mesh, rollout_mesh;
  int64_t samples = 512;
  // Whose memory agents serve: "host"; "cuda", GPUs dealt to agents in turn;
  // "cuda:N", all the same GPU.
  std::string device = "host";
  // Everything the quickstart writes is below it. Empty: DefaultStateDir().
  std::string state_dir;
  std::string json_file;  // empty: none
  bool keep = false;
  bool quiet = false;
  // Programs; empty: found beside this one.
  std::string coordinator_binary, agent_binary, worker_binary;

  int num_agents() const { return nodes * agents_per_node; }
  bool on_gpus() const { return device != "host"; }
  // Of an agent, of `gpus` that there are; nullopt for the host's memory. After
  // Complete().
  std::optional<int> GpuOf(int agent, int gpus) const;

  // Fills in what was left open: meshes, the state directory.
  // Errors: INVALID_ARGUMENT - names the option, what was expected and found:
  // numbers out of range, an unknown device, a mesh of another kind than
  // trainer (pipe, data, tensor) or rollout (data, tensor), or larger than
  // there are agents.
  absl::Status Complete();
};

// ${XDG_CACHE_HOME:-~/.cache}/sluice/quickstart.
std::string DefaultStateDir();

}  // namespace sluice::quickstart

#endif  // SLUICE_TOOLS_QUICKSTART_OPTIONS_H_
