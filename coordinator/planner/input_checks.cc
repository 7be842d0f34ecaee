#include "coordinator/planner/input_checks.h"

#include <algorithm>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/dtype.h"
#include "common/layout.h"
#include "common/model.h"
#include "common/status_macros.h"

namespace sluice::coordinator {
namespace {

absl::Status CheckTopology(const Topology& topology,
                           const PlanningLimits& limits) {
  if (topology.num_ranks() > limits.max_ranks) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the cluster has ", topology.num_ranks(),
                     " ranks: expected at most ", limits.max_ranks));
  }
  for (size_t r = 0; r < topology.node_of_rank.size(); ++r) {
    const int32_t node = topology.node_of_rank[r];
    if (node < -1 || node >= limits.max_ranks) {
      return absl::InvalidArgumentError(absl::StrCat("rank ", r, " is on node ",
                                                     node, ": expected -1 to ",
                                                     limits.max_ranks - 1));
    }
  }
  const std::vector<int32_t>& cards = topology.card_of_rank;
  if (!cards.empty() && cards.size() != topology.node_of_rank.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("network cards of ", cards.size(), " ranks: expected ",
                     topology.num_ranks(), " or none"));
  }
  for (size_t r = 0; r < cards.size(); ++r) {
    if (cards[r] >= 0 && cards[r] < limits.max_ranks) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("rank ", r, " uses network card ", cards[r],
                     ": expected 0 to ", limits.max_ranks - 1));
  }
  return absl::OkStatus();
}

bool Exists(const Topology& topology, Rank rank) {
  return rank.value() >= 0 && rank.value() < topology.num_ranks() &&
         topology.node_of_rank[static_cast<size_t>(rank.value())] >= 0;
}

absl::Status NoSuchRank(absl::string_view what, Rank rank,
                        const Topology& topology) {
  return absl::InvalidArgumentError(absl::StrCat(
      what, ": rank ", rank.value(), " does not exist; the cluster has ranks 0",
      " to ", topology.num_ranks() - 1));
}

absl::Status CheckPlacement(const ModelSpec& model,
                            const PlacementGeometry& placement,
                            const Topology& topology) {
  const std::string what = absl::StrCat("placement \"", placement.name, "\"");
  if (placement.layout == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(what, " has no layout"));
  }
  SLUICE_RETURN_IF_ERROR(placement.mesh.Validate());
  for (const Rank rank : placement.mesh.ranks) {
    if (!Exists(topology, rank)) return NoSuchRank(what, rank, topology);
  }
  const absl::Status declared =
      CheckReplicasDeclared(model, *placement.layout, placement.mesh);
  if (declared.ok()) return declared;
  return absl::Status(declared.code(),
                      absl::StrCat(what, ": ", declared.message()));
}

std::string NameOf(const SampleEntry& entry) {
  return absl::StrCat("sample \"", entry.sample_id, "\" key \"", entry.key,
                      "\"");
}

absl::Status CheckRanks(const SampleEntry& entry, absl::string_view role,
                        const std::vector<Rank>& ranks,
                        const Topology& topology) {
  for (size_t i = 0; i < ranks.size(); ++i) {
    if (!Exists(topology, ranks[i])) {
      return NoSuchRank(absl::StrCat(NameOf(entry), " ", role), ranks[i],
                        topology);
    }
    if (i > 0 && ranks[i] <= ranks[i - 1]) {
      return absl::InvalidArgumentError(absl::StrCat(
          NameOf(entry), " ", role, ": ranks ", ranks[i - 1].value(), ", ",
          ranks[i].value(), " are not ascending"));
    }
  }
  return absl::OkStatus();
}

// Adds the bytes of `copies` of the entry; false if a size is negative or
// something overflows.
bool AddBytes(const SampleEntry& entry, size_t copies, int64_t& total) {
  int64_t rows = 0;
  bool fits = true;
  for (const int64_t length : entry.sequence_lengths) {
    fits = fits && length >= 0 && !__builtin_add_overflow(rows, length, &rows);
  }
  int64_t row = ByteSize(entry.dtype);
  for (const int64_t size : entry.trailing_shape) {
    fits = fits && size >= 0 && !__builtin_mul_overflow(row, size, &row);
  }
  int64_t bytes = 0;
  return fits && !__builtin_mul_overflow(rows, row, &bytes) &&
         !__builtin_mul_overflow(bytes, static_cast<int64_t>(copies), &bytes) &&
         !__builtin_add_overflow(total, bytes, &total);
}

absl::Status CheckEntry(const SampleEntry& entry, size_t copies,
                        int64_t& total) {
  if (entry.sample_id.empty() || entry.key.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(NameOf(entry), ": expected a name and a key"));
  }
  if (ByteSize(entry.dtype) == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(NameOf(entry), ": dtype is unspecified or unknown"));
  }
  if (!AddBytes(entry, copies, total)) {
    return absl::InvalidArgumentError(absl::StrCat(
        NameOf(entry), ": lengths or trailing shape are negative, ",
        "or with all before it more than 2^63 bytes would move"));
  }
  return absl::OkStatus();
}

absl::Status CheckHolding(const SampleHolding& holding,
                          const std::vector<Rank>& wanted,
                          const Topology& topology, int64_t& total) {
  const SampleEntry& entry = holding.entry;
  // A reference pattern delivers to each who wants it, and to one root.
  SLUICE_RETURN_IF_ERROR(CheckEntry(entry, wanted.size() + 1, total));
  SLUICE_RETURN_IF_ERROR(
      CheckRanks(entry, "held by", holding.holders, topology));
  SLUICE_RETURN_IF_ERROR(CheckRanks(entry, "wanted by", wanted, topology));
  if (holding.holders.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(NameOf(entry), " is held by nobody"));
  }
  if (!std::binary_search(holding.holders.begin(), holding.holders.end(),
                          holding.owner)) {
    return absl::InvalidArgumentError(absl::StrCat(
        NameOf(entry), ": ",
        holding.owner == kNoRank ? std::string("is held but owned by nobody")
                                 : absl::StrCat("owner ", holding.owner.value(),
                                                " is not one of its holders")));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckReshardInput(const ReshardInput& input,
                               const PlanningLimits& limits) {
  SLUICE_RETURN_IF_ERROR(CheckTopology(input.topology, limits));
  if (input.pattern != Pattern::kDirect &&
      input.pattern != Pattern::kTwoStage) {
    return absl::InvalidArgumentError(
        absl::StrCat("pattern ", static_cast<int>(input.pattern),
                     ": expected DIRECT or TWO_STAGE"));
  }
  if (input.model == nullptr || input.destinations.empty()) {
    return absl::InvalidArgumentError(
        "a reshard needs a model and destinations");
  }
  SLUICE_RETURN_IF_ERROR(input.model->Validate());
  SLUICE_RETURN_IF_ERROR(
      CheckPlacement(*input.model, input.source, input.topology));
  const int64_t num_replicas =
      NumReplicas(*input.source.layout, input.source.mesh);
  for (const int64_t replica : input.source_replicas) {
    if (replica < 0 || replica >= num_replicas) {
      return absl::InvalidArgumentError(
          absl::StrCat("placement \"", input.source.name, "\" has ",
                       num_replicas, " replicas: found number ", replica));
    }
  }
  if (input.source_replicas.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "placement \"", input.source.name, "\": no replica holds the version"));
  }
  std::vector<std::string> names = {input.source.name};
  for (const PlacementGeometry& destination : input.destinations) {
    SLUICE_RETURN_IF_ERROR(
        CheckPlacement(*input.model, destination, input.topology));
    if (std::find(names.begin(), names.end(), destination.name) !=
        names.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("placement \"", destination.name,
                       "\" is named twice: a plan reads and writes different "
                       "placements"));
    }
    names.push_back(destination.name);
  }
  return absl::OkStatus();
}

absl::Status CheckRedistributionInput(const RedistributionInput& input,
                                      const PlanningLimits& limits) {
  SLUICE_RETURN_IF_ERROR(CheckTopology(input.topology, limits));
  switch (input.pattern) {
    case Pattern::kDirect:
    case Pattern::kGatherScatter:
    case Pattern::kBroadcast:
      break;
    case Pattern::kUnspecified:
    case Pattern::kTwoStage:
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("pattern ", static_cast<int>(input.pattern),
                       ": expected DIRECT, GATHER_SCATTER or BROADCAST"));
  }
  if (input.wanted.size() != input.holdings.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("wanted lists ", input.wanted.size(),
                     " entries, holdings ", input.holdings.size()));
  }
  int64_t total = 0;  // bytes that may move
  for (size_t i = 0; i < input.holdings.size(); ++i) {
    SLUICE_RETURN_IF_ERROR(CheckHolding(input.holdings[i], input.wanted[i],
                                        input.topology, total));
    if (i == 0) continue;
    const SampleEntry& before = input.holdings[i - 1].entry;
    const SampleEntry& entry = input.holdings[i].entry;
    if (std::tie(before.sample_id, before.key) ==
        std::tie(entry.sample_id, entry.key)) {
      return absl::InvalidArgumentError(
          absl::StrCat(NameOf(entry), " is listed twice"));
    }
    if (std::tie(before.sample_id, before.key) >
        std::tie(entry.sample_id, entry.key)) {
      return absl::InvalidArgumentError(
          absl::StrCat(NameOf(entry), " does not come after ", NameOf(before)));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckTransferLimit(size_t num_transfers,
                                const PlanningLimits& limits) {
  if (static_cast<int64_t>(num_transfers) <= limits.max_transfers) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("the plan has ", num_transfers,
                   " transfers: expected at most ", limits.max_transfers));
}

absl::Status CheckMovedBytes(const Certificate& certificate,
                             const PlanningLimits& limits) {
  int64_t bytes = 0;
  for (const int64_t by_link : certificate.bytes) {
    if (__builtin_add_overflow(bytes, by_link, &bytes)) {
      bytes = std::numeric_limits<int64_t>::max();
      break;
    }
  }
  if (bytes > limits.max_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the plan would move ", bytes, " bytes: expected at most ",
                     limits.max_bytes));
  }
  const int64_t crossing =
      certificate.bytes[static_cast<size_t>(LinkClass::kBetweenNodes)];
  if (limits.staging_bytes != 0 && crossing > 0 &&
      limits.staging_bytes < kSmallestBucketBytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the staging budget is ", limits.staging_bytes,
        " bytes: expected at least the smallest bucket, ", kSmallestBucketBytes,
        ", as ", crossing, " bytes cross between nodes"));
  }
  return absl::OkStatus();
}

}  // namespace sluice::coordinator
