#include "coordinator/core/plan_cache.h"

#include <algorithm>

namespace sluice::coordinator {
namespace {

constexpr size_t kMaxPlans = 16;

}  // namespace

std::shared_ptr<const PlanPart> CachedPlan::Part(Rank rank) const {
  if (rank.value() < 0 || rank.value() >= static_cast<int64_t>(parts.size())) {
    return std::make_shared<const PlanPart>(PartOf(plan, rank));
  }
  return parts[static_cast<size_t>(rank.value())];
}

std::shared_ptr<const CachedPlan> CutPlan(TransferPlan plan,
                                          int32_t num_ranks) {
  auto cut = std::make_shared<CachedPlan>();
  for (PlanPart& part : SplitPlan(plan, num_ranks)) {
    cut->parts.push_back(std::make_shared<const PlanPart>(std::move(part)));
  }
  for (const int64_t bytes : plan.certificate.bytes) cut->bytes += bytes;
  cut->plan = std::move(plan);
  return cut;
}

std::shared_ptr<const CachedPlan> PlanCache::Find(absl::string_view key) {
  const auto it =
      std::find_if(plans_.begin(), plans_.end(),
                   [key](const auto& kept) { return kept.first == key; });
  if (it == plans_.end()) return nullptr;
  plans_.splice(plans_.begin(), plans_, it);
  return plans_.front().second;
}

void PlanCache::Put(std::string key, std::shared_ptr<const CachedPlan> plan) {
  std::erase_if(plans_, [&key](const auto& kept) { return kept.first == key; });
  plans_.emplace_front(std::move(key), std::move(plan));
  while (plans_.size() > kMaxPlans) plans_.pop_back();
}

}  // namespace sluice::coordinator
