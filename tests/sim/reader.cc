#include "tests/sim/reader.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace sluice::sim {

Reader::Reader(World& world, std::string name, std::string placement,
               std::vector<SimAgent*> agents)
    : Process(world, std::move(name)), placement_(std::move(placement)) {
  for (SimAgent* agent : agents) {
    members_.emplace_back();
    members_.back().agent = agent;
  }
}

void Reader::Start() {
  BeginLife();
  reading_ = false;
  for (Member& member : members_) {
    member.session = agent::SessionId();
    member.pinned = false;
    AttachTo(member);
  }
  ReadLater();
}

void Reader::Kill() {
  if (!alive()) return;
  for (Member& member : members_) {
    if (std::exchange(member.pinned, false)) --member.memory->pins;
    if (member.session != agent::SessionId()) {
      member.agent->CloseSession(member.session);
    }
    member.session = agent::SessionId();
  }
  EndLife();
}

void Reader::AttachTo(Member& member) {
  const uint64_t attachment = ++member.attachment;
  Member* of = &member;
  const auto retry = [this, of] {
    After(
        world_.random.Between(absl::Milliseconds(20), absl::Milliseconds(300)),
        [this, of] { AttachTo(*of); });
  };
  SimAgent::SessionCallbacks callbacks;
  callbacks.on_version = [](const agent::TellVersion&) {};
  callbacks.on_broken = [this, of, attachment, retry] {
    if (!alive() || attachment != of->attachment) return;
    of->session = agent::SessionId();
    // The mapping lives on, the pin does not.
    if (std::exchange(of->pinned, false)) --of->memory->pins;
    retry();
  };
  member.agent->OpenSession(
      name(), std::move(callbacks),
      [this, of, attachment, retry,
       life = life()](absl::StatusOr<agent::SessionId> session) {
        if (!alive() || life != this->life() || attachment != of->attachment) {
          if (session.ok()) of->agent->CloseSession(*session);
          return;
        }
        if (session.ok()) {
          of->session = *session;
        } else {
          retry();
        }
      });
}

void Reader::ReadLater() {
  After(world_.random.Between(absl::Milliseconds(1), absl::Milliseconds(400)),
        [this] { Read(); });
}

void Reader::Read() {
  if (reading_) return;
  if (quitting_) {
    ReadLater();
    return;
  }
  reading_ = true;
  PinNext(0, Version());
}

void Reader::PinNext(size_t index, Version version) {
  if (index == members_.size()) {
    ++reads_;
    Hold(static_cast<int>(world_.random.Below(4)), version);
    return;
  }
  Member& member = members_[index];
  if (member.session == agent::SessionId()) {
    PinFailed(absl::UnavailableError("not attached"));
    return;
  }
  member.agent->Call(
      [this, session = member.session, version](agent::CallId call) {
        return agent::PinRequest{call,       session, "policy",
                                 placement_, version, absl::Seconds(2)};
      },
      [this, index, attachment = member.attachment, life = life(),
       agent_life = member.agent->life()](absl::Status status,
                                          const agent::ReplyBody& body) {
        Member& of = members_[index];
        if (!alive() || life != this->life()) return;
        if (attachment != of.attachment || !of.agent->alive() ||
            of.agent->life() != agent_life) {
          status = absl::UnavailableError("the agent is gone");
        }
        if (!status.ok()) {
          PinFailed(status);
          return;
        }
        const auto pin = std::get<agent::PinReply>(body);
        Take(of, pin);
        PinNext(index + 1, pin.version);
      });
}

void Reader::PinFailed(const absl::Status&) {
  Release();
  reading_ = false;
  ReadLater();
}

void Reader::Take(Member& member, const agent::PinReply& pin) {
  member.pin = pin;
  member.memory = member.agent->device().Get(pin.buffer);
  if (member.memory == nullptr) {
    world_.history.Violation(name(), " pins a buffer that ",
                             member.agent->name(), " does not have");
    return;
  }
  const auto [status, body] = member.agent->Ask([&](agent::CallId call) {
    return agent::GetPlacementRequest{call, "policy", placement_};
  });
  member.layout =
      status.ok() ? std::get<agent::GetPlacementReply>(body).layout : nullptr;
  member.pinned = true;
  ++member.memory->pins;
}

void Reader::Check(Version version) {
  const ContentId content = world_.contents.Of(version);
  for (const Member& member : members_) {
    if (!member.pinned || member.layout == nullptr) continue;
    if (member.pin.version != version) {
      world_.history.Violation(name(), " asked for version ", version.value(),
                               " and got ", member.pin.version.value());
    }
    const std::string wrong =
        world_.maps.Of(*world_.model, member.layout)
            .Check(member.memory->bytes, member.pin.offset_bytes, content);
    if (wrong.empty()) continue;
    world_.history.Violation(name(), " reads version ", version.value(), " of ",
                             placement_, " on ", member.agent->name(), ": ",
                             wrong);
  }
}

void Reader::Hold(int checks, Version version) {
  Check(version);
  if (checks == 0) {
    Release();
    reading_ = false;
    ReadLater();
    return;
  }
  After(world_.random.Between(absl::Milliseconds(1), absl::Milliseconds(500)),
        [this, checks, version] { Hold(checks - 1, version); });
}

void Reader::Release() {
  for (Member& member : members_) {
    if (!std::exchange(member.pinned, false)) continue;
    --member.memory->pins;
    member.agent->Call(
        [session = member.session, pin = member.pin.pin](agent::CallId call) {
          return agent::UnpinRequest{call, session, pin};
        },
        [](absl::Status, const agent::ReplyBody&) {});
  }
}

}  // namespace sluice::sim
