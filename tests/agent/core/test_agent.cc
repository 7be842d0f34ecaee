#include "tests/agent/core/test_agent.h"

#include "common/check.h"

namespace sluice::agent::testing {
namespace {

std::shared_ptr<const ModelSpec> Spec() {
  static const auto& spec = *new auto([] {
    auto model = std::make_shared<ModelSpec>();
    model->name = "m";
    model->tensors.push_back({"w", DType::kF32, {8, 4}});
    return std::shared_ptr<const ModelSpec>(model);
  }());
  return spec;
}

std::shared_ptr<const Layout> RowSplit() {
  auto layout = std::make_shared<Layout>();
  layout->name = "rows";
  LayoutRule rule;
  rule.pattern = "w";
  DimSplit split;
  split.dim = 0;
  split.axes = {"tensor"};
  rule.splits.push_back(split);
  layout->rules.push_back(rule);
  return layout;
}

Transfer MakeTransfer(uint32_t id, Rank source, Rank destination) {
  Transfer transfer;
  transfer.id = id;
  transfer.kind = source == destination ? TransferKind::kLocalCopy
                                        : TransferKind::kSendRecv;
  transfer.source = source;
  transfer.destination = destination;
  transfer.link =
      source == destination ? LinkClass::kSameDevice : LinkClass::kSameNode;
  transfer.bytes = 64;
  const int64_t first = destination == Rank(0) ? 0 : 4;
  transfer.params.box = Box({{first, first + 4}, {0, 4}});
  transfer.params.tensors = {TensorRun{0, 1, 1}};
  return transfer;
}

std::shared_ptr<const PlanPart> PartOfRank0(Rank source0, Rank source1) {
  TransferPlan plan;
  plan.transfers.push_back(MakeTransfer(0, source0, Rank(0)));
  plan.transfers.push_back(MakeTransfer(1, source1, Rank(1)));
  return std::make_shared<const PlanPart>(PartOf(plan, Rank(0)));
}

}  // namespace

std::optional<absl::Status> Effects::ResultOf(CommandId command) const {
  for (const CommandResult& result : Told<CommandResult>()) {
    if (result.command == command) return result.outcome;
  }
  return std::nullopt;
}

std::optional<absl::Status> Effects::StatusOf(CallId call) const {
  for (const Reply& reply : Of<Reply>()) {
    if (reply.call == call) return reply.status;
  }
  return std::nullopt;
}

void Effects::Append(std::vector<Effect> effects) {
  for (Effect& effect : effects) all.push_back(std::move(effect));
}

AgentOptions TestOptions() {
  AgentOptions options;
  options.name = "agent-0";
  options.incarnation = Incarnation(77);
  options.memory_bytes = 1 << 20;
  options.staging_bytes = 1 << 16;
  options.sample_segment_bytes = 4096;
  options.default_deadline = absl::Minutes(1);
  return options;
}

TestAgent::TestAgent(AgentOptions options, Unconnected)
    : core_(std::make_unique<AgentCore>(std::move(options))) {}

TestAgent TestAgent::Fresh(AgentOptions options) {
  return TestAgent(std::move(options), Unconnected());
}

TestAgent::TestAgent(AgentOptions options)
    : TestAgent(std::move(options), Unconnected()) {
  Do(RegisteredEvent{Rank(0), epoch, "cluster"});
  Reconnect(epoch);
}

Effects TestAgent::Do(const Event& event) {
  Effects effects;
  effects.Append(core_->Step(now, event));
  // The host's answers may order more.
  for (size_t i = 0; i < effects.all.size(); ++i) {
    const Effect effect = effects.all[i];
    if (const auto* allocate = std::get_if<AllocateBuffer>(&effect);
        allocate != nullptr && answer_allocations) {
      effects.Append(core_->Step(
          now, BufferAllocatedEvent{allocate->buffer, allocation_answer}));
    } else if (const auto* prepare = std::get_if<PrepareExecution>(&effect);
               prepare != nullptr && answer_prepares) {
      effects.Append(core_->Step(
          now, ExecutionPreparedEvent{prepare->operation, prepare_answer}));
    } else if (const auto* told = std::get_if<TellVersion>(&effect);
               told != nullptr && told->overwrite != 0 && answer_overwrites) {
      effects.Append(core_->Step(
          now, AcknowledgeOverwriteRequest{NewCall(), told->lender, told->model,
                                           told->placement, told->overwrite}));
    }
  }
  return effects;
}

Effects TestAgent::Advance(absl::Duration duration) {
  now += duration;
  return Do(TickEvent{});
}

Effects TestAgent::Send(CommandBody body) {
  return SendAgain(CommandId(next_command_++), std::move(body));
}

Effects TestAgent::SendAgain(CommandId id, CommandBody body) {
  return Do(CommandEvent{Command{id, epoch, std::move(body)}});
}

absl::Status TestAgent::Ask(CommandBody body) {
  const Effects effects = Send(body);
  std::optional<absl::Status> result = effects.ResultOf(last_command());
  if (!result.has_value() && std::holds_alternative<ExecuteCommand>(body)) {
    // Its answer is the vote; whoever asks again is told.
    result =
        SendAgain(last_command(), std::move(body)).ResultOf(last_command());
  }
  SLUICE_CHECK(result.has_value()) << "no answer";
  return *result;
}

void TestAgent::Must(CommandBody body) {
  const absl::Status outcome = Ask(std::move(body));
  SLUICE_CHECK_OK(outcome);
}

Effects TestAgent::Reconnect(Epoch with_epoch) {
  epoch = with_epoch;
  Effects effects = Do(StreamUpEvent{});
  effects.Append(Send(WelcomeCommand{"cluster", Rank(0), Incarnation(77)}).all);
  return effects;
}

SessionId TestAgent::Attach(const std::string& worker) {
  const CallId call = NewCall();
  const Effects effects = Do(AttachRequest{call, worker, 1});
  const absl::Status status = *effects.StatusOf(call);
  SLUICE_CHECK_OK(status);
  return effects.BodyOf<AttachReply>(call).session;
}

PlacementRef TestAgent::Define(const std::string& name, Storage storage,
                               uint64_t generation) {
  const PlacementDefinition definition = Definition(name, storage, generation);
  Must(DefinePlacementCommand{definition});
  return definition.ref;
}

BufferId TestAgent::Lend(SessionId session, const std::string& placement,
                         Version version, int64_t step) {
  LendMemoryRequest request;
  request.call = NewCall();
  request.session = session;
  request.model = "m";
  request.placement = placement;
  request.buffer = BufferId(next_lent_++);
  request.buffer_bytes = kCopyBytes;
  request.version = version;
  request.step = step;
  const Effects effects = Do(request);
  const Effects acked =
      Send(EventAck{effects.EventIdOf<WriteEvent>(), absl::OkStatus(), {}});
  const absl::Status status = *acked.StatusOf(request.call);
  SLUICE_CHECK_OK(status);
  return request.buffer;
}

void TestAgent::Load(const PlacementRef& ref, OperationId operation,
                     Version version) {
  Must(LoadCommand{operation, ref, "/c", absl::Minutes(1)});
  Do(LoadDoneEvent{operation, absl::OkStatus(), {}});
  Must(CommitCommand{operation, version});
}

void TestAgent::SyncToVote(OperationId operation, const PlacementRef& source,
                           const PlacementRef& dst, Version version) {
  Must(testing::Prepare(operation, source, {dst}, version));
  Must(ExecuteCommand{operation});
  const Effects done =
      Do(ExecutionDoneEvent{operation, absl::OkStatus(), {}, kNoRank});
  SLUICE_CHECK(done.Told<VoteEvent>().size() == 1) << "no vote";
}

InventoryEvent TestAgent::Inventory() {
  return Send(WelcomeCommand{"cluster", Rank(0), Incarnation(77)})
      .Told<InventoryEvent>()
      .at(0);
}

std::vector<CopyInventory> TestAgent::CopiesOf(const std::string& placement) {
  for (const PlacementInventory& held : Inventory().placements) {
    if (held.placement.placement == placement) return held.copies;
  }
  return {};
}

PlacementDefinition Definition(const std::string& name, Storage storage,
                               uint64_t generation) {
  PlacementDefinition definition;
  definition.ref = {"m", name, generation};
  definition.spec = Spec();
  definition.layout = RowSplit();
  definition.mesh = {{{"tensor", 2}}, {Rank(0), Rank(1)}};
  definition.agents = {"agent-0", "agent-1"};
  definition.mesh_index = 0;
  definition.storage = storage;
  return definition;
}

std::shared_ptr<const PlanPart> LocalPart() {
  return PartOfRank0(Rank(0), Rank(1));
}

std::shared_ptr<const PlanPart> ReceivingPart() {
  return PartOfRank0(Rank(1), Rank(1));
}

std::shared_ptr<const PlanPart> LendingPart() {
  return PartOfRank0(Rank(0), Rank(0));
}

PrepareCommand Prepare(OperationId operation, const PlacementRef& source,
                       const std::vector<PlacementRef>& destinations,
                       Version version, std::shared_ptr<const PlanPart> part) {
  PrepareCommand prepare;
  prepare.operation = operation;
  prepare.part_digest = part->digest;
  prepare.part = std::move(part);
  prepare.source = source;
  prepare.version = version;
  prepare.destinations = destinations;
  prepare.wait_deadline = absl::Seconds(10);
  prepare.progress_timeout = absl::Seconds(5);
  prepare.deadline = absl::Seconds(30);
  return prepare;
}

SampleEntry Entry(const std::string& id, const std::string& key,
                  int64_t length) {
  SampleEntry entry;
  entry.sample_id = id;
  entry.key = key;
  entry.dtype = DType::kI32;
  entry.sequence_lengths = {length};
  return entry;
}

}  // namespace sluice::agent::testing
