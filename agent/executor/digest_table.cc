#include "agent/executor/digest_table.h"

namespace sluice::agent {

std::optional<Digest> DigestTable::Find(const std::string& content,
                                        const DigestKey& key) const {
  MutexLock lock(mutex_);
  const auto digests = contents_.find(content);
  if (digests == contents_.end()) return std::nullopt;
  const auto it = digests->second.find(key);
  if (it == digests->second.end()) return std::nullopt;
  return it->second;
}

void DigestTable::Store(const std::string& content, const DigestKey& key,
                        const Digest& digest) {
  MutexLock lock(mutex_);
  if (entries_ >= kMaxEntries) {
    contents_.clear();
    entries_ = 0;
  }
  entries_ += contents_[content].emplace(key, digest).second ? 1 : 0;
}

void DigestTable::Forget(const std::string& content) {
  MutexLock lock(mutex_);
  const auto it = contents_.find(content);
  if (it == contents_.end()) return;
  entries_ -= static_cast<int64_t>(it->second.size());
  contents_.erase(it);
}

}  // namespace sluice::agent
