#include "agent/descriptor_table.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace sluice::agent {
namespace {

// Tokens of descriptors that may be mapped for writing; buffers never have it.
constexpr uint64_t kWritableBit = uint64_t{1} << 62;

absl::Status NoSession(SessionId session) {
  return absl::NotFoundError(
      absl::StrCat("session ", session.value(), ": not attached"));
}

}  // namespace

void DescriptorTable::AddSession(SessionId session) {
  MutexLock lock(mutex_);
  sessions_.try_emplace(session);
}

bool DescriptorTable::HasSession(SessionId session) const {
  MutexLock lock(mutex_);
  return sessions_.contains(session);
}

std::weak_ptr<const void> DescriptorTable::LifeOf(SessionId session) const {
  MutexLock lock(mutex_);
  const auto it = sessions_.find(session);
  if (it == sessions_.end()) return {};
  return it->second.life;
}

void DescriptorTable::RemoveSession(SessionId session) {
  Session removed;  // closes outside the lock
  MutexLock lock(mutex_);
  const auto it = sessions_.find(session);
  if (it == sessions_.end()) return;
  removed = std::move(it->second);
  sessions_.erase(it);
}

absl::Status DescriptorTable::Give(SessionId session, uint64_t token,
                                   UniqueFd descriptor) {
  MutexLock lock(mutex_);
  const auto it = sessions_.find(session);
  if (it == sessions_.end()) return NoSession(session);
  if (it->second.given.size() >= kMaxGiven) {
    return absl::ResourceExhaustedError(
        absl::StrCat("session ", session.value(), " has given ", kMaxGiven,
                     " descriptors that it did not use"));
  }
  if (!it->second.given.try_emplace(token, std::move(descriptor)).second) {
    return absl::AlreadyExistsError(absl::StrCat(
        "session ", session.value(), ": token ", token, " is given already"));
  }
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> DescriptorTable::Take(SessionId session,
                                               uint64_t token) {
  MutexLock lock(mutex_);
  const auto it = sessions_.find(session);
  if (it == sessions_.end()) return NoSession(session);
  const auto given = it->second.given.find(token);
  if (given == it->second.given.end()) {
    return absl::NotFoundError(
        absl::StrCat("session ", session.value(),
                     ": no descriptor was given under token ", token));
  }
  UniqueFd out = std::move(given->second);
  it->second.given.erase(given);
  return out;
}

uint64_t DescriptorTable::Grant(SessionId session, BufferId buffer,
                                Access access,
                                const std::shared_ptr<MappedMemory>& memory) {
  const uint64_t token =
      buffer.value() | (access == Access::kReadWrite ? kWritableBit : 0);
  MutexLock lock(mutex_);
  const auto it = sessions_.find(session);
  if (it != sessions_.end()) {
    auto& grants = it->second.grants;
    // A long session meets many sample segments; the freed ones go.
    if (grants.size() >= 256) {
      absl::erase_if(grants, [](const auto& item) {
        return item.second.memory.expired();
      });
    }
    grants[token] = {memory, access};
  }
  return token;
}

absl::StatusOr<DescriptorTable::Fetched> DescriptorTable::Fetch(
    SessionId session, uint64_t token) const {
  std::shared_ptr<MappedMemory> memory;
  Access access = Access::kReadOnly;
  {
    MutexLock lock(mutex_);
    const auto it = sessions_.find(session);
    if (it == sessions_.end()) return NoSession(session);
    const auto grant = it->second.grants.find(token);
    if (grant != it->second.grants.end()) {
      memory = grant->second.memory.lock();
      access = grant->second.access;
    }
  }
  if (memory == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("session ", session.value(), ": token ", token,
                     " names no memory, or it was freed"));
  }
  absl::StatusOr<UniqueFd> fd = access == Access::kReadWrite
                                    ? Duplicate(memory->descriptor())
                                    : ReopenReadOnly(memory->descriptor());
  if (!fd.ok()) return fd.status();
  return Fetched{*std::move(fd), memory->size()};
}

}  // namespace sluice::agent
