// The part of a lane that takes requests' tensors: finds them, waits until the
// worker's device is done with them, and copies small ones into and out of
// buckets.

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "agent/collective/reduce_lane.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// Between two looks at a worker's device. A stream that waited for its event
// would wait for ever if the worker died, and with it all that waits for the
// stream: the end of NCCL's communicator, each freeing of memory.
constexpr absl::Duration kLookPause = absl::Microseconds(100);

std::byte* At(const CollectiveRange& range) {
  return range.memory->data() + range.offset_bytes;
}

}  // namespace

absl::StatusOr<ResolvedReduce> ReduceLane::Resolve(
    const ReduceScatterRequest& request) {
  absl::Status refused;
  absl::StatusOr<ResolvedReduce> reduce = ResolveReduce(
      request, static_cast<int>(members_.peers.size()), members_.self,
      [&](uint64_t memory) -> std::shared_ptr<MappedMemory> {
        const auto it = memory_.find(memory);
        if (it == memory_.end()) return nullptr;
        if (it->second.ok()) return *it->second;
        refused = it->second.status();
        return nullptr;
      });
  if (reduce.ok() || refused.ok()) return reduce;
  return Annotate(reduce.status(), absl::StrCat(refused.message()));
}

absl::StatusOr<bool> ReduceLane::IsHandedOver(const ResolvedReduce& reduce) {
  const MappedMemory* last = nullptr;
  for (size_t i = 0; i <= reduce.inputs.size(); ++i) {
    const CollectiveRange& range =
        i < reduce.inputs.size() ? reduce.inputs[i] : reduce.output;
    if (range.memory == nullptr || range.memory.get() == last) continue;
    last = range.memory.get();
    SLUICE_ASSIGN_OR_RETURN(const bool there, range.memory->IsHandedOver());
    if (!there) return false;
  }
  return true;
}

void ReduceLane::LookAgain() {
  if (std::exchange(looks_again_, true)) return;
  Enqueue([this] {
    looks_again_ = false;
    if (state_ != State::kOpen) return;
    absl::SleepFor(kLookPause);
    Advance();
  });
}

bool ReduceLane::RunReduce(uint64_t ordinal,
                           const ReduceScatterRequest& request) {
  Waiting& waiting = waiting_[ordinal];
  absl::StatusOr<ResolvedReduce> reduce = Resolve(request);
  if (!reduce.ok()) {
    // The others wait for this call: it ends for them too.
    Fail(Annotate(reduce.status(),
                  absl::StrCat(options_.member, ": request ", waiting.id)));
    return true;
  }
  const DType dtype = reduce->dtype;
  const int64_t numel = reduce->numel;
  const int64_t capacity = buckets_->ShardCapacity(dtype);
  const OpenBucket& bucket = open_[dtype];
  // Whether it needs memory that only the end of what is on its way gives back.
  if (numel > 0 && numel <= capacity &&
      (bucket.arena == nullptr || numel > capacity - bucket.elements) &&
      !arenas_->CanTake(dtype)) {
    return false;
  }
  const absl::StatusOr<bool> there = IsHandedOver(*reduce);
  if (!there.ok()) {
    Fail(there.status());
    return true;
  }
  if (!*there) {
    LookAgain();
    return false;
  }
  waiting.reduce = *std::move(reduce);
  log_->Add(dtype, waiting.reduce.shape);
  absl::StatusOr<std::vector<Reduction>> now =
      buckets_->Add({ordinal, {dtype, /*device=*/0, /*group=*/0}, numel});
  if (!now.ok()) {
    Fail(now.status());
    return true;
  }
  for (Reduction& reduction : *now) {
    if (!Send(std::move(reduction), waiting.id)) return true;
  }
  if (numel > capacity) return true;  // went at once
  absl::Status stored = Store(waiting);
  if (!stored.ok()) Fail(std::move(stored));
  return true;
}

absl::Status ReduceLane::Store(const Waiting& waiting) {
  const ResolvedReduce& reduce = waiting.reduce;
  if (reduce.numel == 0) return absl::OkStatus();
  OpenBucket& bucket = open_[reduce.dtype];
  if (bucket.arena == nullptr) {
    SLUICE_ASSIGN_OR_RETURN(
        bucket.arena,
        arenas_->Take(reduce.dtype, buckets_->ShardCapacity(reduce.dtype)));
  }
  const int64_t element = ByteSize(reduce.dtype);
  for (size_t m = 0; m < reduce.inputs.size(); ++m) {
    const CollectiveRange shard =
        bucket.arena->Input(static_cast<int>(m), reduce.numel);
    SLUICE_RETURN_IF_ERROR(copies_->Copy(At(shard) + bucket.elements * element,
                                         At(reduce.inputs[m]),
                                         reduce.numel * element));
  }
  bucket.elements += reduce.numel;
  return absl::OkStatus();
}

absl::Status ReduceLane::CopyResults(const Step& step) {
  const int64_t element = ByteSize(step.reduction.key.dtype);
  for (const Reduction::Member& member : step.reduction.members) {
    if (step.arena == nullptr || member.numel == 0) continue;
    const CollectiveRange result =
        step.arena->Output(step.reduction.numel_per_shard);
    SLUICE_RETURN_IF_ERROR(copies_->Copy(At(waiting_[member.id].reduce.output),
                                         At(result) + member.offset * element,
                                         member.numel * element));
  }
  return copies_->Deliver();
}

}  // namespace sluice::agent
