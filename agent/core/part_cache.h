#ifndef SLUICE_AGENT_CORE_PART_CACHE_H_
#define SLUICE_AGENT_CORE_PART_CACHE_H_

// Parts of plans by digest, the latest used ones: a repeated operation names
// its part instead of sending it.

#include <cstdint>
#include <list>
#include <memory>
#include <utility>

#include "common/plan.h"

namespace sluice::agent {

// Not thread-safe.
class PartCache {
 public:
  explicit PartCache(int32_t max_parts)
      : max_parts_(static_cast<size_t>(max_parts)) {}

  // Null if unknown.
  std::shared_ptr<const PlanPart> Find(uint64_t digest) {
    for (auto it = parts_.begin(); it != parts_.end(); ++it) {
      if ((*it)->digest != digest) continue;
      parts_.splice(parts_.begin(), parts_, it);
      return parts_.front();
    }
    return nullptr;
  }

  void Insert(std::shared_ptr<const PlanPart> part) {
    if (Find(part->digest) != nullptr) return;
    parts_.push_front(std::move(part));
    if (parts_.size() > max_parts_) parts_.pop_back();
  }

 private:
  const size_t max_parts_;
  std::list<std::shared_ptr<const PlanPart>> parts_;  // latest used first
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CORE_PART_CACHE_H_
