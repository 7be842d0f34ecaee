#include "tests/sim/sim_cluster.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/dtype.h"

namespace sluice::sim {
namespace {

constexpr int64_t kMaxSteps = 3'000'000;
constexpr absl::Duration kFaultsLast = absl::Seconds(40);

// As trainers and engines hold the same tensors in types of their own: in the
// model's, in the narrow one, or in the wide one.
void HoldInSomeTypes(Random& random, Layout& layout) {
  for (LayoutRule& rule : layout.rules) {
    rule.dtype = random.Pick<DType>(
        {DType::kUnspecified, DType::kUnspecified, DType::kBF16, DType::kF32});
  }
}

LayoutRule Rule(const std::string& pattern, int split_dim,
                StageRule stage = StageRule::kAll) {
  LayoutRule rule;
  rule.pattern = pattern;
  rule.stage = stage;
  if (split_dim >= 0) {
    DimSplit split;
    split.dim = split_dim;
    split.axes = {"tensor"};
    rule.splits.push_back(split);
  }
  return rule;
}

}  // namespace

SimCluster::SimCluster(uint64_t seed, const FaultPolicy& policy, bool verbose)
    : policy_(policy),
      world_(seed, verbose),
      coordinator_(world_, coordinator::CoreOptions(),
                   [this](const std::string& address) -> AgentEnd* {
                     for (const auto& agent : agents_) {
                       if (agent->alive() && agent->address() == address) {
                         return agent.get();
                       }
                     }
                     return nullptr;
                   }) {
  Random& random = world_.random;
  MakeModel();
  const int64_t count = random.Pick<int64_t>({2, 3, 4, 4, 6});
  const int64_t nodes = 1 + random.Below(2);
  const bool new_addresses = random.OneIn(2);
  for (int64_t i = 0; i < count; ++i) {
    SimAgent::Options options;
    options.name = absl::StrCat("agent-", i);
    options.node = absl::StrCat("node-", i * nodes / count);
    options.new_addresses = new_addresses;
    agents_.push_back(std::make_unique<SimAgent>(
        world_, options, coordinator_, [this](Rank rank) -> Device* {
          for (const auto& agent : agents_) {
            if (agent->alive() && agent->rank() == rank) {
              return &agent->device();
            }
          }
          return nullptr;
        }));
  }
  placements_.push_back(MakeTrainerPlacement());
  placements_.push_back(MakeRolloutPlacement("rollout"));
  if (random.OneIn(3)) placements_.push_back(MakeRolloutPlacement("eval"));
  MakeWorkers();
}

SimCluster::~SimCluster() = default;

void SimCluster::MakeModel() {
  auto model = std::make_shared<ModelSpec>();
  model->name = kModel;
  model->tensors.push_back({"embed", DType::kBF16, {10, 3}});
  for (int layer = 0; layer < 3; ++layer) {
    model->tensors.push_back(
        {absl::StrCat("layers.", layer, ".w"), DType::kF32, {6, 5}});
  }
  model->tensors.push_back({"norm", DType::kBF16, {5}});
  world_.model = std::move(model);
}

DeclaredPlacement SimCluster::MakeTrainerPlacement() {
  Random& random = world_.random;
  const auto count = static_cast<int64_t>(agents_.size());
  DeclaredPlacement placement;
  placement.name = "trainer";
  placement.storage = random.OneIn(3) ? Storage::kArena : Storage::kLent;
  for (const auto& agent : agents_) placement.agents.push_back(agent.get());
  Layout& layout = placement.layout;
  layout.name = "trainer-layout";
  const bool halves = count % 2 == 0;
  const int64_t shape = halves ? random.Below(3) : 0;
  StageRule first = StageRule::kAll, by_layer = first, last = first;
  if (shape == 1) {
    placement.axes = {{"pipe", 2}, {"tensor", count / 2}};
    layout.stage_axis = "pipe";
    first = StageRule::kFirst;
    by_layer = StageRule::kByLayer;
    last = StageRule::kLast;
  } else if (shape == 2) {
    placement.axes = {{"data", 2}, {"tensor", count / 2}};
    layout.replica_axes = {"data"};
  } else {
    placement.axes = {{"tensor", count}};
  }
  layout.rules = {Rule("embed", 0, first),
                  Rule("layers.{layer}.w", 0, by_layer),
                  Rule("norm", -1, last)};
  HoldInSomeTypes(random, layout);
  return placement;
}

DeclaredPlacement SimCluster::MakeRolloutPlacement(const std::string& name) {
  Random& random = world_.random;
  DeclaredPlacement placement;
  placement.name = name;
  // On all agents or on some of them, in any order.
  for (const auto& agent : agents_) placement.agents.push_back(agent.get());
  for (size_t i = placement.agents.size() - 1; i > 0; --i) {
    std::swap(placement.agents[i],
              placement.agents[static_cast<size_t>(
                  random.Below(static_cast<int64_t>(i) + 1))]);
  }
  if (random.OneIn(3)) placement.agents.pop_back();
  const auto count = static_cast<int64_t>(placement.agents.size());
  const int64_t replicas = count % 2 == 0 && random.OneIn(2) ? 2 : 1;
  placement.axes = {{"data", replicas}, {"tensor", count / replicas}};
  placement.layout.name = name + "-layout";
  placement.layout.replica_axes = {"data"};
  placement.layout.rules = {Rule("embed", 1), Rule("layers.{layer}.w", 1),
                            Rule("norm", -1)};
  HoldInSomeTypes(random, placement.layout);
  return placement;
}

void SimCluster::MakeWorkers() {
  Driver::Setup setup;
  Faults::Targets targets;
  targets.coordinator = &coordinator_;
  for (const auto& agent : agents_) {
    setup.agents.push_back(agent.get());
    targets.agents.push_back(agent.get());
    if (placements_[0].storage == Storage::kLent) {
      trainers_.push_back(
          std::make_unique<Trainer>(world_, *agent, placements_[0].name));
      setup.trainers.push_back(trainers_.back().get());
      targets.trainers.push_back(trainers_.back().get());
    }
  }
  for (size_t i = 1; i < placements_.size(); ++i) {
    const DeclaredPlacement& placement = placements_[i];
    const auto replicas = static_cast<size_t>(placement.axes[0].size);
    const size_t members = placement.agents.size() / replicas;
    for (size_t r = 0; r < replicas; ++r) {
      const auto begin =
          placement.agents.begin() + static_cast<ptrdiff_t>(r * members);
      readers_.push_back(std::make_unique<Reader>(
          world_, absl::StrCat("reader-", placement.name, "-", r),
          placement.name,
          std::vector<SimAgent*>(begin,
                                 begin + static_cast<ptrdiff_t>(members))));
    }
  }
  for (size_t i = 0; i < agents_.size(); i += 2) {
    producers_.push_back(
        std::make_unique<Producer>(world_, *agents_[i], book_));
  }
  for (const auto& reader : readers_) {
    targets.workers.push_back(reader.get());
    targets.kill_worker.push_back([r = reader.get()] { r->Kill(); });
    targets.start_worker.push_back([r = reader.get()] { r->Start(); });
  }
  for (const auto& producer : producers_) {
    targets.workers.push_back(producer.get());
    targets.kill_worker.push_back([p = producer.get()] { p->Kill(); });
    targets.start_worker.push_back([p = producer.get()] { p->Start(); });
  }
  setup.placements = placements_;
  setup.book = &book_;
  driver_ = std::make_unique<Driver>(world_, coordinator_, std::move(setup));
  faults_ = std::make_unique<Faults>(world_, policy_, std::move(targets));
}

Outcome SimCluster::Run() {
  coordinator_.Start();
  for (const auto& agent : agents_) agent->Start();
  for (const auto& trainer : trainers_) trainer->Start();
  for (const auto& reader : readers_) reader->Start();
  for (const auto& producer : producers_) producer->Start();
  driver_->Start();
  faults_->Begin();
  world_.scheduler.After(kFaultsLast, [this] {
    faults_->End();
    driver_->Quit();
    for (const auto& producer : producers_) producer->Quit();
    Quiesce(/*patience=*/180);
  });
  Outcome outcome;
  while (!done_ && !world_.history.failed() && world_.scheduler.RunOne()) {
    if (world_.random.OneIn(40)) LookAround();
    if (++outcome.steps > kMaxSteps) {
      world_.history.Violation("it does not end after ", outcome.steps,
                               " steps");
    }
  }
  outcome.violation = world_.history.violation();
  outcome.history = world_.history.Tail();
  for (const char* what : {"sync ok", "sync failed", "train ok", "verify ok",
                           "redistribute ok", "clear ok"}) {
    outcome.counts[what] = driver_->count(what);
  }
  for (const auto& reader : readers_)
    outcome.counts["reads"] += reader->reads();
  for (const auto& [what, n] : world_.counts) outcome.counts[what] += n;
  return outcome;
}

// --- invariants
// ------------------------------------------------------------------

void SimCluster::LookAround() {
  SimAgent& agent = *agents_[static_cast<size_t>(
      world_.random.Below(static_cast<int64_t>(agents_.size())))];
  std::vector<std::string> names;
  for (const DeclaredPlacement& placement : placements_) {
    names.push_back(placement.name);
    if (placement.storage != Storage::kLent) {
      CheckNoWayBack(agent, placement.name);
    }
  }
  agent.CheckCopies(names);
  if (!agent.running()) return;
  for (const auto& [id, sample] : book_.put) {
    // Some are gone, or were never here.
    for (const SampleEntry& entry : sample.entries) {
      agent.CheckSample(entry).IgnoreError();
    }
  }
}

// What is committed stays committed as long as the agent lives.
void SimCluster::CheckNoWayBack(SimAgent& agent, const std::string& placement) {
  const std::vector<CopyInventory> copies = agent.CopiesOf(placement);
  if (copies.empty()) return;
  Version newest;
  for (const CopyInventory& copy : copies) {
    if (copy.state == CopyState::kPublished) {
      newest = std::max(newest, copy.version);
    }
  }
  auto& [life, seen] = newest_[{agent.name(), placement}];
  if (life == agent.life() && newest < seen) {
    world_.history.Violation(agent.name(), " goes back from version ",
                             seen.value(), " of ", placement, " to ",
                             newest.value());
  }
  life = agent.life();
  seen = newest;
}

// Every call ends, within the longest deadline and a little more.
void SimCluster::Quiesce(int patience) {
  const bool quiet = driver_->quiet() && coordinator_.Idle() &&
                     !coordinator_.Status().recovering;
  if (quiet) {
    driver_->FinalRound([this] {
      for (const auto& reader : readers_) reader->Quit();
      world_.scheduler.After(absl::Seconds(20), [this] { CheckAtRest(); });
    });
  } else if (patience == 0) {
    std::vector<std::string> running;
    for (const auto& info : coordinator_.Status().operations) {
      if (info.update.phase == coordinator::OperationPhase::kDone ||
          info.update.phase == coordinator::OperationPhase::kFailed) {
        continue;
      }
      running.push_back(absl::StrCat(info.update.operation.value(), " phase ",
                                     static_cast<int>(info.update.phase)));
    }
    world_.history.Violation("something does not end; operations: ",
                             absl::StrJoin(running, ", "));
  } else {
    world_.scheduler.After(absl::Seconds(1),
                           [this, patience] { Quiesce(patience - 1); });
  }
}

void SimCluster::CheckAtRest() {
  done_ = true;
  for (const coordinator::AgentStatus& agent : coordinator_.Status().agents) {
    if (agent.state == coordinator::AgentState::kAlive) continue;
    world_.history.Violation("at rest, agent ", agent.name, " is in state ",
                             static_cast<int>(agent.state));
  }
  for (const auto& agent : agents_) {
    const std::vector<std::string> left = agent->device().Executions();
    if (!left.empty() || !agent->Idle()) {
      world_.history.Violation("at rest, ", agent->name(),
                               " still has operations ",
                               absl::StrJoin(left, ", "));
    }
    if (agent->device().num_buffers() != 0) {
      world_.history.Violation("at rest, ", agent->name(), " still holds ",
                               agent->device().num_buffers(), " buffers");
    }
  }
}

}  // namespace sluice::sim
