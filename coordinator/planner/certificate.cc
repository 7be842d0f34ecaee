#include "coordinator/planner/certificate.h"

#include <algorithm>
#include <map>

namespace sluice::coordinator {
namespace {

// Beyond this many distinct holder sets each is compared with itself and with
// their union only, so that the bound stays linear. It is then weaker, not
// wrong.
constexpr size_t kMaxComparedSets = 256;

int64_t MaxOf(const std::vector<int64_t>& values) {
  return values.empty() ? 0 : *std::max_element(values.begin(), values.end());
}

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Bytes that must leave a set of senders at least once, by that set.
using OutBySet = std::map<std::vector<int32_t>, int64_t>;

// The largest over sets S of (bytes held only inside S) / |S|.
int64_t MaxShare(const OutBySet& out) {
  int64_t best = 0;
  int64_t total = 0;
  std::vector<int32_t> everybody;
  const bool compare = out.size() <= kMaxComparedSets;
  for (const auto& [senders, bytes] : out) {
    int64_t inside = bytes;
    if (compare) {
      inside = 0;
      for (const auto& [other, other_bytes] : out) {
        if (std::includes(senders.begin(), senders.end(), other.begin(),
                          other.end())) {
          inside += other_bytes;
        }
      }
    }
    best =
        std::max(best, CeilDiv(inside, static_cast<int64_t>(senders.size())));
    total += bytes;
    everybody.insert(everybody.end(), senders.begin(), senders.end());
  }
  std::sort(everybody.begin(), everybody.end());
  everybody.erase(std::unique(everybody.begin(), everybody.end()),
                  everybody.end());
  if (everybody.empty()) return 0;
  return std::max(best, CeilDiv(total, static_cast<int64_t>(everybody.size())));
}

size_t NumNodes(const Topology& topology) {
  int32_t count = 0;
  for (const int32_t node : topology.node_of_rank) {
    count = std::max(count, node + 1);
  }
  return static_cast<size_t>(count);
}

int64_t OffDevice(const LinkBytes& bytes) {
  return bytes[static_cast<size_t>(LinkClass::kSameNode)] +
         bytes[static_cast<size_t>(LinkClass::kBetweenNodes)];
}

int64_t BetweenNodes(const LinkBytes& bytes) {
  return bytes[static_cast<size_t>(LinkClass::kBetweenNodes)];
}

int64_t MaxLink(const Topology& topology, const Certificate& certificate) {
  int64_t most = 0;
  std::vector<int64_t> node_in(NumNodes(topology));
  std::vector<int64_t> node_out(NumNodes(topology));
  for (size_t r = 0; r < topology.node_of_rank.size(); ++r) {
    const LinkBytes& in = certificate.bytes_in[r];
    const LinkBytes& out = certificate.bytes_out[r];
    most = std::max({most, OffDevice(in), OffDevice(out)});
    if (topology.node_of_rank[r] < 0) continue;
    const auto node = static_cast<size_t>(topology.node_of_rank[r]);
    node_in[node] += BetweenNodes(in);
    node_out[node] += BetweenNodes(out);
  }
  return std::max({most, MaxOf(node_in), MaxOf(node_out)});
}

int64_t PeakStaging(const Certificate& certificate) {
  int64_t peak = 0;
  for (size_t r = 0; r < certificate.bytes_in.size(); ++r) {
    peak = std::max(peak, std::min(BetweenNodes(certificate.bytes_in[r]),
                                   2 * kStagingBucketBytes) +
                              std::min(BetweenNodes(certificate.bytes_out[r]),
                                       2 * kStagingBucketBytes));
  }
  return peak;
}

}  // namespace

int64_t LowerBoundBytes(const RankSets& sets,
                        absl::Span<const Demand> demands) {
  std::vector<int64_t> rank_in(sets.topology().node_of_rank.size());
  std::vector<int64_t> node_in(NumNodes(sets.topology()));
  std::map<RankSets::Id, int64_t> out_by_id;
  std::map<RankSets::Id, int64_t> crossing_by_id;
  for (const Demand& demand : demands) {
    const absl::Span<const Rank> missing = sets.Ranks(demand.missing);
    if (missing.empty()) continue;
    for (const Rank rank : missing) {
      rank_in[static_cast<size_t>(rank.value())] += demand.bytes;
    }
    bool crosses = false;
    for (const RankSets::NodeGroup& group : sets.Nodes(demand.missing)) {
      if (!sets.OnNode(demand.holders, group.node).empty()) continue;
      node_in[static_cast<size_t>(group.node)] += demand.bytes;
      crosses = true;
    }
    out_by_id[demand.holders] += demand.bytes;
    if (crosses) crossing_by_id[demand.holders] += demand.bytes;
  }
  OutBySet rank_out;
  for (const auto& [id, bytes] : out_by_id) {
    std::vector<int32_t> ranks;
    for (const Rank rank : sets.Ranks(id)) ranks.push_back(rank.value());
    std::sort(ranks.begin(), ranks.end());
    rank_out[ranks] += bytes;
  }
  OutBySet node_out;
  for (const auto& [id, bytes] : crossing_by_id) {
    std::vector<int32_t> nodes;
    for (const RankSets::NodeGroup& group : sets.Nodes(id)) {
      nodes.push_back(group.node);
    }
    node_out[nodes] += bytes;
  }
  return std::max(
      {MaxOf(rank_in), MaxOf(node_in), MaxShare(rank_out), MaxShare(node_out)});
}

Certificate MakeCertificate(const Topology& topology,
                            absl::Span<const Transfer> transfers,
                            int64_t lower_bound_bytes, int64_t wasted_bytes) {
  Certificate out;
  out.bytes_in.resize(topology.node_of_rank.size());
  out.bytes_out.resize(topology.node_of_rank.size());
  for (const Transfer& transfer : transfers) {
    const auto link = static_cast<size_t>(transfer.link);
    out.bytes[link] += transfer.bytes;
    out.bytes_out[static_cast<size_t>(transfer.source.value())][link] +=
        transfer.bytes;
    out.bytes_in[static_cast<size_t>(transfer.destination.value())][link] +=
        transfer.bytes;
    out.rounds = std::max(out.rounds, transfer.round + 1);
  }
  out.num_transfers = static_cast<int64_t>(transfers.size());
  out.wasted_bytes = wasted_bytes;
  out.peak_staging_bytes = PeakStaging(out);
  out.lower_bound_bytes = lower_bound_bytes;
  out.max_link_bytes = MaxLink(topology, out);
  // Where nothing need move, whatever moves counts against one byte.
  if (out.max_link_bytes > 0) {
    out.bound_ratio =
        static_cast<double>(out.max_link_bytes) /
        static_cast<double>(std::max<int64_t>(lower_bound_bytes, 1));
  }
  return out;
}

}  // namespace sluice::coordinator
