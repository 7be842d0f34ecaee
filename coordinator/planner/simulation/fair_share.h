#ifndef SLUICE_COORDINATOR_PLANNER_SIMULATION_FAIR_SHARE_H_
#define SLUICE_COORDINATOR_PLANNER_SIMULATION_FAIR_SHARE_H_

// Max-min fair sharing: no flow can have more without another that has no more
// than it getting less. What many flows over one network settle to.

#include <array>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace sluice::coordinator::simulation {

// The links that a flow passes, each once.
struct LinkPath {
  static constexpr size_t kMaxLinks = 6;

  void Add(int32_t link) { links[size++] = link; }
  absl::Span<const int32_t> span() const { return {links.data(), size}; }

  std::array<int32_t, kMaxLinks> links{};
  size_t size = 0;
};

// Not thread-safe: keeps its working memory between calls.
class FairShare {
 public:
  // Capacities in bytes per second, above 0.
  explicit FairShare(std::vector<double> capacities);

  const std::vector<double>& capacities() const { return capacities_; }

  // Sets rates[i] to the rate of the flow over paths[i], none of which is
  // empty, by progressive filling: all flows grow alike until a link is full,
  // whose flows then stay. Every link that is full for its own flows before any
  // other of theirs is taken at once, so that a pass over the flows settles
  // many.
  void Solve(absl::Span<const LinkPath> paths, std::vector<double>& rates);

 private:
  void CountFlows(absl::Span<const LinkPath> paths);
  // Sets the share of every link that has flows left, and each such flow's
  // smallest; marks links that are full first for all their flows.
  void FindFull(absl::Span<const LinkPath> paths);
  // Settles the flows of such links.
  void Settle(absl::Span<const LinkPath> paths, std::vector<double>& rates);

  std::vector<double> capacities_;
  std::vector<double> left_;      // capacity of each link not given away
  std::vector<int32_t> flows_;    // not settled, by link
  std::vector<double> share_;     // left_ / flows_
  std::vector<char> full_first_;  // by link
  std::vector<int32_t> open_;     // flows not settled
  std::vector<double> smallest_;  // share on their paths, parallel to open_
};

}  // namespace sluice::coordinator::simulation

#endif  // SLUICE_COORDINATOR_PLANNER_SIMULATION_FAIR_SHARE_H_
