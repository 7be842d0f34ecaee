#include "coordinator/planner/simulation/simulator.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/planner/simulation/fair_share.h"
#include "coordinator/planner/simulation/link_graph.h"

namespace sluice::coordinator::simulation {
namespace {

// Ends this close, relative to the time, are one event: they differ by
// rounding.
constexpr double kSameTime = 1e-12;

size_t At(int32_t index) { return static_cast<size_t>(index); }

absl::Status Check(const TransferPlan& plan, const Topology& topology,
                   const SimulationOptions& options) {
  if (options.peer_window < 1 || options.receive_window < 0 ||
      options.num_steps < 1 || options.max_step_flows < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "simulation: expected a peer window, steps and flows of at least 1, ",
        "found ", options.peer_window, ", ", options.num_steps, " and ",
        options.max_step_flows));
  }
  const auto exists = [&](Rank rank) {
    return rank.value() >= 0 && rank.value() < topology.num_ranks() &&
           topology.node_of_rank[At(rank.value())] >= 0;
  };
  for (size_t i = 0; i < plan.transfers.size(); ++i) {
    const Transfer& transfer = plan.transfers[i];
    const auto error = [&](absl::string_view what) {
      return absl::InvalidArgumentError(
          absl::StrCat("transfer ", i, ": ", what));
    };
    if (transfer.id != i) return error("expected its position as its id");
    if (!exists(transfer.source) || !exists(transfer.destination)) {
      return error(absl::StrCat("rank ", transfer.source.value(), " or ",
                                transfer.destination.value(),
                                " is not in the topology of ",
                                topology.num_ranks(), " ranks"));
    }
    if (transfer.reads_after.has_value() && *transfer.reads_after >= i) {
      return error(absl::StrCat("reads after ", *transfer.reads_after,
                                ", which is no earlier transfer"));
    }
    if (transfer.bytes < 0) {
      return error(
          absl::StrCat("expected 0 bytes or more, found ", transfer.bytes));
    }
  }
  return absl::OkStatus();
}

// One run. Time goes from event to event: a transfer's latency has passed and
// it flows, it ends, all shares are found anew.
class Simulation {
 public:
  Simulation(const TransferPlan& plan, const LinkGraph& graph,
             int32_t num_ranks, const SimulationOptions& options)
      : plan_(plan),
        graph_(graph),
        options_(options),
        share_(graph.capacities()),
        receiving_(At(num_ranks) * kNumLinkClasses),
        used_(graph.capacities().size()),
        flows_on_(graph.capacities().size()),
        flow_of_(plan.transfers.size(), -1) {
    result_.transfers.resize(plan.transfers.size());
  }

  SimulationResult Run() {
    Account();
    ListDependents();
    NumberPeers();
    for (const Transfer& transfer : plan_.transfers) {
      if (!transfer.reads_after.has_value()) Enqueue(transfer.id);
    }
    StartAll();
    while (!events_.empty()) {
      now_ = std::max(now_, events_.top().time);
      const double until = now_ * (1 + kSameTime);
      bool solve = false;
      while (!events_.empty() && events_.top().time <= until) {
        const Event event = events_.top();
        events_.pop();
        if (event.kind == EventKind::kSolve) {
          solve = true;
          continue;
        }
        Handle(event);
      }
      StartAll();
      if (solve) Solve();
    }
    // Between two solutions links may have carried a little too much.
    result_.seconds = result_.busiest.empty() ? 0 : result_.busiest[0].seconds;
    for (const TransferTimes& times : result_.transfers) {
      result_.seconds = std::max(result_.seconds, times.end);
    }
    return std::move(result_);
  }

 private:
  enum class EventKind { kFlow, kEnd, kSolve };
  struct Event {
    double time = 0;
    EventKind kind = EventKind::kFlow;
    uint32_t transfer = 0;
    uint32_t generation = 0;  // of the flow's rate; older ones are void

    friend bool operator>(const Event& a, const Event& b) {
      return std::tie(a.time, a.kind, a.transfer, a.generation) >
             std::tie(b.time, b.kind, b.transfer, b.generation);
    }
  };
  using MinHeap =
      std::priority_queue<uint32_t, std::vector<uint32_t>, std::greater<>>;
  // The transfers from one rank to another that could start.
  struct Peers {
    MinHeap ready;
    int32_t under_way = 0;
  };
  // What one rank receives of one link class.
  struct Receiving {
    MinHeap ready;  // the first one of each pair of peers that has a place
    int32_t under_way = 0;
    bool touched = false;
  };
  struct Flow {
    uint32_t transfer = 0;
    uint32_t generation = 0;
    double left = 0;   // bytes, at `since`
    double since = 0;  // seconds
    double rate = 0;
  };

  const Transfer& TransferOf(uint32_t id) const { return plan_.transfers[id]; }
  size_t ReceivingOf(const Transfer& transfer) const {
    return At(transfer.destination.value()) * kNumLinkClasses +
           static_cast<size_t>(transfer.link);
  }

  // What each link carries in all, and with it how often shares are found.
  void Account() {
    std::vector<int64_t> bytes(graph_.capacities().size());
    std::vector<double> latencies(receiving_.size());
    for (const Transfer& transfer : plan_.transfers) {
      const LinkPath path = graph_.Path(transfer.source, transfer.destination);
      for (const int32_t link : path.span()) bytes[At(link)] += transfer.bytes;
      latencies[ReceivingOf(transfer)] +=
          graph_.Latency(transfer.source, transfer.destination);
    }
    std::vector<std::pair<double, int32_t>> order;
    for (size_t link = 0; link < bytes.size(); ++link) {
      if (bytes[link] == 0) continue;
      order.emplace_back(
          -static_cast<double>(bytes[link]) / graph_.capacities()[link],
          static_cast<int32_t>(link));
    }
    std::sort(order.begin(), order.end());
    const size_t shown = std::min(order.size(), options_.num_busiest);
    for (size_t i = 0; i < shown; ++i) {
      const int32_t link = order[i].second;
      result_.busiest.push_back(
          {graph_.Name(link), bytes[At(link)], -order[i].first});
    }
    if (std::ssize(plan_.transfers) <= options_.max_exact_transfers) return;
    const double waiting =
        *std::max_element(latencies.begin(), latencies.end()) / 8;
    quantum_ = ((order.empty() ? 0 : -order[0].first) + waiting) /
               static_cast<double>(options_.num_steps);
  }

  void ListDependents() {
    first_dependent_.resize(plan_.transfers.size() + 1);
    for (const Transfer& transfer : plan_.transfers) {
      if (transfer.reads_after.has_value()) {
        ++first_dependent_[*transfer.reads_after + 1];
      }
    }
    for (size_t i = 1; i < first_dependent_.size(); ++i) {
      first_dependent_[i] += first_dependent_[i - 1];
    }
    dependents_.resize(first_dependent_.back());
    std::vector<uint32_t> next = first_dependent_;
    for (const Transfer& transfer : plan_.transfers) {
      if (transfer.reads_after.has_value()) {
        dependents_[next[*transfer.reads_after]++] = transfer.id;
      }
    }
  }

  void NumberPeers() {
    absl::flat_hash_map<std::pair<int32_t, int32_t>, int32_t> numbers;
    for (const Transfer& transfer : plan_.transfers) {
      const auto it = numbers.try_emplace(
          {transfer.source.value(), transfer.destination.value()},
          static_cast<int32_t>(numbers.size()));
      peers_of_.push_back(it.first->second);
    }
    peers_.resize(numbers.size());
  }

  // What the transfer reads is there.
  void Enqueue(uint32_t id) {
    Peers& peers = peers_[At(peers_of_[id])];
    peers.ready.push(id);
    Offer(peers);
  }

  // Lets the next transfer of two peers go where they have a place for it.
  void Offer(Peers& peers) {
    if (peers.ready.empty() || peers.under_way >= options_.peer_window) return;
    const uint32_t id = peers.ready.top();
    peers.ready.pop();
    ++peers.under_way;
    const size_t index = ReceivingOf(TransferOf(id));
    receiving_[index].ready.push(id);
    if (receiving_[index].touched) return;
    receiving_[index].touched = true;
    touched_.push_back(index);
  }

  // Starts, at ranks where something changed, what has a place.
  void StartAll() {
    for (const size_t index : touched_) {
      Receiving& receiving = receiving_[index];
      receiving.touched = false;
      while (!receiving.ready.empty() &&
             (options_.receive_window == 0 ||
              receiving.under_way < options_.receive_window)) {
        const uint32_t id = receiving.ready.top();
        receiving.ready.pop();
        ++receiving.under_way;
        result_.transfers[id].start = now_;
        const Transfer& transfer = TransferOf(id);
        events_.push(
            {now_ + graph_.Latency(transfer.source, transfer.destination),
             EventKind::kFlow, id, 0});
      }
    }
    touched_.clear();
  }

  void Handle(const Event& event) {
    if (event.kind == EventKind::kFlow) {
      BeginFlow(event.transfer);
      return;
    }
    const int32_t index = flow_of_[event.transfer];
    if (index < 0 || flows_[At(index)].generation != event.generation) return;
    EndFlow(index);
  }

  void BeginFlow(uint32_t id) {
    const Transfer& transfer = TransferOf(id);
    paths_.push_back(graph_.Path(transfer.source, transfer.destination));
    double rate = 0;
    for (const int32_t link : paths_.back().span()) {
      const double capacity = graph_.capacities()[At(link)];
      const double here = std::max(capacity - used_[At(link)],
                                   capacity / ++flows_on_[At(link)]);
      rate = rate == 0 ? here : std::min(rate, here);
    }
    for (const int32_t link : paths_.back().span()) used_[At(link)] += rate;
    flow_of_[id] = static_cast<int32_t>(flows_.size());
    flows_.push_back({id, 0, static_cast<double>(transfer.bytes), now_, rate});
    PushEnd(flows_.back());
    ScheduleSolve();
  }

  void EndFlow(int32_t index) {
    const uint32_t id = flows_[At(index)].transfer;
    for (const int32_t link : paths_[At(index)].span()) {
      used_[At(link)] = std::max(0.0, used_[At(link)] - flows_[At(index)].rate);
      if (--flows_on_[At(link)] == 0) used_[At(link)] = 0;
    }
    // The last one takes its place.
    flow_of_[flows_.back().transfer] = index;
    flow_of_[id] = -1;
    flows_[At(index)] = flows_.back();
    paths_[At(index)] = paths_.back();
    flows_.pop_back();
    paths_.pop_back();
    result_.transfers[id].end = now_;
    const size_t receiving = ReceivingOf(TransferOf(id));
    --receiving_[receiving].under_way;
    if (!receiving_[receiving].touched) {
      receiving_[receiving].touched = true;
      touched_.push_back(receiving);
    }
    Peers& peers = peers_[At(peers_of_[id])];
    --peers.under_way;
    Offer(peers);
    for (uint32_t i = first_dependent_[id]; i < first_dependent_[id + 1]; ++i) {
      Enqueue(dependents_[i]);
    }
    ScheduleSolve();
  }

  void PushEnd(const Flow& flow) {
    events_.push({flow.since + flow.left / flow.rate, EventKind::kEnd,
                  flow.transfer, flow.generation});
  }

  void ScheduleSolve() {
    if (solve_scheduled_) return;
    solve_scheduled_ = true;
    const double crowd = static_cast<double>(flows_.size()) /
                         static_cast<double>(options_.max_step_flows);
    events_.push(
        {now_ + quantum_ * std::max(1.0, crowd), EventKind::kSolve, 0, 0});
  }

  // Gives all flows their max-min fair share from now on.
  void Solve() {
    solve_scheduled_ = false;
    ++result_.num_solved;
    share_.Solve(paths_, rates_);
    for (size_t i = 0; i < flows_.size(); ++i) {
      for (const int32_t link : paths_[i].span()) used_[At(link)] = 0;
    }
    for (size_t i = 0; i < flows_.size(); ++i) {
      Flow& flow = flows_[i];
      for (const int32_t link : paths_[i].span()) {
        used_[At(link)] += rates_[i];
      }
      if (rates_[i] == flow.rate) continue;
      flow.left = std::max(0.0, flow.left - flow.rate * (now_ - flow.since));
      flow.since = now_;
      flow.rate = rates_[i];
      ++flow.generation;
      PushEnd(flow);
    }
  }

  const TransferPlan& plan_;
  const LinkGraph& graph_;
  const SimulationOptions options_;
  FairShare share_;
  double now_ = 0;
  double quantum_ = 0;  // seconds from a change to new shares
  bool solve_scheduled_ = false;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  std::vector<Peers> peers_;
  std::vector<int32_t> peers_of_;  // by transfer
  std::vector<Receiving> receiving_;
  std::vector<size_t> touched_;  // of receiving_
  // What flows now; paths and rates parallel to it.
  std::vector<Flow> flows_;
  std::vector<LinkPath> paths_;
  std::vector<double> rates_;
  std::vector<double> used_;       // bytes per second by link
  std::vector<int32_t> flows_on_;  // by link
  std::vector<int32_t> flow_of_;   // by transfer; -1: does not flow
  // Transfers that read after transfer t: dependents_[first_dependent_[t]] on.
  std::vector<uint32_t> first_dependent_, dependents_;
  SimulationResult result_;
};

}  // namespace

absl::StatusOr<SimulationResult> Simulate(const TransferPlan& plan,
                                          const Topology& topology,
                                          const LinkTable& table,
                                          const SimulationOptions& options) {
  SLUICE_RETURN_IF_ERROR(Check(plan, topology, options));
  SLUICE_ASSIGN_OR_RETURN(const LinkGraph graph,
                          LinkGraph::Create(topology, table));
  return Simulation(plan, graph, topology.num_ranks(), options).Run();
}

}  // namespace sluice::coordinator::simulation
