#include "common/layout_experts.h"

#include "absl/strings/str_cat.h"
#include "common/layout_deal.h"
#include "common/status_macros.h"

namespace sluice {
namespace {

constexpr int64_t kMaxExperts = int64_t{1} << 20;

}  // namespace

absl::StatusOr<ExpertDeal> DealExperts(const ExpertRule& rule,
                                       const ExpertMap* map,
                                       int64_t num_experts, int64_t positions) {
  if (num_experts > kMaxExperts) {
    return absl::InvalidArgumentError(
        absl::StrCat("found expert number ", num_experts - 1,
                     ": expected below ", kMaxExperts));
  }
  const int64_t slots =
      map == nullptr ? num_experts : static_cast<int64_t>(map->slots.size());
  DimSplit split;
  split.sizes = rule.sizes;
  absl::StatusOr<DimDeal> deal = DealDim(split, slots, positions);
  if (!deal.ok()) {
    return Annotate(deal.status(), "expert slots (as dimension 0)");
  }
  ExpertDeal out;
  out.places.resize(static_cast<size_t>(num_experts));
  for (int64_t p = 0; p < positions; ++p) {
    const Interval held = deal->held[static_cast<size_t>(p)];
    for (int64_t s = held.lo; s < held.hi; ++s) {
      const int64_t expert =
          map == nullptr ? s : map->slots[static_cast<size_t>(s)];
      if (expert < 0 || expert >= num_experts) {
        return absl::InvalidArgumentError(
            absl::StrCat("expert map: slot ", s, " has expert ", expert,
                         ": expected below ", num_experts));
      }
      std::vector<ExpertPlace>& places =
          out.places[static_cast<size_t>(expert)];
      if (!places.empty() && places.back().position == p) {
        return absl::InvalidArgumentError(absl::StrCat(
            "expert map: position ", p, " has expert ", expert,
            " twice, in slots ", held.lo + places.back().slot, " and ", s));
      }
      places.push_back({p, s - held.lo});
    }
  }
  return out;
}

absl::StatusOr<int64_t> FindExpertMap(const Layout& layout, int64_t layer) {
  int64_t found = -1;
  for (size_t m = 0; m < layout.expert_maps.size(); ++m) {
    const ExpertMap& map = layout.expert_maps[m];
    if (map.num_layers != 0 && (layer < map.first_layer ||
                                layer - map.first_layer >= map.num_layers)) {
      continue;
    }
    if (found >= 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("layout \"", layout.name, "\": expert maps ", found,
                       " and ", m, " both are for layer ", layer));
    }
    found = static_cast<int64_t>(m);
  }
  return found;
}

}  // namespace sluice
