#include "tests/sim/faults.h"

#include <algorithm>
#include <utility>

namespace sluice::sim {

// Mostly shorter than a lease, sometimes longer.
absl::Duration Faults::Down() {
  return world_.random.OneIn(10)
             ? world_.random.Between(absl::Seconds(6), absl::Seconds(14))
             : world_.random.Between(absl::Milliseconds(1), absl::Seconds(2));
}

void Faults::Begin() {
  active_ = true;
  Weather& weather = targets_.coordinator->weather;
  weather.delay =
      world_.random.Between(absl::Microseconds(100), absl::Milliseconds(8));
  if (policy_.weather) {
    weather.lose_one_in = 20;
    weather.repeat_one_in = 10;
    weather.spike_one_in = 100;
  }
  if (policy_.moment_one_in > 0) {
    // Not inside of what is going on: as the very next thing.
    world_.on_moment = [this](Moment moment, const std::string& who) {
      if (!active_ || !world_.random.OneIn(policy_.moment_one_in)) return;
      world_.scheduler.After(absl::ZeroDuration(),
                             [this, moment, who] { OnMoment(moment, who); });
    };
  }
  Next();
}

void Faults::End() {
  active_ = false;
  world_.on_moment = nullptr;
  world_.history.Note("no more faults");
  SimCoordinator& coordinator = *targets_.coordinator;
  coordinator.weather = Weather();
  coordinator.cut.clear();
  if (coordinator.stopped()) coordinator.Continue();
  if (!coordinator.alive()) coordinator.Start();
  for (SimAgent* agent : targets_.agents) {
    if (agent->stopped()) agent->Continue();
    if (!agent->alive()) agent->Start();
  }
  for (Trainer* trainer : targets_.trainers) {
    if (!trainer->alive()) trainer->Start();
  }
  for (size_t i = 0; i < targets_.workers.size(); ++i) {
    if (!targets_.workers[i]->alive()) targets_.start_worker[i]();
  }
}

void Faults::Next() {
  world_.scheduler.After(
      world_.random.Between(absl::Milliseconds(100), absl::Seconds(8)), [this] {
        if (!active_) return;
        One();
        Next();
      });
}

SimAgent* Faults::FindAgent(const std::string& name) {
  for (SimAgent* agent : targets_.agents) {
    if (agent->name() == name) return agent;
  }
  return nullptr;
}

void Faults::OnMoment(Moment moment, const std::string& who) {
  if (!active_) return;
  SimAgent* agent = FindAgent(who);
  if (agent == nullptr) agent = world_.random.Pick(targets_.agents);
  const bool coordinators_turn = moment == Moment::kDecisionOrdered ||
                                 moment == Moment::kDecisionDurable ||
                                 moment == Moment::kCommitSent;
  if (policy_.kill_coordinator &&
      world_.random.OneIn(coordinators_turn ? 2 : 5)) {
    CrashCoordinator();
  } else if (moment == Moment::kWriting && policy_.kill_workers &&
             world_.random.OneIn(2)) {
    for (Trainer* trainer : targets_.trainers) {
      if (trainer->name() == who) KillTrainer(*trainer);
    }
  } else if (policy_.stop_agents && world_.random.OneIn(3)) {
    StopAgent(*agent);
  } else if (policy_.break_streams && world_.random.OneIn(3)) {
    targets_.coordinator->BreakStream(*agent);
  } else if (policy_.kill_agents) {
    KillAgent(*agent);
  }
}

void Faults::One() {
  SimAgent& agent = *world_.random.Pick(targets_.agents);
  switch (world_.random.Below(9)) {
    case 0:
    case 1:
      if (policy_.kill_agents) KillAgent(agent);
      return;
    case 2:
      if (policy_.stop_agents) StopAgent(agent);
      return;
    case 3:
      if (policy_.kill_coordinator) CrashCoordinator();
      return;
    case 4:
      if (policy_.stop_coordinator) StopCoordinator();
      return;
    case 5:
      if (policy_.break_streams) Break(agent);
      return;
    case 6:
      if (policy_.cut_agents) Cut(agent);
      return;
    case 7:
      if (policy_.kill_workers && !targets_.trainers.empty()) {
        KillTrainer(*world_.random.Pick(targets_.trainers));
      }
      return;
    default:
      if (policy_.kill_workers && !targets_.workers.empty()) {
        KillWorker(static_cast<size_t>(world_.random.Below(
            static_cast<int64_t>(targets_.workers.size()))));
      }
  }
}

void Faults::Break(SimAgent& agent) {
  if (targets_.trainers.empty() || world_.random.OneIn(2)) {
    targets_.coordinator->BreakStream(agent);
  } else {
    world_.random.Pick(targets_.trainers)->BreakSession();
  }
}

void Faults::KillAgent(SimAgent& agent) {
  if (!agent.alive()) return;
  agent.Kill();
  world_.scheduler.After(Down(), [&agent] {
    if (!agent.alive()) agent.Start();
  });
}

void Faults::StopAgent(SimAgent& agent) {
  if (!agent.running()) return;
  world_.history.Note(agent.name(), " is stopped");
  agent.Stop();
  world_.scheduler.After(Down(), [this, &agent] {
    if (!agent.stopped()) return;
    world_.history.Note(agent.name(), " goes on");
    agent.Continue();
  });
}

void Faults::CrashCoordinator() {
  SimCoordinator& coordinator = *targets_.coordinator;
  if (!coordinator.alive()) return;
  coordinator.Crash();
  world_.scheduler.After(Down(), [&coordinator] {
    if (!coordinator.alive()) coordinator.Start();
  });
}

void Faults::StopCoordinator() {
  SimCoordinator& coordinator = *targets_.coordinator;
  if (!coordinator.running()) return;
  world_.history.Note("the coordinator is stopped");
  coordinator.Stop();
  world_.scheduler.After(Down(), [this, &coordinator] {
    if (!coordinator.stopped()) return;
    world_.history.Note("the coordinator goes on");
    coordinator.Continue();
  });
}

void Faults::KillTrainer(Trainer& trainer) {
  if (!trainer.alive()) return;
  trainer.Kill();
  world_.scheduler.After(Down(), [&trainer] {
    if (!trainer.alive()) trainer.Start();
  });
}

void Faults::KillWorker(size_t index) {
  Process* worker = targets_.workers[index];
  if (!worker->alive()) return;
  targets_.kill_worker[index]();
  world_.scheduler.After(Down(), [this, index, worker] {
    if (!worker->alive()) targets_.start_worker[index]();
  });
}

void Faults::Cut(SimAgent& agent) {
  world_.history.Note(agent.name(), " is cut off");
  targets_.coordinator->cut[agent.name()] = true;
  targets_.coordinator->BreakStream(agent);
  world_.scheduler.After(Down(), [this, &agent] {
    targets_.coordinator->cut.erase(agent.name());
  });
}

}  // namespace sluice::sim
