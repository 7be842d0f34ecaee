#ifndef SLUICE_COORDINATOR_CORE_PLAN_CACHE_H_
#define SLUICE_COORDINATOR_CORE_PLAN_CACHE_H_

// Validated plans, cut into parts, kept for the next sync between the same
// placements.

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "common/ids.h"
#include "common/plan.h"

namespace sluice::coordinator {

// Immutable; shared by the operations that run it and the commands under way.
struct CachedPlan {
  TransferPlan plan;
  std::vector<std::shared_ptr<const PlanPart>> parts;  // by rank, none null
  int64_t bytes = 0;                                   // over all links

  // Returns the part of a rank; an empty one for a rank the plan does not know.
  std::shared_ptr<const PlanPart> Part(Rank rank) const;
};

// Cuts a plan over `num_ranks` ranks.
std::shared_ptr<const CachedPlan> CutPlan(TransferPlan plan, int32_t num_ranks);

// The last few plans by key. A key names all that a plan read: what it names
// unchanged, the plan is good.
class PlanCache {
 public:
  // Returns nullptr if it is not kept.
  std::shared_ptr<const CachedPlan> Find(absl::string_view key);
  void Put(std::string key, std::shared_ptr<const CachedPlan> plan);

 private:
  // The last used first.
  std::list<std::pair<std::string, std::shared_ptr<const CachedPlan>>> plans_;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_PLAN_CACHE_H_
