#ifndef SLUICE_AGENT_COLLECTIVE_OTHERS_VIEW_H_
#define SLUICE_AGENT_COLLECTIVE_OTHERS_VIEW_H_

// How far the other members of a group are, whether they are on this node
// (their boards) or on others (their messages).

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "agent/collective/call_header.h"
#include "agent/collective/collective.h"
#include "agent/collective/net_side.h"
#include "agent/collective/node_side.h"
#include "agent/collective/stall_watch.h"

namespace sluice::agent {

// Of the group's thread. All members of the node have been met, except for
// NotMet, Failure, Gone and NodeIsQuiet.
class OthersView {
 public:
  // Both outlive it; `net` is null without members on other nodes.
  OthersView(const CollectiveMembers& members, const NodeSide& node,
             const NetSide* net)
      : members_(members), node_(node), net_(net) {}

  std::vector<int> NotMet() const;

  // Why one of them ended; OK while none has.
  absl::Status Failure() const;
  // UNAVAILABLE where a process of this node has ended (named).
  absl::Status Gone() const;

  // Those whose header of call `ordinal` is not here yet; all headers, by
  // member, this one's included, when there are none.
  std::vector<int> WithoutHeader(uint64_t ordinal) const;
  std::vector<CallHeaderView> Headers() const;

  // Those who have not done their part of the call.
  std::vector<int> NotFinished(uint64_t ordinal) const;
  // Whether all have; who has left since knew that.
  bool EverybodyFinished(uint64_t ordinal) const;

  // Changes when anything moves here or on this node, or a message of control
  // comes.
  uint64_t Moved() const;
  // How often each has told that it waits.
  StallWatch::Told Told() const;

  // Whether nobody of this node may read memory of this member.
  bool NodeIsQuiet() const;

 private:
  const CollectiveMembers& members_;
  const NodeSide& node_;
  const NetSide* const net_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_COLLECTIVE_OTHERS_VIEW_H_
