#ifndef SLUICE_AGENT_COLLECTIVE_CALL_RUN_H_
#define SLUICE_AGENT_COLLECTIVE_CALL_RUN_H_

// One member's part of one call, once all headers agree: its copies, sums and
// messages, in steps that the group's thread takes between looking around.

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/collective/call_header.h"
#include "agent/collective/call_plan.h"
#include "agent/collective/collective.h"
#include "agent/collective/net_side.h"
#include "agent/collective/node_side.h"
#include "agent/collective/reduce_kernels.h"
#include "agent/copy/copy_crew.h"

namespace sluice::agent {

class CallRun {
 public:
  // All are borrowed. `net` may be null where no member is on another node.
  struct Context {
    const CollectiveMembers& members;
    const std::vector<int>& nodes;  // by member
    NodeSide& node;
    NetSide* net = nullptr;
  };

  CallRun(Context context, const CollectiveCall& call,
          const std::vector<CallHeaderView>& headers);
  ~CallRun();
  CallRun(const CallRun&) = delete;
  CallRun& operator=(const CallRun&) = delete;

  // Maps what is read. Errors: as NodeSide::Map; INVALID_ARGUMENT - a member
  // shows a range outside its memory.
  absl::Status Prepare(absl::Duration timeout);
  // Does what can be done now, about a piece's worth; false if nothing can.
  bool Step();
  bool Finished() const;
  // Returns when nothing of this call is copied any more.
  void Stop();
  // Members whose bytes are missing.
  std::vector<int> WaitingFor() const;

 private:
  struct Messages;
  struct Pull;
  struct Incoming;
  struct Outgoing;
  struct Sum;

  absl::Status PreparePulls(const CallPlan& plan, absl::Duration timeout);
  // Lets other threads copy what lies ready, where that pays.
  void ShareCopies();
  absl::Status PrepareSums(const CallPlan& plan, absl::Duration timeout);
  void PrepareMessages(const CallPlan& plan);
  // Address of a range of a member of this node.
  absl::StatusOr<const std::byte*> Locate(int member, bool output, int index,
                                          int64_t bytes,
                                          absl::Duration timeout);
  int64_t ElementsOf(int member, bool output, int index) const;
  std::byte* Output(int index) const;
  Incoming* FindIncoming(int output);

  bool PumpIncoming(Incoming& in);
  bool PumpOutgoing(Outgoing& out);
  bool StepPull(Pull& pull);
  bool StepSum(Sum& sum);
  bool StepOwnSum();

  const Context c_;
  const CollectiveCall& call_;
  const std::vector<CallHeaderView>& headers_;
  const int self_;
  const int64_t element_bytes_;
  bool streaming_ = false;

  // Memories in use, mappings of members'.
  std::vector<std::shared_ptr<MappedMemory>> held_;
  std::vector<Pull> pulls_;
  std::unique_ptr<CopyCrew> crew_;
  // The transport's callbacks hold what they write to.
  std::vector<std::unique_ptr<Incoming>> incoming_;
  std::vector<std::unique_ptr<Outgoing>> outgoing_;
  std::vector<Sum> sums_;
  // Our output of a reduce-scatter: its summands, in order, and how many
  // elements are there.
  struct OwnSummand {
    std::vector<ReduceInput> inputs;
    Incoming* partial = nullptr;
  };
  std::vector<OwnSummand> own_;
  int64_t own_elements_ = 0;
  int64_t own_done_ = 0;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_COLLECTIVE_CALL_RUN_H_
