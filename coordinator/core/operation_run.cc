// Part of OperationTracker: prepare, execute, vote.

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/ids.h"
#include "common/plan.h"
#include "common/status_macros.h"
#include "coordinator/core/message_groups.h"
#include "coordinator/core/operation_tracker.h"

namespace sluice::coordinator {
namespace {

// Part digests remembered per agent before they are all forgotten.
constexpr size_t kMaxKnownParts = 1024;

}  // namespace

void OperationTracker::Prepare(Operation& op) {
  if (op.participants.empty()) {  // everybody has what it wants
    FinishOk(op);
    return;
  }
  if (absl::Status formed = FormGroup(op); !formed.ok()) {
    Fail(op, formed);
    return;
  }
  d_.agents.FlushPeers();
  for (Participant& participant : op.participants) participant.told = true;
  Enter(op, OperationPhase::kPreparing);
  op.phase_deadline =
      std::min(op.deadline, d_.context.now + op.options.wait_deadline +
                                d_.context.options.command_timeout);
  for (Participant& participant : op.participants) SendPrepare(op, participant);
}

absl::Status OperationTracker::FormGroup(Operation& op) {
  std::vector<const PlanPart*> parts;
  for (const Participant& participant : op.participants) {
    if (participant.part != nullptr) parts.push_back(participant.part.get());
  }
  Transport transport = op.options.transport;
  // Samples lie in memory of the hosts: they would pass the GPUs for nothing.
  if (transport == Transport::kAuto &&
      op.kind == OperationKind::kRedistribute) {
    transport = Transport::kUcx;
  }
  SLUICE_ASSIGN_OR_RETURN(
      const std::vector<Rank> ranks,
      ChooseMembers(transport, parts, [this](Rank rank) {
        const Agent* agent = d_.agents.Get(rank);
        return agent == nullptr ? NcclSeat{}
                                : NcclSeat{agent->name, agent->nccl_version,
                                           agent->nccl_device};
      }));
  if (ranks.empty()) return absl::OkStatus();
  std::vector<MessageGroup::Member> members;
  for (const Rank rank : ranks) {
    members.push_back({rank, d_.agents.Get(rank)->incarnation});
  }
  op.group = groups_.Take(d_.context.epoch, std::move(members));
  return absl::OkStatus();
}

void OperationTracker::SendPrepare(Operation& op, Participant& participant) {
  const Agent& agent = *d_.agents.Get(participant.rank);
  PrepareCommand prepare;
  prepare.operation = op.id;
  prepare.part_digest = participant.part->digest;
  if (!agent.known_parts.contains(prepare.part_digest)) {
    prepare.part = participant.part;
  }
  prepare.source = op.source;
  prepare.version = op.version;
  prepare.destinations = op.writes;
  prepare.digests = op.options.digests;
  prepare.staging_bytes = participant.staging_bytes;
  prepare.wait_deadline = op.options.wait_deadline;
  prepare.progress_timeout = op.options.progress_timeout;
  prepare.deadline = op.deadline - d_.context.now;
  if (std::any_of(op.group.members.begin(), op.group.members.end(),
                  [&](const MessageGroup::Member& member) {
                    return member.rank == participant.rank;
                  })) {
    prepare.group = op.group;
  }
  d_.agents.Send(participant.rank, std::move(prepare));
}

void OperationTracker::OnResult(Rank rank, const Command& command,
                                const absl::Status& outcome) {
  const auto participant_of = [&](OperationId id, Operation** op) {
    *op = FindRunning(id);
    return *op == nullptr ? nullptr : (*op)->Find(rank);
  };
  Operation* op = nullptr;
  if (const auto* prepare = std::get_if<PrepareCommand>(&command.body)) {
    if (Participant* p = participant_of(prepare->operation, &op)) {
      OnPrepareAnswered(*op, *p, *prepare, outcome);
    }
  } else if (const auto* load = std::get_if<LoadCommand>(&command.body)) {
    if (Participant* p = participant_of(load->operation, &op)) {
      OnLoadAnswered(*op, *p, outcome);
    }
  } else if (const auto* execute = std::get_if<ExecuteCommand>(&command.body)) {
    if (participant_of(execute->operation, &op) != nullptr && !outcome.ok()) {
      FailBy(*op, rank, outcome);
    }
  } else if (const auto* commit = std::get_if<CommitCommand>(&command.body)) {
    OnCommitAnswered(rank, commit->operation, outcome);
  } else if (const auto* read =
                 std::get_if<ReadDigestsCommand>(&command.body)) {
    if (Participant* p = participant_of(read->operation, &op);
        p != nullptr && !p->voted && op->phase == OperationPhase::kExecuting &&
        read->placement == op->to_verify[op->verified.size()]) {
      OnDigestsRead(*op, *p, outcome);
    }
  }
  // Abort is answered by Stopped; Release has nothing more to say.
}

void OperationTracker::OnPrepareAnswered(Operation& op,
                                         Participant& participant,
                                         const PrepareCommand& prepare,
                                         const absl::Status& outcome) {
  Agent& agent = *d_.agents.Get(participant.rank);
  if (outcome.ok()) {
    participant.prepared = true;
    // Parts of redistributions are not used again.
    if (op.kind == OperationKind::kSync) {
      if (agent.known_parts.size() >= kMaxKnownParts) agent.known_parts.clear();
      agent.known_parts.insert(prepare.part_digest);
    }
    AfterPrepared(op);
    return;
  }
  agent.known_parts.erase(prepare.part_digest);
  const bool part_unknown = absl::IsNotFound(outcome) &&
                            prepare.part == nullptr &&
                            !participant.part_sent_again;
  if (part_unknown && op.phase == OperationPhase::kPreparing) {
    participant.part_sent_again = true;
    SendPrepare(op, participant);
    return;
  }
  MarkStopped(op, participant);
  FailBy(op, participant.rank, outcome);
}

void OperationTracker::AfterPrepared(Operation& op) {
  const bool all = std::all_of(op.participants.begin(), op.participants.end(),
                               [](const Participant& p) { return p.prepared; });
  if (!all || op.phase != OperationPhase::kPreparing) return;
  Execute(op);
}

void OperationTracker::Execute(Operation& op) {
  Enter(op, OperationPhase::kExecuting);
  op.last_progress = d_.context.now;
  // A load runs since it was started.
  if (op.kind != OperationKind::kLoad) {
    for (const Participant& participant : op.participants) {
      d_.agents.Send(participant.rank, ExecuteCommand{op.id});
    }
  }
  AfterVote(op);
}

void OperationTracker::OnProgress(Rank rank, const ProgressEvent& progress) {
  Operation* op = FindRunning(progress.operation);
  Participant* participant = op == nullptr ? nullptr : op->Find(rank);
  if (participant == nullptr || participant->voted ||
      progress.bytes_done <= participant->bytes_done) {
    return;
  }
  participant->bytes_done = progress.bytes_done;
  op->last_progress = d_.context.now;
}

void OperationTracker::OnVote(Rank rank, const VoteEvent& vote) {
  d_.agents.ExecuteAnswered(rank, vote.operation);
  Operation* op = FindRunning(vote.operation);
  Participant* participant = op == nullptr ? nullptr : op->Find(rank);
  // One that has voted may take that back, until it is decided.
  if (participant == nullptr || (participant->voted && vote.outcome.ok()) ||
      (op->phase != OperationPhase::kPreparing &&
       op->phase != OperationPhase::kExecuting)) {
    return;  // repeated, or too late
  }
  if (!vote.outcome.ok()) {
    const Agent* blamed = d_.agents.Get(vote.blamed);
    FailBy(*op, rank,
           blamed == nullptr || vote.blamed == rank
               ? vote.outcome
               : absl::Status(vote.outcome.code(),
                              absl::StrCat(vote.outcome.message(), "; blames ",
                                           d_.agents.NameOf(vote.blamed))));
    return;
  }
  // A vote says that what came before it was done, too.
  participant->prepared = participant->voted = true;
  participant->stats = vote.stats;
  int64_t bytes = 0;
  for (const int64_t link : vote.stats.bytes) bytes += link;
  participant->bytes_done = std::max(participant->bytes_done, bytes);
  op->last_progress = d_.context.now;
  AfterPrepared(*op);
  AfterVote(*op);
}

void OperationTracker::AfterVote(Operation& op) {
  const bool all = std::all_of(op.participants.begin(), op.participants.end(),
                               [](const Participant& p) { return p.voted; });
  if (all && op.phase == OperationPhase::kExecuting) Decide(op);
}

}  // namespace sluice::coordinator
