#include "agent/collective/host_group.h"

#include <pthread.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "agent/collective/call_header.h"
#include "agent/collective/call_plan.h"
#include "agent/collective/call_run.h"
#include "agent/collective/net_side.h"
#include "agent/collective/node_side.h"
#include "agent/collective/others_view.h"
#include "agent/collective/stall_watch.h"
#include "common/mutex.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// How often a waiting member looks whether others have died.
constexpr absl::Duration kGlance = absl::Milliseconds(50);
// How often those that did not come are asked again: at first, and at last.
constexpr absl::Duration kAskAgain = absl::Milliseconds(250);
constexpr absl::Duration kAskRarely = absl::Seconds(2);
// For one question to a member of the node, which answers from a thread that
// does nothing else.
constexpr absl::Duration kAnswerTimeout = absl::Seconds(2);
// How long the end waits for members that do not answer before it breaks their
// connections, or before it lets them read what they have mapped themselves.
constexpr absl::Duration kGrace = absl::Seconds(2);

class HostGroup final : public CollectiveGroup {
 public:
  HostGroup(CollectiveMembers members, HostGroupDeps deps,
            HostGroupOptions options, std::shared_ptr<NodeSide> node)
      : members_(std::move(members)),
        deps_(deps),
        options_(options),
        nodes_(NumberNodes(members_)),
        key_{members_.Id(), members_.self},
        node_(std::move(node)) {
    std::vector<int> far = OtherMembers(nodes_, members_.self, /*near=*/false);
    if (!far.empty()) {
      net_ =
          std::make_shared<NetSide>(members_, std::move(far), *deps_.transport,
                                    [node = node_] { node->own().Ring(); });
    }
    deps_.directory.Add(key_, node_);
    thread_ = std::thread([this] {
      pthread_setname_np(pthread_self(), "sluice-group");
      Loop();
    });
  }

  ~HostGroup() override {
    Abort(absl::CancelledError(absl::StrCat(MemberName(members_, members_.self),
                                            " has left the group")),
          [] {});
    {
      MutexLock lock(mutex_);
      stopping_ = true;
      wake_.Signal();
    }
    thread_.join();
  }

  void Run(CollectiveCall call, Done done) override {
    MutexLock lock(mutex_);
    queue_.push_back({std::move(call), std::move(done)});
    if (options_.watch.ended) node_->own().Ring();
    wake_.Signal();
  }

  void Abort(absl::Status reason,
             absl::AnyInvocable<void() &&> ended) override {
    MutexLock lock(mutex_);
    if (abort_.ok()) {
      abort_ = reason.ok() ? absl::AbortedError("the group was ended") : reason;
    }
    ended_.push_back(std::move(ended));
    node_->own().Ring();
    wake_.Signal();
  }

 private:
  struct Queued {
    CollectiveCall call;
    Done done;
  };
  using Missing = std::function<std::vector<int>()>;

  // The thread: meets, then serves calls and ends in the order they come.
  void Loop();
  // Notices the group's end while nothing is asked of it.
  void WatchIdle();
  bool Idle();
  absl::Status Meet();
  absl::Status RunCall(const CollectiveCall& call);
  absl::Status AgreeOnCall(const CollectiveCall& call);
  absl::Status MoveData(CallRun& run);
  absl::Status AwaitFinish();

  // Waits until `ready`, or for trouble, or until nothing has moved for the
  // progress timeout: then `missing` are named.
  absl::Status Await(const std::function<bool()>& ready, const Missing& missing,
                     absl::string_view what);
  // Why the group cannot go on; OK while it can. `thorough` also looks whether
  // processes of this node have ended.
  absl::Status Trouble(bool thorough);
  void TellStall();

  // Ends the group with `reason`: tells all, and returns when nothing touches
  // memory any more.
  void End(absl::Status reason);
  void AwaitQuiet();
  OthersView others() const { return {members_, *node_, net_.get()}; }

  const CollectiveMembers members_;
  const HostGroupDeps deps_;
  const HostGroupOptions options_;
  const std::vector<int> nodes_;
  const GroupMemberKey key_;
  const std::shared_ptr<NodeSide> node_;
  std::shared_ptr<NetSide> net_;  // null without members on other nodes

  // Of the thread.
  uint64_t ordinal_ = 0;
  absl::Status ended_with_;  // OK while the group lives

  Mutex mutex_;
  CondVar wake_;
  std::deque<Queued> queue_ ABSL_GUARDED_BY(mutex_);
  absl::Status abort_ ABSL_GUARDED_BY(mutex_);
  std::vector<absl::AnyInvocable<void() &&>> ended_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  std::thread thread_;
};

void HostGroup::Loop() {
  absl::Status met = Meet();
  if (!met.ok()) End(std::move(met));
  while (true) {
    if (options_.watch.ended) WatchIdle();
    std::optional<Queued> next;
    std::vector<absl::AnyInvocable<void() &&>> ended;
    absl::Status abort;
    {
      MutexLock lock(mutex_);
      while (queue_.empty() && ended_.empty() && !stopping_) {
        wake_.Wait(mutex_);
      }
      abort = abort_;
      if (!queue_.empty()) {
        next = std::move(queue_.front());
        queue_.pop_front();
      } else if (ended_.empty()) {
        return;
      }
      ended.swap(ended_);
    }
    if (!abort.ok() && ended_with_.ok()) End(std::move(abort));
    for (auto& callback : ended) std::move(callback)();
    if (next.has_value()) {
      absl::Status status = RunCall(next->call);
      Done done = std::move(next->done);
      next.reset();  // the ranges are the caller's again
      std::move(done)(std::move(status));
    }
  }
}

bool HostGroup::Idle() {
  MutexLock lock(mutex_);
  return queue_.empty() && ended_.empty() && !stopping_;
}

void HostGroup::WatchIdle() {
  while (ended_with_.ok()) {
    const uint32_t bell = node_->own().bell();
    if (!Idle()) return;
    absl::Status trouble = Trouble(/*thorough=*/true);
    if (!trouble.ok()) return End(std::move(trouble));
    node_->own().WaitForBell(bell, kGlance);
  }
}

absl::Status HostGroup::Meet() {
  const absl::Time deadline = deps_.clock.Now() + options_.meet_timeout;
  absl::Time ask_at = deps_.clock.Now();
  absl::Duration pause = kAskAgain;
  while (true) {
    const uint32_t bell = node_->own().bell();
    const bool all = deps_.clock.Now() >= ask_at;
    node_->Ask(all, std::min(kAnswerTimeout, options_.meet_timeout));
    if (all) {
      if (net_ != nullptr) net_->Ask();
      ask_at = deps_.clock.Now() + pause;
      pause = std::min(2 * pause, kAskRarely);
    }
    const std::vector<int> missing = others().NotMet();
    SLUICE_RETURN_IF_ERROR(Trouble(/*thorough=*/false));
    if (missing.empty()) return absl::OkStatus();
    if (deps_.clock.Now() >= deadline) {
      return DidNotCome(members_, missing, "to make the group",
                        options_.meet_timeout);
    }
    if (options_.watch.waiting) options_.watch.waiting(missing);
    node_->own().WaitForBell(bell, kGlance);
  }
}

absl::Status HostGroup::Trouble(bool thorough) {
  {
    MutexLock lock(mutex_);
    if (!abort_.ok()) return abort_;
  }
  SLUICE_RETURN_IF_ERROR(others().Failure());
  return thorough ? others().Gone() : absl::OkStatus();
}

absl::Status HostGroup::Await(const std::function<bool()>& ready,
                              const Missing& missing, absl::string_view what) {
  StallWatch watch(options_.progress_timeout, deps_.clock.Now(),
                   others().Moved());
  const auto told = [this] { return others().Told(); };
  bool waited = false;
  while (true) {
    const uint32_t bell = node_->own().bell();
    // Looked at first: a member may end right after what makes this ready.
    absl::Status trouble = Trouble(/*thorough=*/waited);
    if (ready()) return absl::OkStatus();
    SLUICE_RETURN_IF_ERROR(trouble);
    switch (watch.Look(deps_.clock.Now(), others().Moved(), told)) {
      case StallWatch::Verdict::kGoOn:
        break;
      case StallWatch::Verdict::kTell:
        TellStall();
        break;
      case StallWatch::Verdict::kOver:
        return DidNotCome(members_,
                          watch.Silent(told(), members_.self, missing()), what,
                          options_.progress_timeout);
    }
    if (waited && options_.watch.waiting) options_.watch.waiting(missing());
    node_->own().WaitForBell(bell, kGlance);
    waited = node_->own().bell() == bell;
  }
}

void HostGroup::TellStall() {
  node_->own().AddStall();
  if (net_ != nullptr) net_->SendStall();
}

absl::Status HostGroup::RunCall(const CollectiveCall& call) {
  if (!ended_with_.ok()) return ended_with_;
  ++ordinal_;
  absl::Status status =
      CheckCall(call, static_cast<int>(members_.peers.size()), members_.self);
  if (!status.ok()) {
    status = Annotate(
        status, absl::StrCat("group \"", members_.name, "\", call ", ordinal_,
                             ", ", MemberName(members_, members_.self)));
  }
  if (status.ok()) status = AgreeOnCall(call);
  if (!status.ok()) {
    End(status);
    return status;
  }
  const std::vector<CallHeaderView> headers = others().Headers();
  CallRun run({members_, nodes_, *node_, net_.get()}, call, headers);
  status = MoveData(run);
  if (status.ok()) status = AwaitFinish();
  // Before `run` goes: messages may be under way to what it has.
  if (!status.ok()) End(status);
  return status;
}

absl::Status HostGroup::AgreeOnCall(const CollectiveCall& call) {
  const int size = static_cast<int>(members_.peers.size());
  GroupBoard& board = node_->own();
  SLUICE_RETURN_IF_ERROR(node_->ShowRanges(call, ordinal_));
  WriteCallHeader(call, ordinal_, size, board.header_block());
  board.ShowCall(ordinal_);
  node_->RingAll();
  node_->DropStale();
  if (net_ != nullptr) {
    net_->ExchangeHeaders(
        ordinal_, std::string(static_cast<const char*>(board.header_block()),
                              static_cast<size_t>(CallHeaderBytes(size))));
  }
  SLUICE_RETURN_IF_ERROR(
      Await([this] { return others().WithoutHeader(ordinal_).empty(); },
            [this] { return others().WithoutHeader(ordinal_); },
            absl::StrCat("to begin call ", ordinal_)));
  return CompareCallHeaders(members_, others().Headers());
}

absl::Status HostGroup::MoveData(CallRun& run) {
  GroupBoard& board = node_->own();
  board.SetReading(true);
  absl::Status status = Trouble(/*thorough=*/false);
  if (status.ok()) {
    status = run.Prepare(options_.progress_timeout);
    if (!status.ok()) {
      // Who has ended does not answer: the reason is what ended it.
      absl::Status trouble = Trouble(/*thorough=*/true);
      if (!trouble.ok()) status = std::move(trouble);
    }
  }
  while (status.ok()) {
    status = Trouble(/*thorough=*/false);
    if (!status.ok() || run.Finished()) break;
    if (run.Step()) continue;
    status = Await([&run] { return run.Step() || run.Finished(); },
                   [&run] { return run.WaitingFor(); },
                   absl::StrCat("to move bytes of call ", ordinal_));
  }
  run.Stop();
  board.SetReading(false);
  return status;
}

absl::Status HostGroup::AwaitFinish() {
  node_->own().SetFinished(ordinal_);
  node_->RingAll();
  if (net_ != nullptr) net_->SendFinished(ordinal_);
  SLUICE_RETURN_IF_ERROR(
      Await([this] { return others().EverybodyFinished(ordinal_); },
            [this] { return others().NotFinished(ordinal_); },
            absl::StrCat("to finish call ", ordinal_)));
  node_->own().SetCompleted(ordinal_);
  return absl::OkStatus();
}

void HostGroup::End(absl::Status reason) {
  // From here on nobody meets this life of the group; then nobody begins to
  // read its memory, and finds the reason for that.
  node_->Close();
  node_->own().Fail(reason);
  deps_.directory.Remove(key_, node_.get());
  node_->RingAll();
  if (net_ != nullptr) net_->SendFailure(reason, node_->own().completed());
  ended_with_ = std::move(reason);
  if (options_.watch.ended) options_.watch.ended(ended_with_);
  AwaitQuiet();
}

void HostGroup::AwaitQuiet() {
  // A member that stands still keeps nobody: what it may yet read it has mapped
  // itself, and the call it reads for has failed.
  const absl::Time grace = deps_.clock.Now() + kGrace;
  bool closed = false;
  while (true) {
    const uint32_t bell = node_->own().bell();
    const bool late = deps_.clock.Now() >= grace;
    const bool node_quiet = late || others().NodeIsQuiet();
    if (net_ != nullptr && !closed && (late || net_->Quiet())) {
      net_->Close();
      closed = true;
    }
    if (node_quiet && (net_ == nullptr || net_->Over())) return;
    node_->own().WaitForBell(bell, kGlance);
  }
}

}  // namespace

absl::Status HostGroupOptions::Validate() const {
  for (const absl::Duration timeout : {meet_timeout, progress_timeout}) {
    if (timeout <= absl::ZeroDuration()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "expected timeouts above 0, found ", absl::FormatDuration(timeout)));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<CollectiveGroup>> MakeHostGroup(
    CollectiveMembers members, HostGroupDeps deps, HostGroupOptions options) {
  SLUICE_RETURN_IF_ERROR(options.Validate());
  SLUICE_RETURN_IF_ERROR(CheckMembers(members));
  const std::vector<int> nodes = NumberNodes(members);
  if (deps.transport == nullptr &&
      !OtherMembers(nodes, members.self, /*near=*/false).empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("group \"", members.name,
                     "\": members of other nodes, and no transport"));
  }
  SLUICE_ASSIGN_OR_RETURN(
      std::shared_ptr<NodeSide> node,
      NodeSide::Create(members,
                       OtherMembers(nodes, members.self, /*near=*/true),
                       deps.directory));
  return std::unique_ptr<CollectiveGroup>(std::make_unique<HostGroup>(
      std::move(members), deps, options, std::move(node)));
}

}  // namespace sluice::agent
