#include "agent/collective/reduce_lane.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/logging.h"
#include "common/overloaded.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// Of a call's description: it travels with each call.
constexpr size_t kMaxDescriptionBytes = 160;

absl::string_view ReasonName(ReductionReason reason) {
  switch (reason) {
    case ReductionReason::kImmediate:
      return "at once";
    case ReductionReason::kBucketFull:
      return "bucket full";
    case ReductionReason::kFlush:
      return "flush";
  }
  return "?";
}

}  // namespace

ReduceLane::ReduceLane(Options options, std::unique_ptr<ReduceCopies> copies,
                       Callbacks callbacks)
    : options_(std::move(options)),
      copies_(std::move(copies)),
      callbacks_(std::move(callbacks)),
      thread_("reduce-lane") {}

ReduceLane::~ReduceLane() = default;

void ReduceLane::Start(MakeGroup make) {
  Enqueue([this, make = std::move(make)]() mutable {
    make_ = std::move(make);
    Open(absl::OkStatus());
  });
}

void ReduceLane::Reduce(uint64_t id, ReduceScatterRequest request) {
  Post(id, std::move(request));
}
void ReduceLane::Flush(uint64_t id) { Post(id, FlushBody{}); }
void ReduceLane::TearDown(uint64_t id) { Post(id, TearDownBody{}); }
void ReduceLane::Lend(uint64_t id, uint64_t memory,
                      absl::StatusOr<std::shared_ptr<MappedMemory>> mapped) {
  Post(id, LendBody{memory, std::move(mapped)});
}
void ReduceLane::Release(uint64_t id, uint64_t memory) {
  Post(id, ReleaseBody{memory});
}
void ReduceLane::Leave(uint64_t id) { Post(id, LeaveBody{}); }

void ReduceLane::End(absl::Status reason) {
  Enqueue([this, reason = std::move(reason)]() mutable {
    Fail(std::move(reason));
  });
}

void ReduceLane::Retire(absl::Status reason, std::vector<Peer> members) {
  Enqueue([this, reason = std::move(reason),
           members = std::move(members)]() mutable {
    // They were found anew while this waited.
    if (members_.peers != members) return;
    if (state_ == State::kJoining && group_ != nullptr) {
      MeetAgain(std::move(reason));
    } else {
      Fail(std::move(reason));
    }
  });
}

void ReduceLane::Post(uint64_t id, Body body) {
  Enqueue([this, id, body = std::move(body)]() mutable {
    Accept(id, std::move(body));
  });
}

void ReduceLane::Enqueue(absl::AnyInvocable<void() &&> task) {
  thread_.Post([this, task = std::move(task)]() mutable {
    std::move(task)();
    NoteProgress();
  });
}

void ReduceLane::NoteProgress() {
  Progress now{state_,
               static_cast<int64_t>(waiting_.size()),
               static_cast<int64_t>(num_collectives_),
               num_done_,
               bytes_reduced_,
               arenas_.has_value() ? arenas_->bytes() : 0,
               end_reason_.ok() ? met_in_vain_ : end_reason_};
  MutexLock lock(progress_mutex_);
  progress_ = std::move(now);
}

ReduceLane::Progress ReduceLane::progress() const {
  MutexLock lock(progress_mutex_);
  return progress_;
}

void ReduceLane::Accept(uint64_t id, Body body) {
  const uint64_t ordinal = next_ordinal_++;
  waiting_[ordinal] = {id, std::move(body), {}};
  if (state_ == State::kEnded) {
    Answer(ordinal, end_reason_);
    return;
  }
  if (state_ == State::kEnding) return;  // answered when drained
  backlog_.push_back(ordinal);
  if (waiting_.size() > options_.max_waiting) {
    Fail(absl::ResourceExhaustedError(
        absl::StrCat(options_.member, ": expected at most ",
                     options_.max_waiting, " requests that wait, found more")));
    return;
  }
  Advance();
}

void ReduceLane::Open(const absl::Status& last) {
  if (state_ != State::kJoining) return;
  absl::StatusOr<Made> made = make_(last);
  if (!made.ok()) return Fail(made.status());
  members_ = std::move(made->members);
  group_ = std::move(made->group);
  const int size = static_cast<int>(members_.peers.size());
  absl::StatusOr<ReduceScatterBuckets> buckets =
      ReduceScatterBuckets::Create({size, options_.bucket_mib});
  if (!buckets.ok()) return Fail(buckets.status());
  buckets_.emplace(*std::move(buckets));
  log_.emplace(options_.operation, options_.bucket_mib, size);
  arenas_.emplace(copies_->device(), size,
                  absl::StrCat("reduce ", options_.name));
  Meet(absl::StrCat("join: ", log_->Settings(), ", ", copies_->space()),
       [this, attempt = ++attempt_](absl::Status status) {
         OnMet(attempt, std::move(status));
       });
}

void ReduceLane::MeetAgain(absl::Status last) {
  const int attempt = ++attempt_;  // nobody hears of the old one
  met_in_vain_ = last;
  group_->Abort(last, [this, last, attempt] {
    Enqueue([this, last, attempt] {
      if (state_ != State::kJoining || attempt != attempt_) return;
      group_.reset();
      Open(last);
    });
  });
}

void ReduceLane::Meet(std::string description,
                      absl::AnyInvocable<void(absl::Status) &&> done) {
  CollectiveCall call;
  call.kind = CollectiveKind::kAllGather;
  call.dtype = DType::kU8;
  call.inputs.resize(1);
  call.outputs.resize(members_.peers.size());
  call.fingerprint = log_->digest();
  call.description = std::move(description);
  group_->Run(std::move(call), [this, done = std::move(done)](
                                   absl::Status status) mutable {
    Enqueue([done = std::move(done), status = std::move(status)]() mutable {
      std::move(done)(std::move(status));
    });
  });
}

void ReduceLane::OnMet(int attempt, absl::Status status) {
  if (state_ != State::kJoining || attempt != attempt_) return;
  // A member that was restarted may be known in its new life, or soon.
  if (absl::IsUnavailable(status)) return MeetAgain(std::move(status));
  if (!status.ok()) return Fail(std::move(status));
  state_ = State::kOpen;
  met_in_vain_ = absl::OkStatus();
  told_joined_ = true;
  NoteProgress();
  callbacks_.joined(members_, copies_->ready_handle());
  Advance();
}

void ReduceLane::Advance() {
  Settle();
  while (state_ == State::kOpen && !backlog_.empty()) {
    const uint64_t ordinal = backlog_.front();
    if (!TryRun(ordinal)) return;
    backlog_.pop_front();
    Settle();
  }
}

void ReduceLane::Settle() {
  while (!steps_.empty() && steps_.front().done) {
    Step step = std::move(steps_.front());
    steps_.pop_front();
    Finish(step);
  }
}

bool ReduceLane::TryRun(uint64_t ordinal) {
  Body& body = waiting_[ordinal].body;
  return std::visit(
      Overloaded{[&](ReduceScatterRequest& request) {
                   return RunReduce(ordinal, request);
                 },
                 [&](FlushBody&) {
                   RunFlush(ordinal);
                   return true;
                 },
                 [&](TearDownBody&) { return RunTearDown(ordinal); },
                 [&](LendBody& lend) {
                   RunLend(ordinal, lend);
                   return true;
                 },
                 [&](ReleaseBody& release) {
                   RunRelease(ordinal, release.memory);
                   return true;
                 },
                 [&](LeaveBody&) {
                   RunLeave(ordinal);
                   return true;
                 }},
      body);
}

bool ReduceLane::Send(Reduction reduction, uint64_t sent_by) {
  Step& step = steps_.emplace_back();
  step.sent_by = sent_by;
  const int64_t elements = reduction.numel_per_shard;
  if (elements == 0) {
    step.done = true;
    step.reduction = std::move(reduction);
    return true;
  }
  CollectiveCall call;
  call.kind = CollectiveKind::kReduceScatter;
  call.dtype = reduction.key.dtype;
  call.reduce = options_.operation;
  call.fingerprint = log_->digest();
  call.description = absl::StrCat(ReasonName(reduction.reason), ", ",
                                  log_->TakeRecent(kMaxDescriptionBytes));
  if (reduction.reason == ReductionReason::kImmediate) {
    const ResolvedReduce& whole = waiting_[reduction.members[0].id].reduce;
    call.inputs = whole.inputs;
    call.outputs = {whole.output};
  } else {
    OpenBucket& bucket = open_[call.dtype];
    step.arena = std::move(bucket.arena);
    bucket = {};
    for (size_t m = 0; m < members_.peers.size(); ++m) {
      call.inputs.push_back(step.arena->Input(static_cast<int>(m), elements));
    }
    call.outputs = {step.arena->Output(elements)};
  }
  step.reduction = std::move(reduction);
  absl::StatusOr<std::shared_ptr<void>> after = copies_->SendOff();
  if (!after.ok()) {
    Fail(after.status());
    return false;
  }
  call.after = *std::move(after);
  step.collective = ++num_collectives_;
  group_->Run(std::move(call),
              [this, number = step.collective](absl::Status status) {
                Enqueue([this, number, status = std::move(status)] {
                  OnSent(number, status);
                });
              });
  return true;
}

void ReduceLane::OnSent(uint64_t collective, absl::Status status) {
  if (state_ == State::kEnded) return;
  if (!status.ok()) return Fail(std::move(status));
  for (Step& step : steps_) {
    if (step.collective != collective) continue;
    step.done = true;
    const Reduction& reduction = step.reduction;
    ++num_done_;
    bytes_reduced_ += static_cast<int64_t>(members_.peers.size()) *
                      reduction.numel_per_shard * ByteSize(reduction.key.dtype);
  }
  Advance();
}

void ReduceLane::Finish(Step& step) {
  if (step.flush.has_value()) return Answer(*step.flush, absl::OkStatus());
  const Reduction& reduction = step.reduction;
  absl::Status copied = CopyResults(step);
  // Those that it left without an answer get it at the end, as all others.
  if (!copied.ok()) return Fail(std::move(copied));
  for (const Reduction::Member& member : reduction.members) {
    const auto it = waiting_.find(member.id);
    ReduceAnswer answer{it->second.id,
                        absl::OkStatus(),
                        true,
                        reduction.reason,
                        step.sent_by,
                        step.collective,
                        reduction.numel_per_shard};
    waiting_.erase(it);
    NoteProgress();
    callbacks_.answer(answer);
  }
  if (step.arena != nullptr) arenas_->Give(std::move(step.arena));
}

void ReduceLane::RunFlush(uint64_t ordinal) {
  const uint64_t id = waiting_[ordinal].id;
  for (Reduction& reduction : buckets_->Flush()) {
    if (!Send(std::move(reduction), id)) return;
  }
  Step& step = steps_.emplace_back();
  step.done = true;
  step.flush = ordinal;
}

bool ReduceLane::RunTearDown(uint64_t ordinal) {
  absl::Status idle = buckets_->Teardown();
  if (idle.ok() && !steps_.empty()) return false;
  if (idle.ok()) arenas_->Clear();
  Answer(ordinal, std::move(idle));
  return true;
}

void ReduceLane::RunLend(uint64_t ordinal, LendBody& body) {
  absl::Status status = body.mapped.status();
  memory_[body.memory] = std::move(body.mapped);
  Answer(ordinal, std::move(status));
}

void ReduceLane::RunRelease(uint64_t ordinal, uint64_t memory) {
  // What uses it has a reference of its own.
  if (memory_.erase(memory) > 0) return Answer(ordinal, absl::OkStatus());
  Answer(ordinal, absl::NotFoundError(absl::StrCat(
                      "memory ", memory, " was not lent to this group")));
}

void ReduceLane::RunLeave(uint64_t ordinal) {
  Meet("leave", [this, ordinal](absl::Status status) {
    if (state_ != State::kOpen) return;
    // Another member's end may come first; it ended after all had met.
    if (status.ok() || absl::IsCancelled(status)) {
      Answer(ordinal, absl::OkStatus());
      status = absl::CancelledError(
          absl::StrCat(options_.member, " left group ", options_.name));
    }
    Fail(std::move(status));
  });
}

void ReduceLane::Answer(uint64_t ordinal, absl::Status status) {
  const auto it = waiting_.find(ordinal);
  ReduceAnswer answer;
  answer.id = it->second.id;
  answer.status = std::move(status);
  waiting_.erase(it);
  NoteProgress();
  callbacks_.answer(answer);
}

void ReduceLane::Fail(absl::Status reason) {
  if (state_ == State::kEnding || state_ == State::kEnded) return;
  state_ = State::kEnding;
  ending_ = true;
  end_reason_ = std::move(reason);
  LogInfo("reduce group ends", {{"group", options_.name},
                                {"member", options_.member},
                                {"reason", end_reason_}});
  if (group_ == nullptr) return OnDrained();
  group_->Abort(end_reason_, [this] { Enqueue([this] { OnDrained(); }); });
}

void ReduceLane::OnDrained() {
  if (state_ == State::kEnded) return;
  // Collectives that had ended well before are still worth their results.
  Settle();
  const absl::Status drained = copies_->Drain();
  if (!drained.ok()) {
    LogWarn("reduce group not drained",
            {{"group", options_.name}, {"reason", drained}});
  }
  group_.reset();  // no callback of it comes any more
  state_ = State::kEnded;
  steps_.clear();
  backlog_.clear();
  open_.clear();
  arenas_.reset();
  memory_.clear();
  NoteProgress();
  if (!told_joined_) callbacks_.joined(end_reason_, "");
  while (!waiting_.empty()) Answer(waiting_.begin()->first, end_reason_);
  callbacks_.gone();
}

}  // namespace sluice::agent
