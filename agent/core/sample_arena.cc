#include "agent/core/sample_arena.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace sluice::agent {
namespace {

// Every tensor gets a place of its own, also an empty one.
int64_t RoundUp(int64_t bytes) {
  const int64_t at_least = std::max(bytes, kSampleAlignment);
  return (at_least + kSampleAlignment - 1) / kSampleAlignment *
         kSampleAlignment;
}

}  // namespace

SampleBlock SampleArena::TakeFrom(Segment& segment, BufferId id,
                                  int64_t bytes) {
  for (auto it = segment.free.begin(); it != segment.free.end(); ++it) {
    const auto [offset, size] = *it;
    if (size < bytes) continue;
    segment.free.erase(it);
    if (size > bytes) segment.free.emplace(offset + bytes, size - bytes);
    return {id, offset, bytes};
  }
  return {};
}

SampleBlock SampleArena::FirstFit(int64_t bytes) {
  for (auto& [id, segment] : segments_) {
    // A segment that the host could not make dies with its last block.
    if (buffers_->readiness(id) == BufferTable::Readiness::kFailed) continue;
    const SampleBlock block = TakeFrom(segment, id, bytes);
    if (block.bytes > 0) return block;
  }
  return {};
}

SampleBlock SampleArena::FromNew(int64_t bytes,
                                 std::map<BufferId, Segment>& made) {
  int64_t room = buffers_->free_bytes();
  for (auto& [id, segment] : made) {
    const SampleBlock block = TakeFrom(segment, id, bytes);
    if (block.bytes > 0) return block;
    room -= segment.bytes;
  }
  const int64_t segment_bytes = std::max(bytes, std::min(segment_bytes_, room));
  if (segment_bytes > room) return {};
  const BufferId id = buffers_->NewId();
  Segment& segment = made[id];
  segment.bytes = segment_bytes;
  segment.free.emplace(0, segment_bytes);
  return TakeFrom(segment, id, bytes);
}

absl::StatusOr<std::vector<SampleBlockPtr>> SampleArena::Allocate(
    absl::Span<const int64_t> sizes, Outbox& out) {
  // 1. Take what fits into segments; cut the rest out of new ones, which are
  //    not ordered yet.
  std::vector<SampleBlock> taken;
  std::map<BufferId, Segment> made;
  int64_t needed = 0;
  bool fits = true;
  for (const int64_t size : sizes) {
    const int64_t bytes = RoundUp(size);
    needed += bytes;
    if (!fits) continue;
    SampleBlock block = FirstFit(bytes);
    if (block.bytes == 0) block = FromNew(bytes, made);
    fits = block.bytes > 0;
    if (fits) taken.push_back(block);
  }
  // 2. All or none.
  if (!fits) {
    for (const SampleBlock& block : taken) {
      if (made.count(block.buffer) == 0) Free(block);
    }
    return absl::ResourceExhaustedError(absl::StrCat(
        "samples need ", needed, " bytes, ", buffers_->free_bytes(), " of ",
        buffers_->memory_bytes(), " bytes are free besides ", segments_.size(),
        " segments"));
  }
  for (auto& [id, segment] : made) {
    buffers_->Allocate(id, segment.bytes, "samples", BufferUse::kSamples, out);
    segments_.emplace(id, std::move(segment));
  }
  std::vector<SampleBlockPtr> blocks;
  for (const SampleBlock& block : taken) {
    blocks.emplace_back(new SampleBlock(block), [this](const SampleBlock* b) {
      Free(*b);
      delete b;
    });
  }
  return blocks;
}

void SampleArena::Free(const SampleBlock& block) {
  const auto found = segments_.find(block.buffer);
  SLUICE_CHECK(found != segments_.end()) << "segment " << block.buffer;
  auto& free = found->second.free;
  auto it = free.emplace(block.offset_bytes, block.bytes).first;
  const auto next = std::next(it);
  if (next != free.end() && it->first + it->second == next->first) {
    it->second += next->second;
    free.erase(next);
  }
  if (it != free.begin()) {
    const auto before = std::prev(it);
    if (before->first + before->second == it->first) {
      before->second += it->second;
      free.erase(it);
      it = before;
    }
  }
  if (it->second == found->second.bytes) {
    buffers_->Doom(block.buffer);
    segments_.erase(found);
  }
}

}  // namespace sluice::agent
