#include "tests/sim/trainer.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace sluice::sim {

Trainer::Trainer(World& world, SimAgent& agent, std::string placement)
    : Process(world, absl::StrCat("trainer-", agent.name())),
      agent_(agent),
      placement_(std::move(placement)) {}

void Trainer::Start() {
  BeginLife();
  world_.history.Note(name(), " starts");
  memory_ = nullptr;
  layout_ = nullptr;
  version_ = Version();
  step_ = 0;
  session_ = agent::SessionId();
  attaching_ = lent_ = writing_ = false;
  Attach();
}

void Trainer::Kill() {
  if (!alive()) return;
  world_.history.Note(name(), " is killed", writing_ ? " in its bracket" : "");
  EndLife();
  // The agent keeps the memory mapped; nobody writes it any more.
  if (session_ != agent::SessionId()) agent_.CloseSession(session_);
  session_ = agent::SessionId();
  Finish(absl::AbortedError("the worker died"));
}

void Trainer::BreakSession() {
  if (!alive() || session_ == agent::SessionId()) return;
  world_.history.Note(name(), " loses its session");
  agent_.CloseSession(session_);
  session_ = agent::SessionId();
  ++attachment_;
  attaching_ = lent_ = false;
  AttachLater();
}

void Trainer::Finish(absl::Status status) {
  if (done_ == nullptr) return;
  std::exchange(done_, nullptr)(std::move(status));
}

void Trainer::AttachLater() {
  After(world_.random.Between(absl::Milliseconds(20), absl::Milliseconds(200)),
        [this] { Attach(); });
}

void Trainer::Attach() {
  // What is half written is not lent.
  if (session_ != agent::SessionId() || attaching_) return;
  if (writing_) {
    AttachLater();
    return;
  }
  attaching_ = true;
  const uint64_t attachment = ++attachment_;
  SimAgent::SessionCallbacks callbacks;
  callbacks.on_version = [this, attachment](const agent::TellVersion& told) {
    // News of memory that somebody else lent are not of this one.
    if (!alive() || attachment != attachment_ || told.placement != placement_ ||
        told.lender != session_) {
      return;
    }
    version_ = told.version;
    // Something else overwrites the memory: a load.
    if (told.version == Version() && !writing_) step_ = 0;
    if (told.overwrite == 0) return;
    agent_.Call(
        [this, overwrite = told.overwrite](agent::CallId call) {
          return agent::AcknowledgeOverwriteRequest{call, session_, "policy",
                                                    placement_, overwrite};
        },
        [](absl::Status, const agent::ReplyBody&) {});
  };
  callbacks.on_broken = [this, attachment] {
    if (!alive() || attachment != attachment_) return;
    session_ = agent::SessionId();
    attaching_ = lent_ = false;
    AttachLater();
  };
  agent_.OpenSession(
      name(), std::move(callbacks),
      [this, attachment,
       life = life()](absl::StatusOr<agent::SessionId> session) {
        if (!alive() || life != this->life() || attachment != attachment_) {
          if (session.ok()) agent_.CloseSession(*session);
          return;
        }
        attaching_ = false;
        if (!session.ok()) {
          AttachLater();
          return;
        }
        session_ = *session;
        FindPlacement();
      });
}

void Trainer::FindPlacement() {
  if (session_ == agent::SessionId()) return;
  agent_.Call(
      [this](agent::CallId call) {
        return agent::GetPlacementRequest{call, "policy", placement_};
      },
      [this, life = life(), attachment = attachment_](
          absl::Status status, const agent::ReplyBody& body) {
        if (!alive() || life != this->life() || attachment != attachment_) {
          return;
        }
        if (status.ok()) {
          Lend(std::get<agent::GetPlacementReply>(body));
        } else {
          After(absl::Milliseconds(50), [this] { FindPlacement(); });
        }
      });
}

void Trainer::Lend(const agent::GetPlacementReply& placement) {
  const auto bytes = static_cast<size_t>(placement.layout->buffer_bytes);
  layout_ = placement.layout;
  if (memory_ == nullptr || memory_->bytes.size() != bytes) {
    memory_ = std::make_shared<Memory>();
    memory_->bytes.assign(bytes, 0x5A);
    version_ = Version();
    step_ = 0;
  }
  if (!agent_.alive()) return;  // on_broken will say so
  buffer_ = agent_.device().Adopt(memory_);
  agent::LendMemoryRequest request;
  request.session = session_;
  request.model = "policy";
  request.placement = placement_;
  request.buffer = buffer_;
  request.buffer_bytes = placement.layout->buffer_bytes;
  request.version = version_;
  request.step = step_;
  agent_.Call(
      [request](agent::CallId call) mutable {
        request.call = call;
        return request;
      },
      [this, life = life(), attachment = attachment_](absl::Status status,
                                                      const agent::ReplyBody&) {
        if (!alive() || life != this->life() || attachment != attachment_) {
          return;
        }
        // Without a coordinator it is lent all the same.
        lent_ = status.ok() || absl::IsUnavailable(status);
        if (lent_) return;
        world_.history.Note(name(), " cannot lend: ", status.ToString());
        // A claim that is not believed is not repeated.
        version_ = Version();
        step_ = 0;
        After(absl::Milliseconds(100), [this] { FindPlacement(); });
      });
}

void Trainer::Write(int64_t step, std::function<void(absl::Status)> done) {
  if (!alive() || !lent_ || done_ != nullptr) {
    done(absl::FailedPreconditionError("not ready"));
    return;
  }
  done_ = std::move(done);
  agent_.Call(
      [this](agent::CallId call) {
        return agent::BeginWriteRequest{call, session_, "policy", placement_,
                                        absl::Seconds(3)};
      },
      [this, step, life = life()](absl::Status status,
                                  const agent::ReplyBody&) {
        if (!alive() || life != this->life()) return;
        if (!status.ok()) {
          // The placement was declared anew: the memory is not lent to it yet.
          if (absl::IsFailedPrecondition(status) || absl::IsNotFound(status)) {
            lent_ = false;
            FindPlacement();
          }
          Finish(status);
          return;
        }
        writing_ = true;
        version_ = Version();
        step_ = 0;
        WriteSome(step, world_.contents.OfStep(placement_, step), 0,
                  attachment_);
      });
}

void Trainer::WriteSome(int64_t step, ContentId content, size_t next,
                        uint64_t bracket) {
  const ElementMap& map = world_.maps.Of(*world_.model, layout_);
  if (bracket == attachment_ && session_ != agent::SessionId() &&
      agent_.alive() && agent_.device().IsSource(buffer_)) {
    world_.history.Violation(name(), " writes memory that an operation reads");
  }
  for (int64_t n = 1 + world_.random.Below(24);
       n > 0 && next < map.elements().size(); --n) {
    map.Write(memory_->bytes, 0, next++, content);
  }
  world_.At(Moment::kWriting, name());
  After(world_.random.Between(absl::Microseconds(20), absl::Milliseconds(3)),
        [this, step, content, next, bracket, &map] {
          if (next < map.elements().size()) {
            WriteSome(step, content, next, bracket);
            return;
          }
          writing_ = false;
          step_ = step;
          EndWrite(step, 0);
        });
}

void Trainer::EndWrite(int64_t step, int tries) {
  agent_.Call(
      [this, step](agent::CallId call) {
        return agent::EndWriteRequest{call, session_, "policy", placement_,
                                      step};
      },
      [this, step, tries, life = life(), attachment = attachment_](
          absl::Status status, const agent::ReplyBody& body) {
        if (!alive() || life != this->life()) return;
        if (status.ok() && attachment == attachment_) {
          const Version version = std::get<agent::EndWriteReply>(body).version;
          if (version != Version()) version_ = version;
        }
        if (absl::IsUnavailable(status) && tries < 3 &&
            attachment == attachment_) {
          EndWrite(step, tries + 1);
          return;
        }
        Finish(status);
      });
}

}  // namespace sluice::sim
