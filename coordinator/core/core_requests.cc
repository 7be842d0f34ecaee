// Part of CoordinatorCore: requests of clients.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/retry.h"
#include "common/status_macros.h"
#include "coordinator/core/core_state.h"

namespace sluice::coordinator {
namespace {

constexpr size_t kMaxIdsPerRequest = 65536;
constexpr int32_t kDefaultPage = 1000;
constexpr int32_t kMaxPage = 10000;
// Cleared ids remembered for agents that come back.
constexpr size_t kMaxCleared = 65536;

absl::Status CheckIds(const std::vector<std::string>& sample_ids) {
  if (!sample_ids.empty() && sample_ids.size() <= kMaxIdsPerRequest) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("sample_ids: expected 1 to ",
                                                 kMaxIdsPerRequest, ", got ",
                                                 sample_ids.size()));
}

}  // namespace

void CoordinatorCore::State::Handle(const RegisterModelRequest& request) {
  definer.RegisterModel(request);
}

void CoordinatorCore::State::Handle(const RegisterPlacementRequest& request) {
  definer.RegisterPlacement(request);
}

void CoordinatorCore::State::Handle(const RemovePlacementRequest& request) {
  definer.RemovePlacement(request);
}

void CoordinatorCore::State::Handle(const GetModelRequest& request) {
  absl::StatusOr<Model*> model = models.FindModel(request.model);
  if (model.ok()) {
    context.ReplyOk(request.call, DescribeModel(sources, **model));
  } else {
    context.ReplyError(request.call, model.status());
  }
}

void CoordinatorCore::State::Handle(const LoadRequest& request) {
  operations.Start(request);
}

void CoordinatorCore::State::Handle(const SyncRequest& request) {
  operations.Start(request);
}

void CoordinatorCore::State::Handle(const VerifyRequest& request) {
  operations.Start(request);
}

void CoordinatorCore::State::Handle(const RedistributeRequest& request) {
  operations.Start(request);
}

void CoordinatorCore::State::Handle(const CancelRequest& request) {
  operations.Cancel(request);
}

// --- samples -----------------------------------------------------------------

absl::Status CoordinatorCore::State::TryLocate(const LocateRequest& request) {
  SLUICE_RETURN_IF_ERROR(CheckIds(request.sample_ids));
  SLUICE_RETURN_IF_ERROR(agents.CheckRecovered());
  SLUICE_ASSIGN_OR_RETURN(std::vector<Catalog::Located> located,
                          catalog.Locate(request.sample_ids, request.keys));
  LocateReply reply;
  for (Catalog::Located& one : located) {
    SampleLocation location;
    location.entry = std::move(one.entry);
    for (const Rank rank : one.holders) {
      location.holders.push_back(agents.Get(rank)->name);
    }
    location.owner = agents.Get(one.owner)->name;
    reply.locations.push_back(std::move(location));
  }
  context.ReplyOk(request.call, std::move(reply));
  return absl::OkStatus();
}

void CoordinatorCore::State::Handle(const LocateRequest& request) {
  if (absl::Status status = TryLocate(request); !status.ok()) {
    context.ReplyError(request.call, std::move(status));
  }
}

void CoordinatorCore::State::Handle(const ListSamplesRequest& request) {
  if (absl::Status status = agents.CheckRecovered(); !status.ok()) {
    context.ReplyError(request.call, std::move(status));
    return;
  }
  const int32_t page = request.page_size <= 0
                           ? kDefaultPage
                           : std::min(request.page_size, kMaxPage);
  ListSamplesReply reply;
  reply.sample_ids = catalog.List(request.page_token, page);
  if (!reply.sample_ids.empty() && catalog.HasAfter(reply.sample_ids.back())) {
    reply.next_page_token = reply.sample_ids.back();
  }
  reply.total = catalog.num_samples();
  context.ReplyOk(request.call, std::move(reply));
}

absl::Status CoordinatorCore::State::TryClear(const ClearRequest& request) {
  SLUICE_ASSIGN_OR_RETURN(
      const Outcomes::Outcome* outcome,
      outcomes.Find(request.request_id, request.fingerprint));
  if (outcome != nullptr && outcome->finished) {
    context.ReplyOk(request.call, ClearReply{outcome->dropped});
    return absl::OkStatus();
  }
  if (outcome != nullptr) {
    return Retryable(absl::UnavailableError(absl::StrCat(
        "request \"", request.request_id, "\" is being written; retry")));
  }
  SLUICE_RETURN_IF_ERROR(CheckIds(request.sample_ids));
  SLUICE_RETURN_IF_ERROR(agents.CheckRecovered());
  SLUICE_RETURN_IF_ERROR(outcomes.CheckRoom());
  SLUICE_ASSIGN_OR_RETURN(const std::vector<Catalog::Located> located,
                          catalog.Locate(request.sample_ids, {}));
  for (const Catalog::Located& one : located) {
    const OperationId user = operations.UserOf(one.id);
    if (user == OperationId()) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        "sample \"", one.entry.sample_id, "\", key \"", one.entry.key,
        "\": operation ", user.value(), " reads it"));
  }
  int64_t dropped = 0;
  Clear(request, &dropped);
  if (request.request_id.empty()) {
    context.ReplyOk(request.call, ClearReply{dropped});
    return absl::OkStatus();
  }
  outcomes.Begin(request.request_id, request.fingerprint, OperationId());
  OutcomeRecord record = outcomes.MakeRecord(
      request.request_id, absl::OkStatus(), OperationResult(), dropped);
  store.WriteUntilDone(
      {record}, [this, record, call = request.call](const absl::Status&) {
        outcomes.Finish(record, /*durable=*/true);
        context.ReplyOk(call, ClearReply{record.dropped});
      });
  return absl::OkStatus();
}

// Invisible at once; agents drop them when they may.
void CoordinatorCore::State::Clear(const ClearRequest& request,
                                   int64_t* dropped) {
  for (Catalog::Drop& drop :
       catalog.Clear(request.sample_ids, request.keep_owners, dropped)) {
    agents.Send(drop.rank, ClearSamplesCommand{std::move(drop.sample_ids),
                                               std::move(drop.keys)});
  }
  if (request.keep_owners) return;
  for (const std::string& sample_id : request.sample_ids) {
    if (!cleared.insert(sample_id).second) continue;
    cleared_order.push_back(sample_id);
    if (cleared_order.size() <= kMaxCleared) continue;
    cleared.erase(cleared_order.front());
    cleared_order.pop_front();
  }
}

void CoordinatorCore::State::Handle(const ClearRequest& request) {
  if (absl::Status status = TryClear(request); !status.ok()) {
    context.ReplyError(request.call, std::move(status));
  }
}

// --- status ------------------------------------------------------------------

void CoordinatorCore::State::Handle(const StatusRequest& request) {
  context.ReplyOk(request.call, MakeStatus(sources, request.max_events));
}

void CoordinatorCore::State::Handle(const WatchEventsRequest& request) {
  log.Watch(request);
}

}  // namespace sluice::coordinator
