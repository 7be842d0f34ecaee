#ifndef SLUICE_AGENT_COLLECTIVE_CALL_PLAN_H_
#define SLUICE_AGENT_COLLECTIVE_CALL_PLAN_H_

// Who moves what in a collective, as one member has it: a pure function of the
// call and of the members' nodes, so that the two ends of each piece agree.
//
// Inside a node, whoever needs bytes reads them where they are. Between nodes:
// * broadcast goes down a chain of nodes, one member each, piece by piece;
// * all-gather crosses once per input and node, to a member that the others of
//   its node follow; which one it is changes from input to input;
// * reduce-scatter crosses as one sum per piece and node, made by a member of
//   that node;
// * the others go straight to their place.
//
// Two members have at most one stream each way.

#include <vector>

#include "agent/collective/collective.h"

namespace sluice::agent {

struct CallPlan {
  // Read a range of a member of this node (or our own) into outputs[output].
  struct Pull {
    int from = 0;
    bool from_output = false;  // as far as `from` has received it
    int index = 0;             // of its inputs or outputs
    int output = 0;
  };
  // Receive outputs[output] from another node.
  struct Receive {
    int from = 0;
    int output = 0;
    bool relayed = false;  // members of this node follow it
  };
  // Send a range to another node.
  struct Send {
    int to = 0;
    bool from_output = false;  // as far as it was received
    int index = 0;
  };
  // Send the sum of inputs[to] of this node's members.
  struct SendSum {
    int to = 0;
  };
  // One summand of our output, in order: either inputs[self] of members of
  // this node, or what another node's member sends.
  struct Summand {
    std::vector<int> members;
    int from = -1;
  };

  std::vector<Pull> pulls;
  std::vector<Receive> receives;
  std::vector<Send> sends;
  std::vector<SendSum> sums;
  std::vector<Summand> summands;
};

// Numbers the members' nodes: equal where Peer::node is.
std::vector<int> NumberNodes(const CollectiveMembers& members);

// The other members on the node of `self` (not on it), in order.
std::vector<int> OtherMembers(const std::vector<int>& nodes, int self,
                              bool near);

// `nodes[m]` is the number of the node of member m; any numbers.
CallPlan MakeCallPlan(CollectiveKind kind, int root,
                      const std::vector<int>& nodes, int self);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_COLLECTIVE_CALL_PLAN_H_
