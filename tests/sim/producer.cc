#include "tests/sim/producer.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace sluice::sim {

Producer::Producer(World& world, SimAgent& agent, SampleBook& book)
    : Process(world, absl::StrCat("producer-", agent.name())),
      agent_(agent),
      book_(book) {}

void Producer::Start() {
  BeginLife();
  session_ = agent::SessionId();
  Attach();
}

void Producer::Kill() {
  if (!alive()) return;
  EndLife();
  if (session_ != agent::SessionId()) agent_.CloseSession(session_);
  session_ = agent::SessionId();
}

void Producer::Attach() {
  const uint64_t attachment = ++attachment_;
  const auto retry = [this] {
    After(
        world_.random.Between(absl::Milliseconds(20), absl::Milliseconds(300)),
        [this] { Attach(); });
  };
  SimAgent::SessionCallbacks callbacks;
  callbacks.on_version = [](const agent::TellVersion&) {};
  callbacks.on_broken = [this, attachment, retry] {
    if (!alive() || attachment != attachment_) return;
    session_ = agent::SessionId();
    retry();
  };
  agent_.OpenSession(
      name(), std::move(callbacks),
      [this, attachment, retry,
       life = life()](absl::StatusOr<agent::SessionId> session) {
        if (!alive() || life != this->life() || attachment != attachment_) {
          if (session.ok()) agent_.CloseSession(*session);
          return;
        }
        if (!session.ok()) {
          retry();
          return;
        }
        session_ = *session;
        PutLater();
      });
}

void Producer::PutLater() {
  After(world_.random.Between(absl::Milliseconds(10), absl::Seconds(2)),
        [this] { Put(); });
}

void Producer::Put() {
  if (session_ == agent::SessionId()) return;  // attached anew, it goes on
  if (quitting_) return;
  std::vector<SampleEntry> entries;
  const int64_t count = 1 + world_.random.Below(3);
  for (int64_t i = 0; i < count; ++i) {
    const std::string id = absl::StrCat("s", book_.next++);
    for (const char* key : {"prompt", "reward"}) {
      SampleEntry entry;
      entry.sample_id = id;
      entry.key = key;
      entry.dtype = DType::kI32;
      entry.sequence_lengths = {world_.random.Below(20),
                                world_.random.Below(20)};
      entries.push_back(entry);
    }
  }
  agent_.Call(
      [session = session_, entries](agent::CallId call) {
        return agent::ReserveSamplesRequest{call, session, entries};
      },
      [this, entries, life = life(), attachment = attachment_](
          absl::Status status, const agent::ReplyBody& body) {
        if (!alive() || life != this->life() || attachment != attachment_) {
          return;
        }
        if (!status.ok()) {
          world_.history.Note(name(), " cannot reserve: ", status.ToString());
          PutLater();
          return;
        }
        const auto& reserved = std::get<agent::ReserveSamplesReply>(body);
        Fill(entries, reserved);
        Commit(entries, reserved.reservation, 0);
      });
}

void Producer::Fill(const std::vector<SampleEntry>& entries,
                    const agent::ReserveSamplesReply& reserved) {
  for (size_t i = 0; i < entries.size(); ++i) {
    const agent::SamplePlace& place = reserved.places.at(i);
    const MemoryPtr memory = agent_.device().Get(place.buffer);
    if (memory == nullptr) continue;  // the agent died meanwhile
    for (int64_t b = 0; b < entries[i].num_bytes(); ++b) {
      memory->bytes.at(static_cast<size_t>(place.offset_bytes + b)) =
          Contents::SampleByte(entries[i], b);
    }
  }
}

void Producer::Commit(const std::vector<SampleEntry>& entries,
                      agent::ReservationId reservation, int tries) {
  const uint64_t agent_life = agent_.life();
  agent_.Call(
      [session = session_, reservation](agent::CallId call) {
        return agent::CommitSamplesRequest{call, session, reservation};
      },
      [this, entries, reservation, tries, agent_life, life = life(),
       attachment = attachment_](absl::Status status, const agent::ReplyBody&) {
        if (!alive() || life != this->life() || attachment != attachment_) {
          return;
        }
        if (absl::IsUnavailable(status) && tries < 20) {
          Commit(entries, reservation, tries + 1);
          return;
        }
        if (status.ok()) {
          world_.history.Note(name(), " has put ", entries.front().sample_id,
                              " to ", entries.back().sample_id);
          for (const SampleEntry& entry : entries) {
            SampleBook::Sample& sample = book_.put[entry.sample_id];
            sample.entries.push_back(entry);
            sample.agent = &agent_;
            sample.agent_life = agent_life;
          }
        } else {
          world_.history.Note(name(), " cannot put: ", status.ToString());
        }
        PutLater();
      });
}

}  // namespace sluice::sim
