#ifndef SLUICE_AGENT_HOST_H_
#define SLUICE_AGENT_HOST_H_

// Runs the agent's core: hands it events one after the other and does what it
// orders. The only place where the agent's decisions meet memory, threads and
// sockets.
//
//   services, executor, loader, clock --Event--> [core.Step] --Effect-->
//   device, executor, loader, command stream, waiting calls

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/buffer_registry.h"
#include "agent/content_worker.h"
#include "agent/core/agent_core.h"
#include "agent/core/agent_options.h"
#include "agent/core/effects.h"
#include "agent/core/events.h"
#include "agent/device/device.h"
#include "agent/executor/piece_mover.h"
#include "agent/executor_interface.h"
#include "agent/hand_over_watch.h"
#include "agent/memory_worker.h"
#include "agent/message_lane.h"
#include "agent/peer_directory.h"
#include "agent/source_table.h"
#include "common/clock.h"
#include "common/command.h"
#include "common/ids.h"
#include "common/mutex.h"
#include "common/serial_executor.h"

namespace sluice::agent {

// The coordinator's end of a command stream. Called on the host's thread; must
// not block. After Close nothing is sent.
class EventSink {
 public:
  virtual ~EventSink() = default;
  virtual void Send(const AgentEvent& event) = 0;
  virtual void Close(const absl::Status& reason) = 0;
};

// Thread rule: public methods may be called from any thread; callbacks come on
// the host's thread and must not block.
//
// Invariant: every call is answered exactly once, also when it is abandoned or
// the host stops (UNAVAILABLE).
class AgentHost {
 public:
  struct Options {
    AgentOptions core;
    // Name of this machine: peers of other nodes are told to the executor.
    std::string node;
    // Kind of its device: see Peer.device.
    std::string device = "host";
    // How often the core's deadlines are looked at while something runs, and
    // otherwise.
    absl::Duration busy_tick = absl::Milliseconds(100);
    absl::Duration idle_tick = absl::Seconds(1);
  };
  struct Deps {
    const Clock& clock;
    Device& device;  // arenas
    BufferRegistry& buffers;
    SourceTable& sources;
    SocketPeerDirectory& peers;
    // Told who lives, this agent included: before the executor lets go of
    // those who do not any more, and when it knows all who do. On the host's
    // thread, must not block. May be empty.
    std::function<void(const std::vector<Peer>&)> before_peers = {};
    std::function<void(const std::vector<Peer>&)> on_peers = {};
    // Where samples lie; null: where arenas do.
    Device* host_memory = nullptr;
    // Reads and writes what is in memory; null: that of the host alone.
    PieceMover* mover = nullptr;
    // Where second copies of placements lie; null: where the first ones do.
    Device* second_copies = nullptr;
    // Where placements lie that are in memory of the host; null: where arenas
    // do.
    Device* host_copies = nullptr;
    // Told of the order of segments; null where there are none.
    MessageLanes* lanes = nullptr;
  };
  using ReplyCallback =
      absl::AnyInvocable<void(const absl::Status&, const ReplyBody&) &&>;
  // A worker's end of its session.
  struct SessionCallbacks {
    std::function<void(const TellVersion&)> tell;
    std::function<void(const absl::Status&)> end;  // the agent stops
  };

  AgentHost(Options options, Deps deps);
  // As Stop.
  ~AgentHost();
  AgentHost(const AgentHost&) = delete;
  AgentHost& operator=(const AgentHost&) = delete;

  // For the executor's constructor.
  ExecutorCallbacks MakeExecutorCallbacks();
  // Before anything else; `executor` must live until Stop has returned.
  void Start(TransferExecutor& executor);
  // Answers waiting calls, closes the stream, ends sessions and threads; then
  // waits for memory that is being made or freed. The executor is used no more;
  // its callbacks are dropped.
  void Stop();

  void Post(Event event);

  // Starts a worker's call: `make` gives its event the id. Returns the id.
  CallId Call(absl::AnyInvocable<Event(CallId) &&> make, ReplyCallback done);
  // The caller went away: the call is answered CANCELLED unless it was answered
  // before.
  void Abandon(CallId call);

  // Tells a session of versions from now on. Called inside the callback of its
  // AttachReply, so that it misses none.
  void AddSession(SessionId session, SessionCallbacks callbacks);
  // Ends a session, and its pins and brackets.
  void RemoveSession(SessionId session);

  // The coordinator opened a stream; `first` is a Welcome. Unless its epoch is
  // lower than one seen (ABORTED), it replaces the stream before.
  void OpenStream(std::shared_ptr<EventSink> stream, Command first);
  // A later command; dropped if the stream was replaced.
  void CommandFrom(const EventSink* stream, Command command);
  void CloseStream(const EventSink* stream);

  // This agent's rank; kNoRank before it was registered. On the host's thread.
  Rank rank() const { return self_; }

  // Waits until no operation runs here. Returns false after `timeout`.
  bool WaitIdle(absl::Duration timeout);

 private:
  void Step(const Event& event);
  void RunOne(Effect& effect);
  // One per kind of effect.
  Device& DeviceFor(BufferUse use);
  void Run(AllocateBuffer& order);
  void Run(FreeBuffer& order);
  void Run(PrepareExecution& order);
  void Run(StartExecution& order);
  void Run(AbortExecution& order);
  void Run(ReleaseExecution& order);
  void Run(StartLoad& order);
  void Run(AbortLoad& order);
  void Run(ReadDigests& order);
  void Run(ForgetContent& order);
  void Run(SendEvent& order);
  void Run(SetPeers& order);
  void Run(agent::CloseStream& order);
  void Run(Reply& order);
  void Run(TellVersion& order);

  // On a thread of memory_.
  void OnAllocated(const AllocateBuffer& order,
                   absl::StatusOr<std::shared_ptr<MappedMemory>> memory);
  void Answer(Reply& order);
  // Runs `then` when the memories have been handed over, or with a reason why
  // the operation waits no longer: here where they have been already.
  using Then = absl::AnyInvocable<void(absl::Status) &&>;
  void WhenHandedOver(OperationId operation, Memories memories, Then then);
  // Ends the operation's wait; false if it does not wait.
  bool EndWait(OperationId operation, absl::Status status);
  // Returns the memory that it moves bytes from and to.
  absl::StatusOr<Memories> Prepare(const PrepareExecution& order);
  void DropStream();
  void NoteIdentity(const Event& event);
  void UpdateIdle();
  void RunTicks();
  void TrimPeers();

  const Options options_;
  const Deps deps_;

  // --- Used on the host's thread only.
  AgentCore core_;
  TransferExecutor* executor_ = nullptr;
  Rank self_ = kNoRank;
  Epoch epoch_;  // highest of a Welcome
  std::shared_ptr<EventSink> stream_;
  absl::flat_hash_map<CallId, ReplyCallback> calls_;
  absl::flat_hash_map<SessionId, SessionCallbacks> sessions_;
  // Peers that the executor was told of.
  absl::flat_hash_map<Rank, Peer> remote_peers_;
  // What goes on when an operation's memory is handed over.
  absl::flat_hash_map<OperationId, Then> waiting_;
  // What effects brought about; handled after the step that ordered them.
  std::deque<Event> followups_;

  Mutex mutex_;
  CondVar changed_;
  uint64_t next_call_ ABSL_GUARDED_BY(mutex_) = 1;
  bool idle_ ABSL_GUARDED_BY(mutex_) = true;   // no operation
  bool quiet_ ABSL_GUARDED_BY(mutex_) = true;  // and no call waits
  bool tick_posted_ ABSL_GUARDED_BY(mutex_) = false;
  bool trim_posted_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  // Last, in this order: threads that use the members above.
  HandOverWatch hand_over_;
  std::unique_ptr<ContentWorker> content_;
  std::unique_ptr<MemoryWorker> memory_;
  SerialExecutor thread_;
  std::thread ticker_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_HOST_H_
