// ValidateRedistribution: proves a plan of samples against who holds what.

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/status_macros.h"
#include "coordinator/planner/planners.h"
#include "coordinator/planner/validator_checks.h"

namespace sluice::coordinator {
namespace {

std::string NameOf(const SampleEntry& entry) {
  return absl::StrCat("sample \"", entry.sample_id, "\" key \"", entry.key,
                      "\"");
}

class RedistributionValidator {
 public:
  RedistributionValidator(const RedistributionInput& input,
                          const TransferPlan& plan)
      : input_(input), plan_(plan) {}

  absl::Status Run() {
    SLUICE_RETURN_IF_ERROR(CheckTransferOrder(input_.topology, plan_));
    SLUICE_RETURN_IF_ERROR(MatchEntries());
    for (const Transfer& transfer : plan_.transfers) {
      SLUICE_RETURN_IF_ERROR(CheckTransfer(transfer));
    }
    SLUICE_RETURN_IF_ERROR(CheckWanted());
    if (wasted_ != plan_.certificate.wasted_bytes) {
      return absl::InternalError(
          absl::StrCat("certificate wasted bytes: expected ", wasted_,
                       ", found ", plan_.certificate.wasted_bytes));
    }
    return CheckCertificate(input_.topology, plan_);
  }

 private:
  const SampleHolding& holding(uint32_t entry) const {
    return input_.holdings[holding_of_entry_[entry]];
  }

  // Finds the holding of each entry; each is used once and unchanged.
  absl::Status MatchEntries() {
    using Name = std::pair<absl::string_view, absl::string_view>;
    absl::flat_hash_map<Name, size_t> by_name;
    for (size_t i = 0; i < input_.holdings.size(); ++i) {
      const SampleEntry& entry = input_.holdings[i].entry;
      by_name.emplace(Name(entry.sample_id, entry.key), i);
    }
    absl::flat_hash_set<size_t> used;
    for (const SampleEntry& entry : plan_.entries) {
      const auto it = by_name.find(Name(entry.sample_id, entry.key));
      if (it == by_name.end()) {
        return absl::InternalError(
            absl::StrCat(NameOf(entry), " was not asked for"));
      }
      if (!used.insert(it->second).second) {
        return absl::InternalError(
            absl::StrCat(NameOf(entry), " is listed twice"));
      }
      if (!(entry == input_.holdings[it->second].entry)) {
        return absl::InternalError(
            absl::StrCat(NameOf(entry),
                         " differs in type, lengths or shape from what is "
                         "held"));
      }
      holding_of_entry_.push_back(it->second);
    }
    return absl::OkStatus();
  }

  absl::Status CheckTransfer(const Transfer& transfer) {
    if (!(transfer.params == ParamBundle{}) ||
        transfer.destination_placement != 0) {
      return PlanFault(transfer, "a plan of samples names parameters");
    }
    if (transfer.samples.empty()) return PlanFault(transfer, "moves no sample");
    if (transfer.source == transfer.destination ||
        transfer.kind == TransferKind::kLocalCopy ||
        transfer.kind == TransferKind::kUnspecified) {
      return PlanFault(transfer, "samples are never copied inside an agent");
    }
    int64_t bytes = 0;
    for (size_t i = 0; i < transfer.samples.size(); ++i) {
      const uint32_t entry = transfer.samples[i];
      if (entry >= plan_.entries.size() ||
          (i > 0 && entry <= transfer.samples[i - 1])) {
        return PlanFault(transfer, absl::StrCat("entry ", entry, " of ",
                                                plan_.entries.size(),
                                                " is out of range or order"));
      }
      bytes += plan_.entries[entry].num_bytes();
      SLUICE_RETURN_IF_ERROR(CheckSource(transfer, entry));
      SLUICE_RETURN_IF_ERROR(Deliver(transfer, entry));
    }
    if (bytes != transfer.bytes) {
      return PlanFault(
          transfer, absl::StrCat(transfer.bytes, " bytes: expected ", bytes));
    }
    return absl::OkStatus();
  }

  absl::Status CheckSource(const Transfer& transfer, uint32_t entry) const {
    if (transfer.reads_after) {
      const Transfer& before = plan_.transfers[*transfer.reads_after];
      if (std::binary_search(before.samples.begin(), before.samples.end(),
                             entry)) {
        return absl::OkStatus();
      }
      return PlanFault(
          transfer,
          absl::StrCat(NameOf(plan_.entries[entry]), ": not part of what ",
                       coordinator::NameOf(before), " delivered"));
    }
    const std::vector<Rank>& holders = holding(entry).holders;
    if (std::find(holders.begin(), holders.end(), transfer.source) !=
        holders.end()) {
      return absl::OkStatus();
    }
    return PlanFault(transfer, absl::StrCat(NameOf(plan_.entries[entry]),
                                            ": rank ", transfer.source.value(),
                                            " does not hold it at the start"));
  }

  // A holder may get what it has (waste); nobody gets the same thing twice.
  absl::Status Deliver(const Transfer& transfer, uint32_t entry) {
    const Rank rank = transfer.destination;
    const size_t index = holding_of_entry_[entry];
    if (!delivered_.emplace(index, rank).second) {
      return PlanFault(transfer, absl::StrCat(NameOf(plan_.entries[entry]),
                                              ": delivered to rank ",
                                              rank.value(), " twice"));
    }
    const std::vector<Rank>& holders = input_.holdings[index].holders;
    const std::vector<Rank>& wanted = input_.wanted[index];
    if (std::find(holders.begin(), holders.end(), rank) != holders.end() ||
        std::find(wanted.begin(), wanted.end(), rank) == wanted.end()) {
      wasted_ += plan_.entries[entry].num_bytes();
    }
    return absl::OkStatus();
  }

  absl::Status CheckWanted() const {
    for (size_t i = 0; i < input_.holdings.size(); ++i) {
      const std::vector<Rank>& holders = input_.holdings[i].holders;
      for (const Rank rank : input_.wanted[i]) {
        if (std::find(holders.begin(), holders.end(), rank) != holders.end() ||
            delivered_.contains({i, rank})) {
          continue;
        }
        return absl::InternalError(
            absl::StrCat(NameOf(input_.holdings[i].entry), ": rank ",
                         rank.value(), " wants it and no transfer brings it"));
      }
    }
    return absl::OkStatus();
  }

  const RedistributionInput& input_;
  const TransferPlan& plan_;
  std::vector<size_t> holding_of_entry_;
  absl::flat_hash_set<std::pair<size_t, Rank>> delivered_;
  int64_t wasted_ = 0;
};

}  // namespace

absl::Status ValidateRedistribution(const RedistributionInput& input,
                                    const TransferPlan& plan) {
  return RedistributionValidator(input, plan).Run();
}

}  // namespace sluice::coordinator
