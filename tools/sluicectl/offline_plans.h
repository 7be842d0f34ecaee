#ifndef SLUICE_TOOLS_SLUICECTL_OFFLINE_PLANS_H_
#define SLUICE_TOOLS_SLUICECTL_OFFLINE_PLANS_H_

// Plans of movements of which only a description exists: no cluster is asked.

#include <string>

#include "absl/status/status.h"
#include "coordinator/planner/simulation/simulator.h"
#include "tools/sluicectl/context.h"
#include "tools/sluicectl/offline_inputs.h"

namespace sluice::ctl {

// What is planned beside DIRECT, on which links, and what is written.
struct OfflineOutput {
  std::string links = "h100_infiniband";
  std::string nodes;
  bool compare = false;
  std::string pattern = "direct";  // the one that is drawn; any case
  std::string dot, svg, trace;     // files
  coordinator::simulation::SimulationOptions simulation;
};

struct OfflineBatchOptions {
  OfflineBatch asked;
  OfflineOutput output;

  // Whether a batch is described at all.
  bool given() const { return !asked.file.empty() || asked.samples != 0; }
};

// All options but --pattern.
void DefineOfflineBatch(CLI::App& command, OfflineBatchOptions& options);
absl::Status PlanBatchOffline(Context& context,
                              const OfflineBatchOptions& options);

// plan reshard.
void AddOfflineCommands(CLI::App& app, Action& chosen);
// topology show, factors, answer.
void AddTopologyCommands(CLI::App& app, Action& chosen);

}  // namespace sluice::ctl

#endif  // SLUICE_TOOLS_SLUICECTL_OFFLINE_PLANS_H_
