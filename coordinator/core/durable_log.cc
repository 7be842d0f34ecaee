#include "coordinator/core/durable_log.h"

#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "common/overloaded.h"
#include "common/status_macros.h"

namespace sluice::coordinator {

std::string RecordKey(const Record& record) {
  return std::visit(
      Overloaded{
          [](const ClusterRecord&) { return std::string("cluster"); },
          [](const AgentRecord& r) { return absl::StrCat("agent/", r.name); },
          [](const ModelRecord& r) {
            return absl::StrCat("model/", r.spec.name);
          },
          [](const PlacementRecord& r) {
            return absl::StrCat("placement/", r.ref.model, "/",
                                r.ref.placement);
          },
          [](const VersionRecord& r) {
            return absl::StrCat("version/", r.model, "/", r.version.value());
          },
          [](const DecisionRecord& r) {
            return absl::StrCat("decision/", r.operation.value());
          },
          [](const OutcomeRecord& r) {
            return absl::StrCat("outcome/", r.request_id);
          },
      },
      record);
}

uint64_t DurableLog::Emit(const std::vector<Record>& records) {
  const uint64_t id = ++last_id_;
  for (const Record& record : records) {
    const std::string key = RecordKey(record);
    // What waits to be repeated is older.
    for (Pending& refused : refused_) {
      std::erase_if(refused.records, [&key](const Record& old) {
        return RecordKey(old) == key;
      });
    }
    newest_[key] = id;
  }
  context_.Emit(Persist{id, records});
  return id;
}

void DurableLog::Write(std::vector<Record> records, Done done) {
  const uint64_t id = Emit(records);
  pending_[id] = {std::move(records), false, std::move(done)};
}

void DurableLog::WriteUntilDone(std::vector<Record> records, Done done) {
  const uint64_t id = Emit(records);
  pending_[id] = {std::move(records), true, std::move(done)};
}

void DurableLog::OnPersisted(const PersistedEvent& event) {
  const auto it = pending_.find(event.persist_id);
  if (it == pending_.end()) return;  // answered before
  Pending pending = std::move(it->second);
  pending_.erase(it);
  const bool full = absl::IsResourceExhausted(event.status);
  if (!event.status.ok() && !full) {
    context_.Emit(
        Fatal{Annotate(event.status, "the state store is not writable")});
    return;
  }
  std::vector<Record> current;
  for (Record& record : pending.records) {
    const auto newest = newest_.find(RecordKey(record));
    if (newest != newest_.end() && newest->second > event.persist_id) continue;
    if (newest != newest_.end()) newest_.erase(newest);
    current.push_back(std::move(record));
  }
  if (full && pending.until_done) {
    pending.records = std::move(current);
    refused_.push_back(std::move(pending));
    return;
  }
  if (pending.done) pending.done(event.status);
}

void DurableLog::Retry() {
  std::vector<Pending> refused = std::move(refused_);
  refused_.clear();
  for (Pending& pending : refused) {
    // All of it was superseded meanwhile.
    if (pending.records.empty() && !pending.done) continue;
    WriteUntilDone(std::move(pending.records), std::move(pending.done));
  }
}

}  // namespace sluice::coordinator
