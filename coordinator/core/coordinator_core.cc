#include "coordinator/core/coordinator_core.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "common/overloaded.h"
#include "common/status_macros.h"
#include "coordinator/core/core_state.h"

namespace sluice::coordinator {

CoordinatorCore::CoordinatorCore(CoreOptions options)
    : state_(std::make_unique<State>(options)) {}

CoordinatorCore::~CoordinatorCore() = default;

std::vector<Effect> CoordinatorCore::Step(absl::Time now, const Event& event) {
  State& state = *state_;
  state.CheckStall(now);
  state.context.now = std::max(state.context.now, now);
  state.Dispatch(event);
  state.Settle();
  return std::exchange(state.context.effects, {});
}

bool CoordinatorCore::Idle() const {
  return state_->operations.Idle() && state_->definer.Idle() &&
         state_->store.Idle();
}

CoordinatorCore::State::State(const CoreOptions& options)
    : context(options),
      log(context),
      store(context),
      ids(context, store),
      outcomes(context, store),
      agents(context, log, store),
      decisions(context, store),
      operations({context, log, store, ids, outcomes, agents, catalog, models,
                  decisions}),
      definer({context, log, store, ids, outcomes, agents, catalog, models,
               operations}),
      steps(log, store, agents, models),
      sources{context, log, agents, catalog, models, operations} {}

void CoordinatorCore::State::Dispatch(const Event& event) {
  const bool may_run = started || std::holds_alternative<StartEvent>(event) ||
                       std::holds_alternative<PersistedEvent>(event);
  if (!may_run) {
    held.push_back(event);
    return;
  }
  std::visit([this](const auto& e) { Handle(e); }, event);
}

void CoordinatorCore::State::Settle() {
  for (std::vector<MembershipChange> changes = agents.TakeChanges();
       !changes.empty(); changes = agents.TakeChanges()) {
    for (const MembershipChange& change : changes) OnMembershipChange(change);
  }
  if (started) operations.Pump();
  log.Flush();
}

void CoordinatorCore::State::CheckStall(absl::Time now) {
  const absl::Duration gap = now - std::exchange(last_event, now);
  if (!started || gap <= context.options.stall_threshold) return;
  agents.ExtendLeases(gap);
  operations.ExtendDeadlines(gap);
  log.Add("stalled", context.cluster_id,
          absl::StrCat("the coordinator stood still for ",
                       absl::FormatDuration(gap), "; leases are extended"));
}

// --- start -------------------------------------------------------------------

void CoordinatorCore::State::Handle(const StartEvent& event) {
  context.started = context.now;
  ClusterRecord cluster{event.new_cluster_id, Epoch(0), OperationId(0)};
  for (const Record& record : event.records) {
    if (const auto* known = std::get_if<ClusterRecord>(&record)) {
      cluster = *known;
    }
  }
  context.cluster_id = cluster.cluster_id;
  context.epoch = Epoch(cluster.epoch.value() + 1);
  Restore(event.records);
  store.Write(
      {ids.Start(cluster.last_operation)}, [this](const absl::Status& status) {
        if (!status.ok()) {
          context.Emit(
              Fatal{Annotate(status, "the epoch could not be written")});
          return;
        }
        started = true;
        ids.Started();
        log.Add("started", context.cluster_id,
                absl::StrCat("epoch ", context.epoch.value()));
        for (const Event& waiting : std::exchange(held, {})) {
          Dispatch(waiting);
        }
      });
}

void CoordinatorCore::State::Restore(const std::vector<Record>& records) {
  // Three rounds: what others refer to comes first.
  for (const Record& record : records) {
    if (const auto* agent = std::get_if<AgentRecord>(&record)) {
      agents.Restore(*agent);
    } else if (const auto* model = std::get_if<ModelRecord>(&record)) {
      models.AddModel(std::make_shared<const ModelSpec>(model->spec),
                      model->last_version);
    } else if (const auto* outcome = std::get_if<OutcomeRecord>(&record)) {
      outcomes.Restore(*outcome);
    }
  }
  for (const Record& record : records) {
    const auto* stored = std::get_if<PlacementRecord>(&record);
    if (stored == nullptr) continue;
    absl::StatusOr<Model*> model = models.FindModel(stored->ref.model);
    absl::StatusOr<Placement> placement =
        model.ok()
            ? MakePlacement(stored->ref, (*model)->spec, stored->layout,
                            stored->mesh, stored->agents, stored->storage)
            : model.status();
    if (placement.ok()) {
      models.AddPlacement(*std::move(placement));
    } else {
      log.Add("placement_not_restored", stored->ref.placement,
              placement.status().ToString());
    }
  }
  for (const Record& record : records) {
    if (const auto* version = std::get_if<VersionRecord>(&record)) {
      models.Restore(*version);
    } else if (const auto* decision = std::get_if<DecisionRecord>(&record)) {
      RestoreDecision(*decision);
    }
  }
}

void CoordinatorCore::State::RestoreDecision(const DecisionRecord& record) {
  Decision decision;
  decision.record = record;
  decision.restored = true;
  for (const std::string& name : record.agents) {
    if (const Agent* agent = agents.Find(name)) {
      decision.unconfirmed.insert(agent->rank);
    }
  }
  decisions.Add(std::move(decision));
}

// --- time, store, planner, callers -------------------------------------------

void CoordinatorCore::State::Handle(const TickEvent&) {
  store.Retry();
  agents.Tick();
  definer.Tick();
  operations.Tick();
  outcomes.Tick();
  decisions.Tick([this](Rank rank) { return agents.Get(rank)->lost; });
  agents.FlushPeers();
}

void CoordinatorCore::State::Handle(const PersistedEvent& event) {
  store.OnPersisted(event);
  operations.Wake();  // a version may be there now
}

void CoordinatorCore::State::Handle(const PlanReadyEvent& event) {
  operations.OnPlanReady(event);
}

void CoordinatorCore::State::Handle(const CallerGoneEvent& event) {
  operations.CallerGone(event.call);
  log.CallerGone(event.call);
}

}  // namespace sluice::coordinator
