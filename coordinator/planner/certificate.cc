#include "coordinator/planner/certificate.h"

#include <algorithm>

#include "coordinator/planner/link_loads.h"

namespace sluice::coordinator {
namespace {

int64_t BetweenNodes(const LinkBytes& bytes) {
  return bytes[static_cast<size_t>(LinkClass::kBetweenNodes)];
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

Certificate MakeCertificate(const Topology& topology,
                            absl::Span<const Transfer> transfers,
                            int64_t lower_bound_bytes, int64_t wasted_bytes) {
  Certificate out;
  out.bytes_in.resize(topology.node_of_rank.size());
  out.bytes_out.resize(topology.node_of_rank.size());
  const Links links(topology);
  LinkLoads loads_in(links);
  LinkLoads loads_out(links);
  for (const Transfer& transfer : transfers) {
    const auto link = static_cast<size_t>(transfer.link);
    out.bytes[link] += transfer.bytes;
    out.bytes_out[static_cast<size_t>(transfer.source.value())][link] +=
        transfer.bytes;
    out.bytes_in[static_cast<size_t>(transfer.destination.value())][link] +=
        transfer.bytes;
    out.rounds = std::max(out.rounds, transfer.round + 1);
    if (transfer.link == LinkClass::kSameDevice) continue;
    const bool crossing = transfer.link == LinkClass::kBetweenNodes;
    loads_in.Add(transfer.destination, transfer.bytes, crossing);
    loads_out.Add(transfer.source, transfer.bytes, crossing);
  }
  out.num_transfers = static_cast<int64_t>(transfers.size());
  out.wasted_bytes = wasted_bytes;
  out.peak_staging_bytes = PeakStaging(out);
  out.lower_bound_bytes = lower_bound_bytes;
  out.max_link_bytes = std::max(loads_in.Max(), loads_out.Max());
  // Where nothing need move, whatever moves counts against one byte.
  if (out.max_link_bytes > 0) {
    out.bound_ratio =
        static_cast<double>(out.max_link_bytes) /
        static_cast<double>(std::max<int64_t>(lower_bound_bytes, 1));
  }
  return out;
}

}  // namespace sluice::coordinator
