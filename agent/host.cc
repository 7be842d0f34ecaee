#include "agent/host.h"

#include <pthread.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/failpoint.h"
#include "common/logging.h"

namespace sluice::agent {

AgentHost::AgentHost(Options options, Deps deps)
    : options_(std::move(options)),
      deps_(deps),
      core_(options_.core),
      thread_("agent-host") {
  ContentWorker::Callbacks callbacks;
  callbacks.on_progress = [this](OperationId operation, int64_t bytes) {
    Post(ExecutionProgressEvent{operation, bytes});
  };
  callbacks.on_loaded = [this](LoadDoneEvent event) { Post(std::move(event)); };
  callbacks.on_digests = [this](DigestsReadEvent event) {
    Post(std::move(event));
  };
  content_ = std::make_unique<ContentWorker>(
      deps_.clock, deps_.mover != nullptr ? *deps_.mover : TheHostMover(),
      std::move(callbacks));
  memory_ = std::make_unique<MemoryWorker>(
      [this](const AllocateBuffer& order,
             absl::StatusOr<std::shared_ptr<MappedMemory>> memory) {
        OnAllocated(order, std::move(memory));
      });
}

AgentHost::~AgentHost() { Stop(); }

ExecutorCallbacks AgentHost::MakeExecutorCallbacks() {
  ExecutorCallbacks out;
  out.on_progress = [this](OperationId operation, int64_t bytes) {
    Post(ExecutionProgressEvent{operation, bytes});
  };
  out.on_done = [this](OperationId operation, absl::Status status,
                       const ExecutionStats& stats, Rank peer) {
    PartStats part;
    part.bytes = stats.bytes;
    part.seconds = stats.seconds;
    part.digest_bytes = stats.digest_bytes;
    part.digests_compared = stats.digests_compared;
    part.peak_staging_bytes = stats.peak_staging_bytes;
    Post(ExecutionDoneEvent{operation, std::move(status), part, peer});
  };
  return out;
}

void AgentHost::Start(TransferExecutor& executor) {
  thread_.Post([this, &executor] { executor_ = &executor; });
  ticker_ = std::thread([this] { RunTicks(); });
}

void AgentHost::Stop() {
  {
    MutexLock lock(mutex_);
    if (stopping_) return;
    stopping_ = true;
    changed_.SignalAll();
  }
  if (ticker_.joinable()) ticker_.join();
  memory_->EndAllocations();
  thread_.Post([this] {
    const absl::Status reason = absl::UnavailableError("the agent stops");
    for (auto& [id, done] : std::exchange(calls_, {})) {
      std::move(done)(reason, ReplyBody());
    }
    if (stream_ != nullptr) std::exchange(stream_, nullptr)->Close(reason);
    for (auto& [id, session] : std::exchange(sessions_, {})) {
      session.end(reason);
    }
    executor_ = nullptr;
  });
  thread_.Stop();
  hand_over_.Stop();
  // Gives content_ what it has made.
  memory_.reset();
  content_.reset();
}

void AgentHost::Post(Event event) {
  thread_.Post([this, event = std::move(event)] { Step(event); });
}

CallId AgentHost::Call(absl::AnyInvocable<Event(CallId) &&> make,
                       ReplyCallback done) {
  CallId id;
  {
    MutexLock lock(mutex_);
    id = CallId(next_call_++);
  }
  // Shared, because a refused task is dropped and must still be answered.
  auto shared = std::make_shared<ReplyCallback>(std::move(done));
  const bool posted =
      thread_.Post([this, id, make = std::move(make), shared]() mutable {
        if (executor_ == nullptr) {
          std::move (*shared)(absl::UnavailableError("the agent stops"),
                              ReplyBody());
          return;
        }
        calls_[id] = std::move(*shared);
        Step(std::move(make)(id));
      });
  if (!posted) {
    std::move (*shared)(absl::UnavailableError("the agent stops"), ReplyBody());
  }
  return id;
}

void AgentHost::Abandon(CallId call) {
  thread_.Post([this, call] {
    const auto it = calls_.find(call);
    if (it == calls_.end()) return;
    ReplyCallback done = std::move(it->second);
    calls_.erase(it);
    std::move(done)(absl::CancelledError("the caller went away"), ReplyBody());
    Step(CallerGoneEvent{call});
  });
}

void AgentHost::AddSession(SessionId session, SessionCallbacks callbacks) {
  SLUICE_CHECK(thread_.IsCurrentThread()) << "AddSession outside of a reply";
  sessions_[session] = std::move(callbacks);
}

void AgentHost::RemoveSession(SessionId session) {
  thread_.Post([this, session] {
    sessions_.erase(session);
    Step(SessionGoneEvent{session});
  });
}

void AgentHost::OpenStream(std::shared_ptr<EventSink> stream, Command first) {
  thread_.Post([this, stream = std::move(stream), first = std::move(first)] {
    if (executor_ == nullptr) {
      stream->Close(absl::UnavailableError("the agent stops"));
      return;
    }
    if (first.epoch < epoch_) {
      stream->Close(absl::AbortedError(
          absl::StrCat("epoch ", first.epoch.value(), " is over: epoch ",
                       epoch_.value(), " rules agent ", options_.core.name)));
      return;
    }
    if (stream_ != nullptr) {
      std::exchange(stream_, nullptr)
          ->Close(absl::AbortedError("replaced by another stream"));
      Step(StreamDownEvent{});
    }
    stream_ = stream;
    LogInfo("coordinator connected", {{"epoch", first.epoch}});
    Step(StreamUpEvent{});
    Step(CommandEvent{first});
  });
}

void AgentHost::CommandFrom(const EventSink* stream, Command command) {
  thread_.Post([this, stream, command = std::move(command)] {
    if (stream_.get() != stream) return;
    const bool commits = std::holds_alternative<CommitCommand>(command.body);
    if (commits) Failpoint("agent.before_commit");
    Step(CommandEvent{command});
    if (commits) Failpoint("agent.after_commit");
  });
}

void AgentHost::CloseStream(const EventSink* stream) {
  thread_.Post([this, stream] {
    if (stream_.get() == stream) DropStream();
  });
}

void AgentHost::DropStream() {
  stream_.reset();
  LogInfo("coordinator disconnected");
  Step(StreamDownEvent{});
}

bool AgentHost::WaitIdle(absl::Duration timeout) {
  const absl::Time deadline = deps_.clock.Now() + timeout;
  MutexLock lock(mutex_);
  while (!idle_) {
    const absl::Duration left = deadline - deps_.clock.Now();
    if (left <= absl::ZeroDuration()) return false;
    changed_.WaitFor(mutex_, left);
  }
  return true;
}

void AgentHost::NoteIdentity(const Event& event) {
  Rank rank = self_;
  if (const auto* registered = std::get_if<RegisteredEvent>(&event)) {
    rank = registered->rank;
  } else if (const auto* command = std::get_if<CommandEvent>(&event)) {
    const auto* welcome = std::get_if<WelcomeCommand>(&command->command.body);
    if (welcome == nullptr) return;
    rank = welcome->rank;
    if (welcome->incarnation == options_.core.incarnation) {
      epoch_ = std::max(epoch_, command->command.epoch);
      if (deps_.lanes != nullptr) deps_.lanes->Raise(epoch_);
    }
  }
  // Given for ever with the first registration.
  if (self_ != kNoRank || rank == kNoRank) return;
  self_ = rank;
  deps_.peers.SetSelf(rank);
}

void AgentHost::Step(const Event& event) {
  if (executor_ == nullptr) return;  // stopped
  NoteIdentity(event);
  // Effects may bring about events at once: handled in order, not inside the
  // step that ordered them.
  followups_.push_back(event);
  if (followups_.size() > 1) return;
  while (!followups_.empty()) {
    std::vector<Effect> effects =
        core_.Step(deps_.clock.Now(), followups_.front());
    for (Effect& effect : effects) RunOne(effect);
    followups_.pop_front();
  }
  UpdateIdle();
}

void AgentHost::RunOne(Effect& effect) {
  std::visit([this](auto& order) { Run(order); }, effect);
}

void AgentHost::UpdateIdle() {
  const bool idle = core_.Idle();
  const bool quiet = idle && calls_.empty();
  MutexLock lock(mutex_);
  if (idle == idle_ && quiet == quiet_) return;
  idle_ = idle;
  quiet_ = quiet;
  changed_.SignalAll();
}

void AgentHost::RunTicks() {
  pthread_setname_np(pthread_self(), "agent-ticks");
  MutexLock lock(mutex_);
  while (!stopping_) {
    // Something that starts in the middle of a long wait ends it.
    const bool quiet = quiet_;
    const bool signalled = changed_.WaitFor(
        mutex_, quiet ? options_.idle_tick : options_.busy_tick);
    if (stopping_) return;
    if (signalled && quiet == quiet_) continue;
    if (tick_posted_) continue;
    tick_posted_ = true;
    thread_.Post([this] {
      {
        MutexLock posted(mutex_);
        tick_posted_ = false;
      }
      TrimPeers();
      Step(TickEvent{});
    });
  }
}

void AgentHost::TrimPeers() {
  {
    MutexLock lock(mutex_);
    if (std::exchange(trim_posted_, true)) return;
  }
  // To unmap memory of a GPU waits for it.
  memory_->Run([this] {
    deps_.peers.Trim();
    MutexLock lock(mutex_);
    trim_posted_ = false;
  });
}

}  // namespace sluice::agent
