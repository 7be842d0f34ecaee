#include "coordinator/planner/simulation/fair_share.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

namespace sluice::coordinator::simulation {
namespace {

// Shares this close are the same: they differ by rounding.
constexpr double kSame = 1 + 1e-9;

size_t At(int32_t index) { return static_cast<size_t>(index); }

}  // namespace

FairShare::FairShare(std::vector<double> capacities)
    : capacities_(std::move(capacities)),
      left_(capacities_.size()),
      flows_(capacities_.size()),
      share_(capacities_.size()),
      full_first_(capacities_.size()) {}

void FairShare::Solve(absl::Span<const LinkPath> paths,
                      std::vector<double>& rates) {
  rates.resize(paths.size());
  open_.resize(paths.size());
  std::iota(open_.begin(), open_.end(), 0);
  CountFlows(paths);
  while (!open_.empty()) {
    FindFull(paths);
    Settle(paths, rates);
  }
}

void FairShare::CountFlows(absl::Span<const LinkPath> paths) {
  // Only links with flows are looked at; the others may hold old values.
  for (const LinkPath& path : paths) {
    for (const int32_t link : path.span()) {
      left_[At(link)] = capacities_[At(link)];
      flows_[At(link)] = 0;
    }
  }
  for (const LinkPath& path : paths) {
    for (const int32_t link : path.span()) ++flows_[At(link)];
  }
}

void FairShare::FindFull(absl::Span<const LinkPath> paths) {
  for (const int32_t flow : open_) {
    for (const int32_t link : paths[At(flow)].span()) {
      share_[At(link)] = left_[At(link)] / flows_[At(link)];
      full_first_[At(link)] = 1;
    }
  }
  smallest_.resize(open_.size());
  for (size_t i = 0; i < open_.size(); ++i) {
    const auto links = paths[At(open_[i])].span();
    double smallest = std::numeric_limits<double>::infinity();
    for (const int32_t link : links) {
      smallest = std::min(smallest, share_[At(link)]);
    }
    smallest_[i] = smallest;
    for (const int32_t link : links) {
      if (share_[At(link)] > smallest * kSame) full_first_[At(link)] = 0;
    }
  }
}

void FairShare::Settle(absl::Span<const LinkPath> paths,
                       std::vector<double>& rates) {
  size_t kept = 0;
  for (size_t i = 0; i < open_.size(); ++i) {
    const auto links = paths[At(open_[i])].span();
    const bool settled =
        std::any_of(links.begin(), links.end(),
                    [&](int32_t link) { return full_first_[At(link)] != 0; });
    if (!settled) {
      open_[kept++] = open_[i];
      continue;
    }
    rates[At(open_[i])] = smallest_[i];
    for (const int32_t link : links) {
      left_[At(link)] = std::max(0.0, left_[At(link)] - smallest_[i]);
      --flows_[At(link)];
    }
  }
  open_.resize(kept);
}

}  // namespace sluice::coordinator::simulation
