#include "coordinator/core/reduce_group_view.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace sluice::coordinator {
namespace {

using Key = std::pair<std::string, std::vector<std::string>>;

std::vector<std::string> MemberNames(const AgentRegistry& agents,
                                     const ReduceGroupReport& report) {
  std::vector<std::string> names = report.agents;
  for (const Rank rank : report.ranks) {
    const Agent* agent = agents.Get(rank);
    names.push_back(agent == nullptr ? absl::StrCat("rank ", rank.value())
                                     : agent->name);
  }
  return names;
}

bool HasJoined(const ReduceGroupMember& member) {
  return member.state != ReduceGroupState::kUnspecified &&
         member.state != ReduceGroupState::kEnded;
}

// Takes over what one member's agent reports; a later report replaces it.
void Note(const Agent& agent, const ReduceGroupReport& report,
          ReduceGroupStatus& group) {
  group.average = report.average;
  for (ReduceGroupMember& member : group.members) {
    if (member.agent != agent.name) continue;
    member = {agent.name,
              report.state,
              report.requests_waiting,
              report.collectives_sent,
              report.collectives_done,
              report.bytes_reduced,
              report.bucket_bytes,
              report.error};
  }
}

std::vector<std::string> WaitsFor(const ReduceGroupStatus& group) {
  std::vector<std::string> missing, behind;
  int64_t most_sent = 0;
  for (const ReduceGroupMember& member : group.members) {
    if (!HasJoined(member)) missing.push_back(member.agent);
    most_sent = std::max(most_sent, member.collectives_sent);
  }
  // Over on all: nobody waits.
  if (missing.size() == group.members.size()) return {};
  if (!missing.empty()) return missing;
  for (const ReduceGroupMember& member : group.members) {
    if (member.collectives_sent < most_sent) behind.push_back(member.agent);
  }
  return behind;
}

}  // namespace

std::vector<ReduceGroupStatus> DescribeReduceGroups(
    const AgentRegistry& agents) {
  std::map<Key, ReduceGroupStatus> groups;
  for (const std::unique_ptr<Agent>& agent : agents.agents()) {
    if (agent == nullptr || agent->lost) continue;
    for (const ReduceGroupReport& report : agent->reduce_groups) {
      const Key key = {report.name, MemberNames(agents, report)};
      const auto [it, created] = groups.try_emplace(key);
      ReduceGroupStatus& group = it->second;
      if (created) {
        group.name = report.name;
        for (const std::string& name : key.second) {
          group.members.emplace_back().agent = name;
        }
      }
      Note(*agent, report, group);
    }
  }
  std::vector<ReduceGroupStatus> out;
  for (auto& [key, group] : groups) {
    group.waits_for = WaitsFor(group);
    out.push_back(std::move(group));
  }
  return out;
}

}  // namespace sluice::coordinator
