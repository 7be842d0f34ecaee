#include "agent/core/buffer_table.h"

#include <utility>

#include "common/check.h"

namespace sluice::agent {

BufferTable::Buffer& BufferTable::at(BufferId id) {
  const auto it = buffers_.find(id);
  SLUICE_CHECK(it != buffers_.end()) << "buffer " << id;
  return it->second;
}

const BufferTable::Buffer& BufferTable::at(BufferId id) const {
  const auto it = buffers_.find(id);
  SLUICE_CHECK(it != buffers_.end()) << "buffer " << id;
  return it->second;
}

void BufferTable::Allocate(BufferId id, int64_t bytes, std::string label,
                           BufferUse use, Outbox& out) {
  SLUICE_CHECK(bytes <= free_bytes())
      << "buffer " << id << ": " << bytes << " bytes, free " << free_bytes();
  Buffer buffer;
  buffer.bytes = bytes;
  const bool inserted = buffers_.emplace(id, std::move(buffer)).second;
  SLUICE_CHECK(inserted) << "buffer " << id;
  used_bytes_ += bytes;
  out.Add(AllocateBuffer{id, bytes, std::move(label), use});
}

void BufferTable::Adopt(BufferId id, int64_t bytes) {
  Buffer buffer;
  buffer.bytes = bytes;
  buffer.lent = true;
  buffer.answered = true;
  const bool inserted = buffers_.emplace(id, std::move(buffer)).second;
  SLUICE_CHECK(inserted) << "buffer " << id;
}

void BufferTable::Take(int64_t bytes) {
  SLUICE_CHECK(bytes >= 0 && bytes <= free_bytes())
      << bytes << " bytes, free " << free_bytes();
  used_bytes_ += bytes;
  taken_bytes_ += bytes;
}

void BufferTable::Return(int64_t bytes) {
  SLUICE_CHECK(bytes >= 0 && bytes <= taken_bytes_)
      << bytes << " bytes, taken " << taken_bytes_;
  used_bytes_ -= bytes;
  taken_bytes_ -= bytes;
}

void BufferTable::Answer(BufferId id, const absl::Status& status) {
  Buffer& buffer = at(id);
  SLUICE_CHECK(!buffer.answered) << "buffer " << id;
  buffer.answered = true;
  buffer.status = status;
  if (!status.ok()) used_bytes_ -= buffer.bytes;
}

BufferTable::Readiness BufferTable::readiness(BufferId id) const {
  const Buffer& buffer = at(id);
  if (!buffer.answered) return Readiness::kPending;
  return buffer.status.ok() ? Readiness::kReady : Readiness::kFailed;
}

absl::Status BufferTable::failure(BufferId id) const { return at(id).status; }

void BufferTable::Hold(BufferId id) { ++at(id).holds; }

void BufferTable::Unhold(BufferId id) {
  Buffer& buffer = at(id);
  SLUICE_CHECK(buffer.holds > 0) << "buffer " << id;
  --buffer.holds;
}

void BufferTable::Doom(BufferId id) {
  at(id).doomed = true;
  any_doomed_ = true;
}

void BufferTable::FreeDoomed(Outbox& out) {
  if (!any_doomed_) return;
  any_doomed_ = false;
  for (auto it = buffers_.begin(); it != buffers_.end();) {
    const Buffer& buffer = it->second;
    if (!buffer.doomed || buffer.holds > 0 || !buffer.answered) {
      any_doomed_ = any_doomed_ || buffer.doomed;
      ++it;
      continue;
    }
    if (buffer.status.ok()) {
      if (!buffer.lent) used_bytes_ -= buffer.bytes;
      out.Add(FreeBuffer{it->first});
    }
    it = buffers_.erase(it);
  }
}

}  // namespace sluice::agent
