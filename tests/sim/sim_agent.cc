#include "tests/sim/sim_agent.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "tests/sim/message_text.h"

namespace sluice::sim {
namespace {

constexpr absl::Duration kTick = absl::Milliseconds(100);
constexpr absl::Duration kBeat = absl::Seconds(1);
constexpr absl::Duration kLocal = absl::Microseconds(300);

}  // namespace

SimAgent::SimAgent(World& world, Options options, SimCoordinator& coordinator,
                   std::function<Device*(Rank)> peer)
    : AgentEnd(world, options.name),
      options_(std::move(options)),
      coordinator_(coordinator),
      device_({world, *this, std::move(peer),
               [this](agent::Event event) { Step(event); }}) {}

std::string SimAgent::address() const {
  return options_.new_addresses ? absl::StrCat(name(), ":", life()) : name();
}

void SimAgent::Start() {
  BeginLife();
  incarnation_ = Incarnation(world_.random.Next() | 1);
  world_.history.Note(name(), " starts, life ", life(), ", incarnation ",
                      incarnation_.value());
  agent::AgentOptions options;
  options.name = name();
  options.incarnation = incarnation_;
  options.memory_bytes = options_.memory_bytes;
  options.sample_segment_bytes = options_.sample_segment_bytes;
  options.max_entries_per_inventory = 5;
  options.ack_deadline = absl::Seconds(3);
  options.load_wait = absl::Seconds(2);
  core_ = std::make_unique<agent::AgentCore>(options);
  epoch_ = Epoch();
  registering_ = false;
  const auto [status, body] = Ask([](agent::CallId call) {
    return agent::AttachRequest{call, "checker", 0};
  });
  SLUICE_CHECK(status.ok()) << status;
  checker_ = std::get<agent::AttachReply>(body).session;
  Register();
  After(kTick, [this] { Tick(); });
  After(kBeat, [this] { Beat(); });
}

void SimAgent::Kill() {
  if (!alive()) return;
  world_.history.Note(name(), " is killed");
  EndLife();
  core_.reset();
  device_.Reset();
  events_.clear();
  told_steps_.clear();
  if (stream_ != nullptr) coordinator_.Break(std::exchange(stream_, nullptr));
  coordinator_.BreakStream(*this);
  for (auto& [id, answer] : std::exchange(calls_, {})) {
    world_.scheduler.After(kLocal, [answer = std::move(answer)] {
      answer(absl::UnavailableError("the agent is gone"), agent::UnpinReply{});
    });
  }
  for (auto& [id, callbacks] : std::exchange(sessions_, {})) {
    world_.scheduler.After(kLocal, std::move(callbacks.on_broken));
  }
}

// --- registration
// ------------------------------------------------------------------

void SimAgent::Register() {
  if (registering_) return;
  registering_ = true;
  coordinator::RegisterAgentEvent request;
  request.name = name();
  request.node = options_.node;
  request.address = address();
  request.socket_path = absl::StrCat("/", name());
  request.network_address = address();
  request.cluster_id = cluster_id_;
  request.device = "host";
  request.incarnation = incarnation_;
  request.memory_bytes = options_.memory_bytes;
  request.staging_bytes = 64 << 20;
  coordinator_.Call(
      [request](coordinator::CallId call) mutable {
        request.call = call;
        return request;
      },
      [this, life = life()](absl::Status status,
                            const coordinator::ReplyBody& body) {
        if (!alive() || life != this->life()) return;
        if (status.ok()) {
          const auto reply = std::get<coordinator::RegisterAgentReply>(body);
          After(absl::ZeroDuration(), [this, reply] {
            registering_ = false;
            cluster_id_ = reply.cluster_id;
            NoteRank(reply.rank);
            Step(agent::RegisteredEvent{reply.rank, reply.epoch,
                                        reply.cluster_id});
          });
          return;
        }
        After(world_.random.Between(absl::Milliseconds(50),
                                    absl::Milliseconds(500)),
              [this] {
                registering_ = false;
                Register();
              });
      });
}

void SimAgent::Beat() {
  After(kBeat, [this] { Beat(); });
  if (registering_) return;
  coordinator_.Call(
      [this, incarnation = incarnation_](coordinator::CallId call) {
        return coordinator::HeartbeatEvent{call, name(), incarnation};
      },
      [this, life = life()](absl::Status status,
                            const coordinator::ReplyBody&) {
        if (!alive() || life != this->life()) return;
        if (absl::IsNotFound(status) || absl::IsAborted(status)) {
          After(absl::ZeroDuration(), [this] { Register(); });
        }
      });
}

void SimAgent::Tick() {
  Step(agent::TickEvent{});
  After(kTick, [this] { Tick(); });
}

// --- the core
// ------------------------------------------------------------------------

void SimAgent::Step(const agent::Event& event) {
  events_.push_back(event);
  if (events_.size() > 1) return;  // handled after the running step
  while (!events_.empty()) {
    for (const agent::Effect& effect :
         core_->Step(world_.scheduler.now(), events_.front())) {
      RunOne(effect);
    }
    events_.pop_front();
  }
}

void SimAgent::RunOne(const agent::Effect& effect) {
  std::visit([this](const auto& order) { Run(order); }, effect);
}

void SimAgent::Run(const agent::SendEvent& order) {
  if (const auto* write = std::get_if<WriteEvent>(&order.event.body)) {
    told_steps_[order.event.event_id] = {write->placement.placement,
                                         write->step};
  }
  if (const std::string text = EventText(order.event); !text.empty()) {
    world_.history.Note("  ", name(), " tells ", text);
  }
  if (stream_ != nullptr) coordinator_.Deliver(stream_, order.event);
}

void SimAgent::Run(const agent::CloseStream& order) {
  world_.history.Note("  ", name(),
                      " closes its stream: ", order.reason.ToString());
  if (stream_ == nullptr) return;
  coordinator_.Break(std::exchange(stream_, nullptr));
  Step(agent::StreamDownEvent{});
}

void SimAgent::Run(const agent::Reply& order) {
  const auto it = calls_.find(order.call);
  if (it == calls_.end()) return;
  Answer answer = std::move(it->second);
  calls_.erase(it);
  world_.scheduler.After(kLocal,
                         [answer = std::move(answer), status = order.status,
                          body = order.body] { answer(status, body); });
}

void SimAgent::Run(const agent::TellVersion& order) {
  // On its way, news are lost with the session.
  After(kLocal, [this, order] {
    const auto sessions = sessions_;
    for (const auto& [id, callbacks] : sessions) {
      if (sessions_.contains(id)) callbacks.on_version(order);
    }
  });
}

// --- the stream
// ------------------------------------------------------------------------

void SimAgent::Deliver(const StreamPtr& stream, const Command& command,
                       absl::Duration delay) {
  After(delay, [this, stream, command] {
    if (stream->open) Receive(stream, command);
  });
}

void SimAgent::Receive(const StreamPtr& stream, const Command& command) {
  if (stream_ != stream) {
    if (!std::holds_alternative<WelcomeCommand>(command.body) ||
        command.epoch < epoch_) {
      coordinator_.Break(stream);
      return;
    }
    if (stream_ != nullptr) {
      coordinator_.Break(std::exchange(stream_, nullptr));
      Step(agent::StreamDownEvent{});
    }
    stream_ = stream;
    epoch_ = command.epoch;
    Step(agent::StreamUpEvent{});
  }
  // A Welcome may come before the answer of Register, as in the real host.
  if (const auto* welcome = std::get_if<WelcomeCommand>(&command.body)) {
    NoteRank(welcome->rank);
  }
  NoteVersions(command);
  world_.history.Note("  ", name(), " gets ", command.id.value(), " ",
                      CommandText(command));
  Step(agent::CommandEvent{command});
  if (std::holds_alternative<CommitCommand>(command.body)) {
    world_.At(Moment::kCommitted, name());
  }
}

void SimAgent::StreamBroke(const StreamPtr& stream, absl::Duration delay) {
  After(delay, [this, stream] {
    if (stream_ != stream) return;
    stream_ = nullptr;
    Step(agent::StreamDownEvent{});
  });
}

void SimAgent::NoteRank(Rank rank) {
  if (rank_ != kNoRank || rank == kNoRank) return;
  rank_ = rank;
  device_.set_rank(rank);
}

void SimAgent::NoteVersions(const Command& command) {
  Contents& contents = world_.contents;
  if (const auto* commit = std::get_if<CommitCommand>(&command.body)) {
    const ContentId content = device_.ContentOfLoad(commit->operation);
    if (content != 0) {
      contents.Assign(commit->version, content,
                      absl::StrCat("load ", commit->operation.value()));
    }
  } else if (const auto* assigned =
                 std::get_if<VersionAssignedCommand>(&command.body)) {
    contents.Assign(
        assigned->version,
        contents.OfStep(assigned->placement.placement, assigned->step),
        absl::StrCat("step ", assigned->step));
  } else if (const auto* ack = std::get_if<EventAck>(&command.body)) {
    const auto it = told_steps_.find(ack->event_id);
    if (it != told_steps_.end() && ack->outcome.ok() &&
        ack->version != Version()) {
      const auto& [placement, step] = it->second;
      contents.Assign(ack->version, contents.OfStep(placement, step),
                      absl::StrCat("ack of step ", step));
    }
  }
}

// --- workers
// ---------------------------------------------------------------------------

void SimAgent::Call(MakeEvent make, Answer answer) {
  if (!alive()) {
    world_.scheduler.After(kLocal, [answer = std::move(answer)] {
      answer(absl::UnavailableError("the agent is not there"),
             agent::UnpinReply{});
    });
    return;
  }
  const agent::CallId id(next_call_++);
  calls_[id] = std::move(answer);
  After(world_.random.Between(absl::ZeroDuration(), kLocal),
        [this, id, make = std::move(make)] { Step(make(id)); });
}

void SimAgent::OpenSession(
    const std::string& worker, SessionCallbacks callbacks,
    std::function<void(absl::StatusOr<agent::SessionId>)> done) {
  Call(
      [worker](agent::CallId call) {
        return agent::AttachRequest{call, worker, 1};
      },
      [this, life = life(), callbacks = std::move(callbacks),
       done = std::move(done)](absl::Status status,
                               const agent::ReplyBody& body) {
        if (!status.ok()) {
          done(status);
          return;
        }
        const auto session = std::get<agent::AttachReply>(body).session;
        if (!alive() || life != this->life()) {
          done(absl::UnavailableError("the agent is gone"));
          return;
        }
        sessions_[session] = callbacks;
        done(session);
      });
}

void SimAgent::CloseSession(agent::SessionId session) {
  if (sessions_.erase(session) == 0) return;
  After(kLocal, [this, session] { Step(agent::SessionGoneEvent{session}); });
}

// --- looking in
// --------------------------------------------------------------------------

std::pair<absl::Status, agent::ReplyBody> SimAgent::Ask(const MakeEvent& make) {
  const agent::CallId id(next_call_++);
  std::pair<absl::Status, agent::ReplyBody> answer{
      absl::UnavailableError("waits"), agent::UnpinReply{}};
  bool answered = false;
  for (const agent::Effect& effect :
       core_->Step(world_.scheduler.now(), make(id))) {
    const auto* reply = std::get_if<agent::Reply>(&effect);
    if (reply != nullptr && reply->call == id) {
      answer = {reply->status, reply->body};
      answered = true;
    } else {
      RunOne(effect);
    }
  }
  if (!answered) {
    core_->Step(world_.scheduler.now(), agent::CallerGoneEvent{id});
  }
  return answer;
}

std::vector<CopyInventory> SimAgent::CopiesOf(const std::string& placement) {
  if (!running()) return {};
  const auto [status, body] = Ask([&](agent::CallId call) {
    return agent::GetPlacementRequest{call, "policy", placement};
  });
  if (!status.ok()) return {};
  return std::get<agent::GetPlacementReply>(body).copies;
}

absl::Status SimAgent::CheckSample(const SampleEntry& entry) {
  const auto [status, body] = Ask([&](agent::CallId call) {
    return agent::GetSamplesRequest{
        call, checker_, {entry.sample_id}, {entry.key}};
  });
  if (!status.ok()) return status;
  const auto place = std::get<agent::GetSamplesReply>(body).places.at(0);
  const MemoryPtr memory = device_.Get(place.buffer);
  for (int64_t b = 0; b < entry.num_bytes(); ++b) {
    if (memory->bytes.at(static_cast<size_t>(place.offset_bytes + b)) ==
        Contents::SampleByte(entry, b)) {
      continue;
    }
    world_.history.Violation("sample ", entry.sample_id, ", key ", entry.key,
                             " on ", name(), ": byte ", b, " is wrong");
    break;
  }
  return absl::OkStatus();
}

void SimAgent::CheckCopies(const std::vector<std::string>& placements) {
  if (!running()) return;
  for (const std::string& placement : placements) {
    const auto [status, body] = Ask([&](agent::CallId call) {
      return agent::GetPlacementRequest{call, "policy", placement};
    });
    if (!status.ok()) continue;
    const auto held = std::get<agent::GetPlacementReply>(body);
    for (const CopyInventory& copy : held.copies) {
      if (copy.state != CopyState::kPublished || copy.version == Version()) {
        continue;
      }
      const auto [pinned, reply] = Ask([&](agent::CallId call) {
        return agent::PinRequest{call,         checker_,
                                 "policy",     placement,
                                 copy.version, absl::Milliseconds(1)};
      });
      if (!pinned.ok()) continue;  // about to be overwritten
      const auto pin = std::get<agent::PinReply>(reply);
      Ask([&](agent::CallId call) {
        return agent::UnpinRequest{call, checker_, pin.pin};
      });
      const ContentId content = world_.contents.Of(copy.version);
      const MemoryPtr memory = device_.Get(pin.buffer);
      if (content == 0 || memory == nullptr) {
        world_.history.Violation(name(), " publishes version ",
                                 copy.version.value(), " of ", placement,
                                 ", which nobody made");
        continue;
      }
      const ElementMap& map = world_.maps.Of(*world_.model, held.layout);
      const std::string wrong =
          map.Check(memory->bytes, pin.offset_bytes, content);
      if (!wrong.empty()) {
        world_.history.Violation(name(), " publishes version ",
                                 copy.version.value(), " of ", placement, ": ",
                                 wrong);
      }
    }
  }
}

}  // namespace sluice::sim
