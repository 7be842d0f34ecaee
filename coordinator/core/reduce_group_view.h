#ifndef SLUICE_COORDINATOR_CORE_REDUCE_GROUP_VIEW_H_
#define SLUICE_COORDINATOR_CORE_REDUCE_GROUP_VIEW_H_

// The reduce groups of the cluster, put together from what each member's agent
// reported with its last beat. Reads only.

#include <vector>

#include "coordinator/core/agent_registry.h"
#include "coordinator/core/operation_types.h"

namespace sluice::coordinator {

// Returns the groups by name. Members that name one group and list different
// members are in different groups.
std::vector<ReduceGroupStatus> DescribeReduceGroups(
    const AgentRegistry& agents);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_REDUCE_GROUP_VIEW_H_
