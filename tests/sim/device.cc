#include "tests/sim/device.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace sluice::sim {
namespace {

bool BetweenNodes(const Transfer& transfer) {
  return transfer.link == LinkClass::kBetweenNodes;
}

}  // namespace

void Device::Reset() {
  buffers_.clear();
  executions_.clear();
  loads_.clear();
  loaded_.clear();
}

// --- memory
// -------------------------------------------------------------------

void Device::Run(const agent::AllocateBuffer& order) {
  const BufferId id = order.buffer;
  const int64_t bytes = order.bytes;
  d_.process.After(d_.world.random.Between(absl::ZeroDuration(), kLongestStep),
                   [this, id, bytes] {
                     auto memory = std::make_shared<Memory>();
                     memory->bytes.assign(static_cast<size_t>(bytes), 0xA5);
                     buffers_[id] = std::move(memory);
                     d_.post(agent::BufferAllocatedEvent{id, absl::OkStatus()});
                   });
}

bool Device::Uses(const Execution& execution, BufferId id) const {
  const agent::PrepareExecution& order = execution.order;
  if (order.source.has_value() && order.source->buffer == id) return true;
  for (const auto& destination : order.destinations) {
    if (destination.has_value() && destination->buffer == id) return true;
  }
  for (const agent::SamplePlace& place : order.samples) {
    if (place.buffer == id) return true;
  }
  for (const auto& place : order.landings) {
    if (place.has_value() && place->buffer == id) return true;
  }
  return false;
}

void Device::Run(const agent::FreeBuffer& order) {
  const auto it = buffers_.find(order.buffer);
  if (it == buffers_.end()) {
    d_.world.history.Violation(d_.process.name(), " frees unknown buffer ",
                               order.buffer.value());
    return;
  }
  for (const auto& [id, execution] : executions_) {
    if (!Uses(execution, order.buffer)) continue;
    d_.world.history.Violation(d_.process.name(), " frees buffer ",
                               order.buffer.value(), " of operation ",
                               id.value(), " before it is released");
  }
  for (const auto& [id, loading] : loads_) {
    if (loading.ended || loading.order.placement.buffer != order.buffer) {
      continue;
    }
    d_.world.history.Violation(d_.process.name(), " frees buffer ",
                               order.buffer.value(), " while load ", id.value(),
                               " writes it");
  }
  if (it->second->pins > 0) {
    d_.world.history.Violation(d_.process.name(), " frees pinned buffer ",
                               order.buffer.value());
  }
  buffers_.erase(it);
}

BufferId Device::Adopt(MemoryPtr memory) {
  const BufferId id(next_lent_++);
  buffers_[id] = std::move(memory);
  return id;
}

MemoryPtr Device::Get(BufferId id) const {
  const auto it = buffers_.find(id);
  return it == buffers_.end() ? nullptr : it->second;
}

bool Device::IsSource(BufferId id) const {
  return std::any_of(executions_.begin(), executions_.end(),
                     [id](const auto& entry) {
                       const auto& source = entry.second.order.source;
                       return source.has_value() && source->buffer == id;
                     });
}

// --- executions
// -----------------------------------------------------------------

Device::Execution* Device::Find(OperationId id) {
  const auto it = executions_.find(id);
  return it == executions_.end() ? nullptr : &it->second;
}

void Device::Run(const agent::PrepareExecution& order) {
  const OperationId id = order.operation;
  if (Find(id) != nullptr) {
    d_.world.history.Violation(d_.process.name(), " prepares operation ",
                               id.value(), " twice");
  }
  executions_[id].order = order;
  absl::Status answer;
  if (d_.world.random.OneIn(500)) {
    answer = absl::ResourceExhaustedError("simulated: no staging memory");
  }
  // Now and then memory has to be handed over first.
  const absl::Duration longest =
      d_.world.random.OneIn(100) ? kLongestHandOver : kLongestStep;
  d_.process.After(d_.world.random.Between(absl::ZeroDuration(), longest),
                   [this, id, answer] { AnswerPrepared(id, answer); });
}

void Device::AnswerPrepared(OperationId id, const absl::Status& answer) {
  Execution* execution = Find(id);
  if (execution == nullptr || execution->prepared) return;
  execution->prepared = answer.ok();
  if (!answer.ok()) executions_.erase(id);
  d_.world.At(Moment::kPrepared, d_.process.name());
  d_.post(agent::ExecutionPreparedEvent{id, answer});
}

void Device::Run(const agent::StartExecution& order) {
  Execution* execution = Find(order.operation);
  if (execution == nullptr || !execution->prepared) {
    d_.world.history.Violation(d_.process.name(), " starts operation ",
                               order.operation.value(), " unprepared");
    return;
  }
  execution->started = true;
  execution->last_progress = d_.world.scheduler.now();
  WorkLater(order.operation);
}

void Device::Run(const agent::AbortExecution& order) {
  Execution* execution = Find(order.operation);
  if (execution == nullptr || execution->ended) return;
  // What waits does so no longer; the core, which hears that it is prepared,
  // asks again.
  if (!execution->prepared) return AnswerPrepared(order.operation, {});
  execution->stop = order.reason;
  // What runs ends soon, not at once.
  if (!execution->started) WorkLater(order.operation);
}

void Device::Run(const agent::ReleaseExecution& order) {
  const Execution* execution = Find(order.operation);
  if (execution == nullptr) return;
  if (!execution->ended) {
    d_.world.history.Violation(d_.process.name(), " releases operation ",
                               order.operation.value(), " before it ended");
  }
  executions_.erase(order.operation);
}

void Device::WorkLater(OperationId id) {
  d_.process.After(
      d_.world.random.Between(absl::Microseconds(20), kLongestStep),
      [this, id] { Work(id); });
}

void Device::End(OperationId id, Execution& execution, absl::Status status,
                 Rank blamed) {
  execution.ended = true;
  execution.copying.clear();
  if (status.ok()) d_.world.At(Moment::kVoting, d_.process.name());
  PartStats stats;
  stats.bytes[0] = execution.bytes;
  d_.process.After(
      d_.world.random.Between(absl::ZeroDuration(), kLongestStep),
      [this, id, status = std::move(status), stats, blamed] {
        d_.post(agent::ExecutionDoneEvent{id, status, stats, blamed});
      });
}

// A transfer to this agent that can go on, at random.
Device::Progress Device::MoveAny(Execution& execution, absl::Status* error,
                                 Rank* blamed) {
  std::vector<const Transfer*> open;
  for (const Transfer& transfer : execution.order.part->transfers) {
    if (transfer.destination == self_ &&
        execution.landed.count(transfer.id) == 0) {
      open.push_back(&transfer);
    }
  }
  Progress progress = Progress::kBlocked;
  while (!open.empty() && progress == Progress::kBlocked) {
    const size_t pick = static_cast<size_t>(
        d_.world.random.Below(static_cast<int64_t>(open.size())));
    *blamed = open[pick]->source;
    progress = Move(execution, *open[pick], error);
    open.erase(open.begin() + static_cast<ptrdiff_t>(pick));
  }
  return progress;
}

void Device::Work(OperationId id) {
  Execution* execution = Find(id);
  if (execution == nullptr || execution->ended) return;
  if (!execution->stop.ok() &&
      (!execution->started || d_.world.random.OneIn(3))) {
    End(id, *execution, execution->stop, kNoRank);
    return;
  }
  d_.world.At(Moment::kCopying, d_.process.name());
  absl::Status error;
  Rank blamed = kNoRank;
  Progress progress = MoveAny(*execution, &error, &blamed);
  // All have landed, and all sends have arrived: complete.
  const size_t wanted = static_cast<size_t>(std::count_if(
      execution->order.part->transfers.begin(),
      execution->order.part->transfers.end(),
      [this](const Transfer& t) { return t.destination == self_; }));
  if (progress != Progress::kFailed && execution->landed.size() == wanted) {
    progress = CheckSends(*execution, &error, &blamed);
    if (progress == Progress::kMoved) {
      End(id, *execution, absl::OkStatus(), kNoRank);
      return;
    }
  }
  // An error, or nothing moved for too long.
  const absl::Time now = d_.world.scheduler.now();
  if (progress == Progress::kMoved) execution->last_progress = now;
  if (progress == Progress::kBlocked &&
      now - execution->last_progress > execution->order.progress_timeout) {
    progress = Progress::kFailed;
    error = absl::DeadlineExceededError(
        absl::StrCat("nothing moved; waits for rank ", blamed.value()));
  }
  if (progress == Progress::kFailed) {
    End(id, *execution, error, blamed);
    return;
  }
  WorkLater(id);
}

Device::Progress Device::CheckSends(const Execution& execution,
                                    absl::Status* error, Rank* blamed) {
  for (const Transfer& transfer : execution.order.part->transfers) {
    if (transfer.source != self_ || !BetweenNodes(transfer)) continue;
    *blamed = transfer.destination;
    Device* peer = d_.peer(transfer.destination);
    Execution* theirs =
        peer == nullptr ? nullptr : peer->Find(execution.order.operation);
    if (theirs == nullptr) {
      *error = absl::UnavailableError(
          absl::StrCat("rank ", transfer.destination.value(), " is gone"));
      return Progress::kFailed;
    }
    if (theirs->landed.count(transfer.id) == 0) return Progress::kBlocked;
  }
  return Progress::kMoved;
}

Device::Progress Device::Open(Execution& execution, const Transfer& transfer,
                              absl::Status* error) {
  Device* peer = transfer.source == self_ ? this : d_.peer(transfer.source);
  Execution* theirs =
      peer == nullptr ? nullptr : peer->Find(execution.order.operation);
  if (theirs == nullptr || !theirs->prepared) {
    *error = absl::UnavailableError(absl::StrCat(
        "rank ", transfer.source.value(), " does not know the operation"));
    return Progress::kFailed;
  }
  if (!peer->d_.process.running() ||
      (BetweenNodes(transfer) && !theirs->started)) {
    return Progress::kBlocked;
  }
  if (transfer.reads_after.has_value() &&
      theirs->landed.count(*transfer.reads_after) == 0) {
    return Progress::kBlocked;
  }
  Copying copying;
  copying.peer = peer;
  copying.peer_life = peer->d_.process.life();
  if (!MakePieces(execution, transfer, *theirs, *peer, &copying.pieces)) {
    *error = absl::InternalError(
        absl::StrCat("transfer ", transfer.id, " cannot be bound"));
    d_.world.history.Violation(d_.process.name(), " operation ",
                               execution.order.operation.value(), ": ",
                               error->message());
    return Progress::kFailed;
  }
  execution.copying[transfer.id] = std::move(copying);
  return Progress::kMoved;
}

Device::Progress Device::Move(Execution& execution, const Transfer& transfer,
                              absl::Status* error) {
  if (execution.copying.count(transfer.id) == 0) {
    return Open(execution, transfer, error);
  }
  Copying& copying = execution.copying[transfer.id];
  // Mapped memory outlives its process; a connection does not.
  if (BetweenNodes(transfer)) {
    const Process& process = copying.peer->d_.process;
    if (!process.alive() || process.life() != copying.peer_life ||
        copying.peer->Find(execution.order.operation) == nullptr) {
      *error = absl::UnavailableError(
          absl::StrCat("rank ", transfer.source.value(), " is gone"));
      return Progress::kFailed;
    }
    if (process.stopped()) return Progress::kBlocked;
  }
  for (int64_t budget = 1 + d_.world.random.Below(64);
       budget > 0 && copying.piece < copying.pieces.size();) {
    const Piece& piece = copying.pieces[copying.piece];
    if (piece.destination->pins > 0) {
      d_.world.history.Violation(d_.process.name(), " operation ",
                                 execution.order.operation.value(),
                                 " writes pinned memory");
    }
    const int64_t n = std::min(budget, piece.bytes - copying.done);
    for (int64_t i = copying.done; i < copying.done + n; ++i) {
      piece.destination->bytes.at(
          static_cast<size_t>(piece.destination_offset + i)) =
          piece.source == nullptr ? 0
                                  : piece.source->bytes.at(static_cast<size_t>(
                                        piece.source_offset + i));
    }
    budget -= n;
    copying.done += n;
    execution.bytes += n;
    if (copying.done == piece.bytes) {
      ++copying.piece;
      copying.done = 0;
    }
  }
  if (copying.piece == copying.pieces.size()) {
    execution.landed.insert(transfer.id);
    execution.copying.erase(transfer.id);
    const agent::ExecutionProgressEvent progress{execution.order.operation,
                                                 execution.bytes};
    d_.process.After(absl::ZeroDuration(),
                     [this, progress] { d_.post(progress); });
  }
  return Progress::kMoved;
}

bool Device::MakeSamplePieces(const Execution& execution,
                              const Transfer& transfer, const Execution& source,
                              const Device& peer,
                              std::vector<Piece>* pieces) const {
  for (const uint32_t entry : transfer.samples) {
    const SampleEntry& wanted = execution.order.part->entries.at(entry);
    const auto& landing = execution.order.landings.at(entry);
    const agent::SamplePlace& to =
        landing.has_value() ? *landing : execution.order.samples.at(entry);
    const auto& entries = source.order.part->entries;
    const auto theirs = std::find(entries.begin(), entries.end(), wanted);
    if (theirs == entries.end()) return false;
    const auto at = static_cast<size_t>(theirs - entries.begin());
    const bool relay = transfer.reads_after.has_value();
    const agent::SamplePlace& from =
        relay && source.order.landings[at].has_value()
            ? *source.order.landings[at]
            : source.order.samples[at];
    pieces->push_back({peer.Get(from.buffer), Get(to.buffer), from.offset_bytes,
                       to.offset_bytes, wanted.num_bytes()});
    if (pieces->back().source == nullptr ||
        pieces->back().destination == nullptr) {
      return false;
    }
  }
  return true;
}

// Of one element that its source holds in so many bytes: a BF16 is the upper
// half of an F32.
void Device::AppendCast(int64_t source_bytes, Piece piece,
                        std::vector<Piece>& pieces) const {
  if (source_bytes == piece.bytes) {
    pieces.push_back(std::move(piece));
    return;
  }
  ++d_.world.counts["elements cast"];
  if (source_bytes > piece.bytes) {
    piece.source_offset += source_bytes - piece.bytes;
  } else {
    const int64_t low = piece.bytes - source_bytes;
    pieces.push_back(
        {nullptr, piece.destination, 0, piece.destination_offset, low});
    piece.destination_offset += low;
    piece.bytes = source_bytes;
  }
  pieces.push_back(std::move(piece));
}

bool Device::MakePieces(const Execution& execution, const Transfer& transfer,
                        const Execution& source, const Device& peer,
                        std::vector<Piece>* pieces) const {
  if (!transfer.samples.empty()) {
    return MakeSamplePieces(execution, transfer, source, peer, pieces);
  }
  const auto placement = static_cast<size_t>(transfer.destination_placement);
  const auto& to = execution.order.destinations.at(placement);
  const auto& from = transfer.reads_after.has_value()
                         ? source.order.destinations.at(placement)
                         : source.order.source;
  if (!to.has_value() || !from.has_value()) return false;
  const MemoryPtr origin_memory = peer.Get(from->buffer);
  const MemoryPtr target_memory = Get(to->buffer);
  if (origin_memory == nullptr || target_memory == nullptr) return false;
  const ElementMap& here = d_.world.maps.Of(*to->spec, to->layout);
  const ElementMap& there = d_.world.maps.Of(*from->spec, from->layout);
  for (const TensorIndex tensor : ExpandTensors(transfer.params.tensors)) {
    for (const int64_t index :
         IndicesOf(transfer.params.box, to->spec->tensor(tensor).shape)) {
      const ElementMap::Element* target = here.Find(tensor, index);
      const ElementMap::Element* origin = there.Find(tensor, index);
      if (target == nullptr || origin == nullptr) return false;
      Piece piece{origin_memory, target_memory,
                  from->offset_bytes + origin->offset_bytes,
                  to->offset_bytes + target->offset_bytes, target->bytes};
      AppendCast(origin->bytes, piece, *pieces);
    }
  }
  return true;
}

std::vector<std::string> Device::Executions() const {
  std::vector<std::string> names;
  for (const auto& [id, execution] : executions_) {
    names.push_back(absl::StrCat(id.value()));
  }
  return names;
}

}  // namespace sluice::sim
