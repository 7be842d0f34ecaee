#ifndef SLUICE_AGENT_COLLECTIVE_REDUCE_LANE_H_
#define SLUICE_AGENT_COLLECTIVE_REDUCE_LANE_H_

// One worker's part in a reduce group: its requests become collectives, many
// small ones one; their ends become answers.
//
//   requests -> [backlog] -> bucket (small: copied) -+-> CollectiveGroup::Run
//                     large ones, as they are -------+         |
//   answers in order <- results copied out of the bucket <- done

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/collective/collective.h"
#include "agent/collective/reduce_arenas.h"
#include "agent/collective/reduce_copies.h"
#include "agent/collective/reduce_log.h"
#include "agent/collective/reduce_request.h"
#include "agent/device/mapped_memory.h"
#include "common/mutex.h"
#include "common/reduce_scatter_buckets.h"
#include "common/serial_executor.h"

namespace sluice::agent {

// Thread rule: public methods may be called from any thread and return at once.
// Everything happens on the lane's own thread, callbacks included: they must
// not block, and may ask for more. Not to be destroyed there, nor before
// `gone`.
//
// Invariants: each request is answered exactly once; after the end of a group
// no answer comes before no memory is touched any more.
//
//   JOINING --members met--> OPEN --failure, End, Leave--> ENDING --drained-->
//   ENDED
class ReduceLane {
 public:
  struct Options {
    std::string name;    // of the group
    std::string member;  // this one, for people: "worker w of agent-1"
    ReduceOp operation = ReduceOp::kSum;
    double bucket_mib = 25;
    // Requests not answered yet; more end the group.
    size_t max_waiting = 65536;
  };
  enum class State { kJoining, kOpen, kEnding, kEnded };
  // What there is to tell of it.
  struct Progress {
    State state = State::kJoining;
    int64_t requests_waiting = 0;
    int64_t collectives_sent = 0;
    int64_t collectives_done = 0;
    int64_t bytes_reduced = 0;  // input of those done
    int64_t bucket_bytes = 0;   // memory held
    // Why it ends or has ended, or why the members met in vain the last time.
    absl::Status error;
  };
  struct Made {
    CollectiveMembers members;
    std::unique_ptr<CollectiveGroup> group;
  };
  // Finds the members and makes the group; may block. Called again, with what
  // the members met with, when they met while one of them was restarted;
  // returns that if there is nothing new to try.
  using MakeGroup =
      std::function<absl::StatusOr<Made>(const absl::Status& last)>;
  struct Callbacks {
    // First and once: the members have met, or why not.
    // With ReduceCopies::ready_handle().
    std::function<void(const absl::StatusOr<CollectiveMembers>&,
                       const std::string& ready)>
        joined;
    std::function<void(const ReduceAnswer&)> answer;
    // The group is over and touches nothing any more. Requests that come later
    // are still answered.
    std::function<void()> gone;
  };

  ReduceLane(Options options, std::unique_ptr<ReduceCopies> copies,
             Callbacks callbacks);
  ~ReduceLane();
  ReduceLane(const ReduceLane&) = delete;
  ReduceLane& operator=(const ReduceLane&) = delete;

  // First and once.
  void Start(MakeGroup make);

  void Reduce(uint64_t id, ReduceScatterRequest request);
  void Flush(uint64_t id);
  void TearDown(uint64_t id);
  // An error is the answer to it.
  void Lend(uint64_t id, uint64_t memory,
            absl::StatusOr<std::shared_ptr<MappedMemory>> mapped);
  void Release(uint64_t id, uint64_t memory);

  // Ends the group well once all members leave, after what went has ended.
  void Leave(uint64_t id);
  // Ends it at once, on all members.
  void End(absl::Status reason);
  // As End, unless its members are not these any more; but members that have
  // not met yet are looked for again.
  void Retire(absl::Status reason, std::vector<Peer> members);
  // Whether it ends or has ended.
  bool ending() const { return ending_; }
  // As of the last thing that happened.
  Progress progress() const;

 private:
  struct FlushBody {};
  struct TearDownBody {};
  struct LendBody {
    uint64_t memory;
    absl::StatusOr<std::shared_ptr<MappedMemory>> mapped;
  };
  struct ReleaseBody {
    uint64_t memory;
  };
  struct LeaveBody {};
  using Body = std::variant<ReduceScatterRequest, FlushBody, TearDownBody,
                            LendBody, ReleaseBody, LeaveBody>;
  // A request that was not answered; by its ordinal in waiting_.
  struct Waiting {
    uint64_t id = 0;
    Body body;
    ResolvedReduce reduce;  // once it was taken out of the backlog
  };
  // Something that answers in turn: a collective on its way, or what has none
  // and comes after those.
  struct Step {
    bool done = false;
    Reduction reduction;
    std::unique_ptr<ReduceArena> arena;  // of a bucket
    uint64_t sent_by = 0;
    uint64_t collective = 0;
    std::optional<uint64_t> flush;  // ordinal
  };
  struct OpenBucket {
    std::unique_ptr<ReduceArena> arena;
    int64_t elements = 0;
  };

  void Post(uint64_t id, Body body);
  void Accept(uint64_t id, Body body);
  void Open(const absl::Status& last);
  // Ends an attempt to meet, and makes the next one.
  void MeetAgain(absl::Status last);
  // Runs a collective without data, so that all know that all are there.
  void Meet(std::string description,
            absl::AnyInvocable<void(absl::Status) &&> done);
  void OnMet(int attempt, absl::Status status);
  // Answers what is done, runs what can be, until nothing changes.
  void Advance();
  void Settle();
  // Runs the request; returns false where it must wait: for what is on its way,
  // or for the worker's device.
  bool TryRun(uint64_t ordinal);
  bool RunReduce(uint64_t ordinal, const ReduceScatterRequest& request);
  void RunFlush(uint64_t ordinal);
  bool RunTearDown(uint64_t ordinal);
  void RunLend(uint64_t ordinal, LendBody& body);
  void RunRelease(uint64_t ordinal, uint64_t memory);
  void RunLeave(uint64_t ordinal);

  // Finds and checks a request's tensors.
  absl::StatusOr<ResolvedReduce> Resolve(const ReduceScatterRequest& request);
  // Whether the worker's device has ended what came before the request.
  static absl::StatusOr<bool> IsHandedOver(const ResolvedReduce& reduce);
  // Goes on a little later.
  void LookAgain();
  // Copies the inputs of a small request to its place in the bucket.
  absl::Status Store(const Waiting& waiting);
  // Returns false where the group fails instead.
  bool Send(Reduction reduction, uint64_t sent_by);
  void OnSent(uint64_t collective, absl::Status status);
  void Finish(Step& step);
  // Copies a bucket's results to where the requests want them.
  absl::Status CopyResults(const Step& step);
  void Answer(uint64_t ordinal, absl::Status status);

  void Fail(absl::Status reason);
  void OnDrained();
  // Runs `task` on the lane's thread.
  void Enqueue(absl::AnyInvocable<void() &&> task);
  // Before whoever is told looks at it, and after each task.
  void NoteProgress();

  const Options options_;
  const std::unique_ptr<ReduceCopies> copies_;
  const Callbacks callbacks_;
  std::atomic<bool> ending_ = false;

  mutable Mutex progress_mutex_;
  Progress progress_ ABSL_GUARDED_BY(progress_mutex_);

  // --- Used on the lane's thread only.
  State state_ = State::kJoining;
  MakeGroup make_;
  int attempt_ = 0;  // of meeting
  bool told_joined_ = false;
  absl::Status end_reason_;
  absl::Status met_in_vain_;
  CollectiveMembers members_;
  std::unique_ptr<CollectiveGroup> group_;
  std::optional<ReduceScatterBuckets> buckets_;
  std::optional<ReduceLog> log_;
  std::optional<ReduceArenas> arenas_;
  // Lent memories, and why others were refused.
  std::map<uint64_t, absl::StatusOr<std::shared_ptr<MappedMemory>>> memory_;
  uint64_t next_ordinal_ = 1;
  std::map<uint64_t, Waiting> waiting_;
  std::deque<uint64_t> backlog_;  // ordinals
  bool looks_again_ = false;
  absl::flat_hash_map<DType, OpenBucket> open_;
  std::deque<Step> steps_;
  uint64_t num_collectives_ = 0;
  int64_t num_done_ = 0;
  int64_t bytes_reduced_ = 0;

  SerialExecutor thread_;  // last: uses everything above
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_COLLECTIVE_REDUCE_LANE_H_
