#include "coordinator/core/status_view.h"

#include <map>
#include <utility>

#include "coordinator/core/reduce_group_view.h"

namespace sluice::coordinator {
namespace {

constexpr int32_t kDefaultEvents = 20;

// Why what an agent holds does not count now; empty if it does.
std::string ExceptionOf(const AgentRegistry& agents, Rank rank) {
  const Agent* agent = agents.Get(rank);
  if (agent == nullptr || agent->lost) return "lost";
  if (agent->incarnation == Incarnation()) return "awaited";
  if (!agent->inventoried) return "joining";
  return "";
}

std::vector<PlacementStatus> DescribePlacements(const StatusSources& sources,
                                                const Model& model) {
  std::vector<PlacementStatus> placements;
  for (const auto& [name, placement] : model.placements) {
    placements.push_back(DescribePlacement(placement, [&](Rank rank) {
      return ExceptionOf(sources.agents, rank);
    }));
  }
  return placements;
}

AgentStatus DescribeAgent(const Agent& agent, const Catalog& catalog,
                          int64_t parameter_bytes) {
  AgentStatus status;
  status.name = agent.name;
  status.rank = agent.rank;
  status.node = agent.node;
  status.device = agent.device;
  status.device_description = agent.device_description;
  status.state = agent.State();
  status.incarnation = agent.incarnation;
  status.address = agent.address;
  status.socket_path = agent.socket_path;
  status.last_beat = agent.last_beat;
  status.parameter_bytes = parameter_bytes;
  status.sample_bytes = catalog.BytesOf(agent.rank);
  status.memory_bytes = agent.memory_bytes;
  status.workers = agent.workers;
  status.pid = agent.pid;
  status.nccl_version = agent.nccl_version;
  status.nccl = agent.nccl;
  return status;
}

}  // namespace

GetModelReply DescribeModel(const StatusSources& sources, const Model& model) {
  return GetModelReply{*model.spec, model.last_version,
                       DescribePlacements(sources, model)};
}

StatusSnapshot MakeStatus(const StatusSources& sources, int32_t max_events) {
  StatusSnapshot status;
  status.cluster_id = sources.context.cluster_id;
  status.epoch = sources.context.epoch;
  status.recovering = sources.agents.recovering();
  status.awaited = sources.agents.AwaitedNames();
  status.started = sources.context.started;
  std::map<Rank, int64_t> parameter_bytes;
  for (const auto& [name, model] : sources.models.models()) {
    ModelStatus one;
    one.model = name;
    one.version = model.last_version;
    one.tensors = static_cast<int64_t>(model.spec->tensors.size());
    one.bytes = model.spec->num_bytes();
    one.placements = DescribePlacements(sources, model);
    status.models.push_back(std::move(one));
    for (const auto& [placement_name, placement] : model.placements) {
      for (const PlacementMember& member : placement.members) {
        parameter_bytes[member.rank] += member.bytes;
      }
    }
  }
  for (const std::unique_ptr<Agent>& agent : sources.agents.agents()) {
    if (agent == nullptr) continue;
    status.agents.push_back(
        DescribeAgent(*agent, sources.catalog, parameter_bytes[agent->rank]));
  }
  status.operations = sources.operations.Describe();
  status.total_bytes = sources.operations.total_bytes();
  status.total_seconds = sources.operations.total_seconds();
  status.samples = sources.catalog.num_samples();
  status.sample_tensors = sources.catalog.num_tensors();
  status.events =
      sources.log.Recent(max_events <= 0 ? kDefaultEvents : max_events);
  status.reduce_groups = DescribeReduceGroups(sources.agents);
  return status;
}

}  // namespace sluice::coordinator
