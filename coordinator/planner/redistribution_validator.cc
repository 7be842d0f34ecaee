// ValidateRedistribution: proves a plan of samples against who holds what.

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/status_macros.h"
#include "coordinator/planner/planners.h"
#include "coordinator/planner/validator_checks.h"

namespace sluice::coordinator {
namespace {

std::string NameOf(const SampleEntry& entry) {
  return absl::StrCat("sample \"", entry.sample_id, "\" key \"", entry.key,
                      "\"");
}

bool Has(const std::vector<Rank>& ascending, Rank rank) {
  return std::binary_search(ascending.begin(), ascending.end(), rank);
}

using Arrival = std::pair<Rank, uint32_t>;  // who gets it, by which transfer

class RedistributionValidator {
 public:
  RedistributionValidator(const RedistributionInput& input,
                          const TransferPlan& plan)
      : input_(input), plan_(plan) {}

  absl::Status Run() {
    SLUICE_RETURN_IF_ERROR(CheckTransferOrder(input_.topology, plan_));
    SLUICE_RETURN_IF_ERROR(MatchEntries());
    for (const SampleEntry& entry : plan_.entries) {
      bytes_.push_back(entry.num_bytes());
    }
    for (const Transfer& transfer : plan_.transfers) {
      SLUICE_RETURN_IF_ERROR(CheckTransfer(transfer));
    }
    SLUICE_RETURN_IF_ERROR(CheckArrivals());
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

  // Finds the holding of each entry; each is used once and unchanged. Planners
  // list entries in the order of the holdings; any other is looked up by name.
  absl::Status MatchEntries() {
    std::vector<char> used(input_.holdings.size());
    size_t next = 0;
    for (const SampleEntry& entry : plan_.entries) {
      while (next < used.size() && !SameName(next, entry)) ++next;
      const size_t index = next < used.size() ? next++ : IndexOf(entry);
      if (index >= used.size()) {
        return absl::InternalError(
            absl::StrCat(NameOf(entry), " was not asked for"));
      }
      if (used[index]) {
        return absl::InternalError(
            absl::StrCat(NameOf(entry), " is listed twice"));
      }
      used[index] = 1;
      if (!(entry == input_.holdings[index].entry)) {
        return absl::InternalError(
            absl::StrCat(NameOf(entry),
                         " differs in type, lengths or shape from what is "
                         "held"));
      }
      holding_of_entry_.push_back(index);
    }
    return absl::OkStatus();
  }

  bool SameName(size_t index, const SampleEntry& entry) const {
    const SampleEntry& held = input_.holdings[index].entry;
    return held.sample_id == entry.sample_id && held.key == entry.key;
  }

  // Returns the position of an entry's holding, or their number.
  size_t IndexOf(const SampleEntry& entry) {
    if (by_name_.empty()) {
      for (size_t i = 0; i < input_.holdings.size(); ++i) {
        const SampleEntry& held = input_.holdings[i].entry;
        by_name_.emplace(Name(held.sample_id, held.key), i);
      }
    }
    const auto it = by_name_.find(Name(entry.sample_id, entry.key));
    return it == by_name_.end() ? input_.holdings.size() : it->second;
  }

  absl::Status CheckTransfer(const Transfer& transfer) {
    if (!(transfer.params == ParamBundle{}) ||
        transfer.destination_placement != 0 ||
        transfer.wire_dtype != DType::kUnspecified) {
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
      bytes += bytes_[entry];
      SLUICE_RETURN_IF_ERROR(CheckSource(transfer, entry));
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
    if (Has(holders, transfer.source)) return absl::OkStatus();
    return PlanFault(transfer, absl::StrCat(NameOf(plan_.entries[entry]),
                                            ": rank ", transfer.source.value(),
                                            " does not hold it at the start"));
  }

  // Who gets each entry: (rank, transfer), in one list cut by entry.
  void CollectArrivals() {
    begin_of_entry_.assign(plan_.entries.size() + 1, 0);
    for (const Transfer& transfer : plan_.transfers) {
      for (const uint32_t entry : transfer.samples)
        ++begin_of_entry_[entry + 1];
    }
    for (size_t e = 1; e < begin_of_entry_.size(); ++e) {
      begin_of_entry_[e] += begin_of_entry_[e - 1];
    }
    arrivals_.resize(begin_of_entry_.back());
    std::vector<size_t> next(begin_of_entry_.begin(), begin_of_entry_.end());
    for (const Transfer& transfer : plan_.transfers) {
      for (const uint32_t entry : transfer.samples) {
        arrivals_[next[entry]++] = {transfer.destination, transfer.id};
      }
    }
  }

  // Every want is met, and nobody gets the same thing twice. A holder may get
  // what it has, and a rank what it did not want: that is waste.
  absl::Status CheckArrivals() {
    CollectArrivals();
    std::vector<char> arrives(input_.holdings.size());
    for (size_t e = 0; e < plan_.entries.size(); ++e) {
      const size_t index = holding_of_entry_[e];
      arrives[index] = 1;
      SLUICE_RETURN_IF_ERROR(
          CheckEntry(index, e,
                     absl::MakeSpan(arrivals_).subspan(
                         begin_of_entry_[e],
                         begin_of_entry_[e + 1] - begin_of_entry_[e])));
    }
    for (size_t i = 0; i < arrives.size(); ++i) {
      if (!arrives[i]) SLUICE_RETURN_IF_ERROR(CheckWanted(i, {}));
    }
    return absl::OkStatus();
  }

  absl::Status CheckEntry(size_t index, size_t entry,
                          absl::Span<Arrival> arrivals) {
    std::sort(arrivals.begin(), arrivals.end());
    const std::vector<Rank>& holders = input_.holdings[index].holders;
    const std::vector<Rank>& wanted = input_.wanted[index];
    for (size_t a = 0; a < arrivals.size(); ++a) {
      const auto& [rank, id] = arrivals[a];
      if (a > 0 && arrivals[a - 1].first == rank) {
        return PlanFault(
            plan_.transfers[id],
            absl::StrCat(NameOf(plan_.entries[entry]), ": delivered to rank ",
                         rank.value(), " twice"));
      }
      if (Has(holders, rank) || !Has(wanted, rank)) wasted_ += bytes_[entry];
    }
    return CheckWanted(index, arrivals);
  }

  // `arrivals` by rank.
  absl::Status CheckWanted(size_t index,
                           absl::Span<const Arrival> arrivals) const {
    const SampleHolding& held = input_.holdings[index];
    size_t next = 0;
    for (const Rank rank : input_.wanted[index]) {  // ascending
      while (next < arrivals.size() && arrivals[next].first < rank) ++next;
      if (next < arrivals.size() && arrivals[next].first == rank) continue;
      if (Has(held.holders, rank)) continue;
      return absl::InternalError(
          absl::StrCat(NameOf(held.entry), ": rank ", rank.value(),
                       " wants it and no transfer brings it"));
    }
    return absl::OkStatus();
  }

  using Name = std::pair<absl::string_view, absl::string_view>;

  const RedistributionInput& input_;
  const TransferPlan& plan_;
  std::vector<size_t> holding_of_entry_;
  absl::flat_hash_map<Name, size_t> by_name_;  // made where it is needed
  std::vector<int64_t> bytes_;                 // by entry
  std::vector<Arrival> arrivals_;
  std::vector<size_t> begin_of_entry_;
  int64_t wasted_ = 0;
};

}  // namespace

absl::Status ValidateRedistribution(const RedistributionInput& input,
                                    const TransferPlan& plan) {
  return RedistributionValidator(input, plan).Run();
}

}  // namespace sluice::coordinator
