#include "coordinator/core/outcomes.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace sluice::coordinator {
namespace {

constexpr size_t kMaxOutcomes = size_t{1} << 18;
constexpr size_t kMaxRequestIdBytes = 256;

}  // namespace

void Outcomes::Restore(const OutcomeRecord& record) {
  Finish(record, /*durable=*/true);
}

absl::StatusOr<const Outcomes::Outcome*> Outcomes::Find(
    const std::string& request_id, uint64_t fingerprint) const {
  if (request_id.size() > kMaxRequestIdBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("request_id: expected at most ", kMaxRequestIdBytes,
                     " bytes, got ", request_id.size()));
  }
  const auto it = outcomes_.find(request_id);
  if (it == outcomes_.end()) return static_cast<const Outcome*>(nullptr);
  if (it->second.fingerprint != fingerprint) {
    return absl::InvalidArgumentError(
        absl::StrCat("request_id \"", request_id,
                     "\" was used for a different request before"));
  }
  return &it->second;
}

absl::Status Outcomes::CheckRoom() const {
  if (outcomes_.size() < kMaxOutcomes) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "too many requests with a request_id: ", outcomes_.size(),
      " outcomes are kept, at most ", kMaxOutcomes, "; they are kept for ",
      absl::FormatDuration(context_.options.outcome_retention)));
}

void Outcomes::Begin(const std::string& request_id, uint64_t fingerprint,
                     OperationId operation) {
  if (request_id.empty()) return;
  outcomes_[request_id] = Outcome{.fingerprint = fingerprint,
                                  .finished = false,
                                  .operation = operation,
                                  .status = absl::OkStatus(),
                                  .result = {},
                                  .dropped = 0};
}

OutcomeRecord Outcomes::MakeRecord(const std::string& request_id,
                                   const absl::Status& status,
                                   const OperationResult& result,
                                   int64_t dropped) const {
  OutcomeRecord record;
  record.request_id = request_id;
  record.status = status;
  record.result = result;
  record.dropped = dropped;
  record.expires = context_.now + context_.options.outcome_retention;
  if (const auto it = outcomes_.find(request_id); it != outcomes_.end()) {
    record.fingerprint = it->second.fingerprint;
    record.operation = it->second.operation;
  }
  return record;
}

void Outcomes::Finish(const OutcomeRecord& record, bool durable) {
  if (record.request_id.empty()) return;
  outcomes_[record.request_id] = Outcome{.fingerprint = record.fingerprint,
                                         .finished = true,
                                         .operation = record.operation,
                                         .status = record.status,
                                         .result = record.result,
                                         .dropped = record.dropped};
  Expiry expiry{record.expires, record.request_id, durable};
  const auto later = std::upper_bound(
      expiries_.begin(), expiries_.end(), expiry,
      [](const Expiry& a, const Expiry& b) { return a.time < b.time; });
  expiries_.insert(later, std::move(expiry));
}

void Outcomes::Forget(const std::string& request_id) {
  outcomes_.erase(request_id);
}

void Outcomes::Tick() {
  std::vector<Record> erased;
  while (!expiries_.empty() && expiries_.front().time <= context_.now) {
    const Expiry expiry = std::move(expiries_.front());
    expiries_.pop_front();
    outcomes_.erase(expiry.request_id);
    if (!expiry.durable) continue;
    OutcomeRecord record;
    record.request_id = expiry.request_id;
    record.removed = true;
    erased.push_back(std::move(record));
  }
  if (!erased.empty()) store_.WriteUntilDone(std::move(erased));
}

}  // namespace sluice::coordinator
