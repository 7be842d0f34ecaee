#include "coordinator/planner/validator_checks.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace sluice::coordinator {
namespace {

absl::Status CheckRelay(const TransferPlan& plan, const Transfer& transfer) {
  if (!transfer.reads_after) return absl::OkStatus();
  if (*transfer.reads_after >= plan.transfers.size()) {
    return PlanFault(
        transfer, absl::StrCat("reads after transfer ", *transfer.reads_after,
                               " of ", plan.transfers.size()));
  }
  const Transfer& before = plan.transfers[*transfer.reads_after];
  if (before.round >= transfer.round) {
    return PlanFault(transfer,
                     absl::StrCat("in round ", transfer.round, " reads after ",
                                  NameOf(before), " of round ", before.round,
                                  ": expected an earlier one"));
  }
  if (before.destination != transfer.source) {
    return PlanFault(transfer, absl::StrCat("reads after ", NameOf(before),
                                            ", which delivers elsewhere"));
  }
  return absl::OkStatus();
}

absl::Status CheckRanks(const Topology& topology, const Transfer& transfer) {
  for (const Rank rank : {transfer.source, transfer.destination}) {
    if (rank.value() < 0 || rank.value() >= topology.num_ranks() ||
        topology.node_of_rank[static_cast<size_t>(rank.value())] < 0) {
      return PlanFault(transfer,
                       absl::StrCat("rank ", rank.value(), " does not exist"));
    }
  }
  const auto node = [&](Rank rank) {
    return topology.node_of_rank[static_cast<size_t>(rank.value())];
  };
  LinkClass expected = LinkClass::kBetweenNodes;
  if (transfer.source == transfer.destination) {
    expected = LinkClass::kSameDevice;
  } else if (node(transfer.source) == node(transfer.destination)) {
    expected = LinkClass::kSameNode;
  }
  if (transfer.link != expected) {
    return PlanFault(
        transfer, absl::StrCat("link class ", static_cast<int>(transfer.link),
                               ": expected ", static_cast<int>(expected)));
  }
  return absl::OkStatus();
}

absl::Status Differs(absl::string_view what, int64_t expected, int64_t found) {
  if (expected == found) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("certificate ", what, ": expected ",
                                          expected, ", found ", found));
}

}  // namespace

std::string NameOf(const Transfer& transfer) {
  return absl::StrCat("transfer ", transfer.id, " (rank ",
                      transfer.source.value(), " to rank ",
                      transfer.destination.value(), ")");
}

absl::Status PlanFault(const Transfer& transfer, absl::string_view what) {
  return absl::InternalError(absl::StrCat(NameOf(transfer), ": ", what));
}

absl::Status CheckTransferOrder(const Topology& topology,
                                const TransferPlan& plan) {
  int32_t round = 0;
  for (size_t i = 0; i < plan.transfers.size(); ++i) {
    const Transfer& transfer = plan.transfers[i];
    if (transfer.id != i) {
      return PlanFault(transfer, absl::StrCat("stands at position ", i));
    }
    if (transfer.round < round) {
      return PlanFault(transfer, absl::StrCat("round ", transfer.round,
                                              " after round ", round));
    }
    round = transfer.round;
    SLUICE_RETURN_IF_ERROR(CheckRanks(topology, transfer));
    SLUICE_RETURN_IF_ERROR(CheckRelay(plan, transfer));
  }
  return absl::OkStatus();
}

absl::Status CheckCertificate(const Topology& topology,
                              const TransferPlan& plan) {
  const Certificate& found = plan.certificate;
  LinkBytes bytes{};
  std::vector<LinkBytes> in(topology.node_of_rank.size());
  std::vector<LinkBytes> out(topology.node_of_rank.size());
  int32_t rounds = 0;
  for (const Transfer& transfer : plan.transfers) {
    const auto link = static_cast<size_t>(transfer.link);
    bytes[link] += transfer.bytes;
    in[static_cast<size_t>(transfer.destination.value())][link] +=
        transfer.bytes;
    out[static_cast<size_t>(transfer.source.value())][link] += transfer.bytes;
    rounds = std::max(rounds, transfer.round + 1);
  }
  SLUICE_RETURN_IF_ERROR(Differs("rounds", rounds, found.rounds));
  SLUICE_RETURN_IF_ERROR(Differs("transfers",
                                 static_cast<int64_t>(plan.transfers.size()),
                                 found.num_transfers));
  for (size_t link = 0; link < bytes.size(); ++link) {
    SLUICE_RETURN_IF_ERROR(Differs(absl::StrCat("bytes of link class ", link),
                                   bytes[link], found.bytes[link]));
  }
  if (in != found.bytes_in || out != found.bytes_out) {
    return absl::InternalError(
        "certificate: bytes by rank are not those of the transfers");
  }
  if (found.lower_bound_bytes > found.max_link_bytes) {
    return absl::InternalError(absl::StrCat(
        "certificate: the most loaded link carries ", found.max_link_bytes,
        " bytes, less than the lower bound ", found.lower_bound_bytes));
  }
  return absl::OkStatus();
}

}  // namespace sluice::coordinator
