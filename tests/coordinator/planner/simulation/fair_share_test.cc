#include "coordinator/planner/simulation/fair_share.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <random>
#include <vector>

namespace sluice::coordinator::simulation {
namespace {

LinkPath Over(std::initializer_list<int32_t> links) {
  LinkPath path;
  for (const int32_t link : links) path.Add(link);
  return path;
}

std::vector<double> Rates(std::vector<double> capacities,
                          const std::vector<LinkPath>& paths) {
  FairShare share(std::move(capacities));
  std::vector<double> rates;
  share.Solve(paths, rates);
  return rates;
}

// The definition, in small steps: all flows grow alike; one stops when a link
// on its way is full.
std::vector<double> GrowInSteps(const std::vector<double>& capacities,
                                const std::vector<LinkPath>& paths,
                                double step) {
  std::vector<double> rates(paths.size());
  std::vector<double> used(capacities.size());
  std::vector<bool> stopped(paths.size());
  while (
      !std::all_of(stopped.begin(), stopped.end(), [](bool s) { return s; })) {
    for (size_t i = 0; i < paths.size(); ++i) {
      if (stopped[i]) continue;
      rates[i] += step;
      for (const int32_t link : paths[i].span()) {
        used[static_cast<size_t>(link)] += step;
      }
    }
    for (size_t i = 0; i < paths.size(); ++i) {
      for (const int32_t link : paths[i].span()) {
        const auto at = static_cast<size_t>(link);
        if (used[at] >= capacities[at]) stopped[i] = true;
      }
    }
  }
  return rates;
}

TEST_CASE("flows over one link share it evenly", "[planner]") {
  CHECK(Rates({12}, {Over({0}), Over({0}), Over({0})}) ==
        std::vector<double>{4, 4, 4});
}

TEST_CASE("what a flow cannot use goes to the others", "[planner]") {
  // Link 1 (4) gives its two flows 2 each; the flow alone on link 0 (10) gets
  // the 8 that the shared one leaves.
  CHECK(Rates({10, 4}, {Over({0}), Over({0, 1}), Over({1})}) ==
        std::vector<double>{8, 2, 2});
}

TEST_CASE("shares settle link by link along a chain", "[planner]") {
  // Link 0 (3): flows 0, 1, 2 get 1 each. Link 1 (5): flow 2 has 1, flow 3 gets
  // 4. Link 2 (10): flow 3 has 4, flow 4 gets 6.
  CHECK(Rates({3, 5, 10}, {Over({0}), Over({0}), Over({0, 1}), Over({1, 2}),
                           Over({2})}) == std::vector<double>{1, 1, 1, 4, 6});
}

TEST_CASE("a solver forgets earlier flows", "[planner]") {
  FairShare share({8, 8});
  std::vector<double> rates;
  share.Solve({Over({0}), Over({0, 1})}, rates);
  CHECK(rates == std::vector<double>{4, 4});
  share.Solve({Over({0, 1})}, rates);
  CHECK(rates == std::vector<double>{8});
  share.Solve({}, rates);
  CHECK(rates.empty());
}

TEST_CASE("shares equal those grown in small steps", "[planner]") {
  std::mt19937 random(20261121);
  for (int round = 0; round < 200; ++round) {
    CAPTURE(round);
    const size_t num_links = 1 + random() % 8;
    std::vector<double> capacities;
    for (size_t i = 0; i < num_links; ++i) {
      capacities.push_back(static_cast<double>(1 + random() % 20));
    }
    std::vector<LinkPath> paths;
    const size_t num_flows = 1 + random() % 12;
    for (size_t i = 0; i < num_flows; ++i) {
      std::vector<int32_t> links;
      for (size_t l = 0; l < num_links; ++l) links.push_back(int32_t(l));
      std::shuffle(links.begin(), links.end(), random);
      links.resize(1 + random() % std::min<size_t>(num_links, 4));
      LinkPath path;
      for (const int32_t link : links) path.Add(link);
      paths.push_back(path);
    }
    constexpr double kStep = 1.0 / 1024;
    const std::vector<double> slow = GrowInSteps(capacities, paths, kStep);
    const std::vector<double> fast = Rates(capacities, paths);
    for (size_t i = 0; i < paths.size(); ++i) {
      CAPTURE(i, slow[i], fast[i]);
      // A step too much on one link moves the others by as many steps as flows.
      CHECK(std::abs(slow[i] - fast[i]) <
            kStep * static_cast<double>(4 * num_flows));
    }
  }
}

}  // namespace
}  // namespace sluice::coordinator::simulation
