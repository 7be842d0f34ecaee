#ifndef SLUICE_TESTS_AGENT_COLLECTIVE_GROUP_RIG_H_
#define SLUICE_TESTS_AGENT_COLLECTIVE_GROUP_RIG_H_

// Members of one group as threads of one process: real shared memory between
// those of a "node", UCX over loopback between "nodes". Makes random calls
// whose results are known.

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/collective/host_group.h"
#include "agent/transport/ucx_transport.h"
#include "common/clock.h"
#include "tests/agent/collective/local_directory.h"
#include "tests/fakes/fake_clock.h"

namespace sluice::agent {

// A call of all members, with what must come out.
struct RigCall {
  std::vector<CollectiveCall> calls;  // by member
  // Whole memories of outputs after the call, by member and output range.
  struct Expected {
    std::shared_ptr<MappedMemory> memory;
    std::vector<std::byte> bytes;
  };
  std::vector<Expected> expected;

  // "" if all memories are as expected; else what is wrong first.
  std::string Check() const;
};

// How a call ended on each member.
struct RigOutcome {
  std::vector<std::optional<absl::Status>> statuses;
};

class GroupRig {
 public:
  // `nodes[m]` is the node of member m.
  GroupRig(std::vector<int> nodes, uint64_t seed, const Clock& clock,
           HostGroupOptions options);

  int size() const { return static_cast<int>(nodes_.size()); }
  CollectiveMembers members(int self) const;
  LocalDirectory& directory() { return directory_; }
  std::mt19937_64& random() { return random_; }

  // Makes the group of a member (anew).
  void Make(int member);
  void MakeAll();
  void Destroy(int member) { groups_[static_cast<size_t>(member)].reset(); }
  CollectiveGroup& group(int member) {
    return *groups_[static_cast<size_t>(member)];
  }

  // A random call; pieces have up to `max_elements`, some none.
  RigCall MakeCall(CollectiveKind kind, DType dtype, ReduceOp reduce,
                   int64_t max_elements);

  // Starts a call on the members named; outcomes come to `outcome`, which
  // outlives it.
  void Start(const RigCall& call, const std::vector<int>& who,
             RigOutcome& outcome);
  // On all members, of which each group has the only reference to its call.
  void Start(RigCall&& call, RigOutcome& outcome);
  // Waits until all members named have an outcome; false if they take too long.
  bool Wait(const std::vector<int>& who, RigOutcome& outcome);
  // On all members.
  std::vector<absl::Status> Run(const RigCall& call);
  std::vector<int> everybody() const;

  // As Wait, while time passes in steps.
  bool WaitAdvancing(testing::FakeClock& clock, absl::Duration step,
                     const std::vector<int>& who, RigOutcome& outcome);
  // Ends a member, of one node with the others, as if its process had died.
  void CutOff(int member);

 private:
  // Elements of the pieces of a call.
  struct PieceSizes {
    int64_t shared = 0;              // of all members
    std::vector<int64_t> by_member;  // of one
    int64_t pair = 0;                // between two
  };
  int64_t SizeOfPiece(int64_t max_elements);
  // Adds the ranges of what goes from member `a` to member `b`.
  void AddRanges(RigCall& out, int a, int b, const PieceSizes& sizes);
  CollectiveGroup::Done NoteOutcome(int member, RigOutcome& outcome);
  bool AllOver(const std::vector<int>& who, const RigOutcome& outcome) const;
  CollectiveRange NewRange(DType dtype, int64_t elements);
  RigCall::Expected& Expect(RigCall& call, const CollectiveRange& range);
  void FillMoved(RigCall& call, CollectiveKind kind, DType dtype);
  void Deliver(RigCall& call, DType dtype, int from, size_t input, int to,
               size_t output);
  void FillReduced(RigCall& call, DType dtype, ReduceOp reduce);

  const std::vector<int> nodes_;
  const Clock& clock_;
  const HostGroupOptions options_;
  std::mt19937_64 random_;
  std::vector<Peer> peers_;
  LocalDirectory directory_;
  std::vector<std::unique_ptr<UcxTransport>> transports_;
  std::vector<std::unique_ptr<CollectiveGroup>> groups_;
  std::mutex mutex_;
  std::condition_variable changed_;
};

}  // namespace sluice::agent

#endif  // SLUICE_TESTS_AGENT_COLLECTIVE_GROUP_RIG_H_
