#include "agent/collective/net_side.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/collective/call_header.h"
#include "agent/collective/net_tags.h"

namespace sluice::agent {

struct NetSide::Hello {
  uint64_t group = 0;
  uint32_t port = 0;    // of the sender
  uint32_t answer = 0;  // the port that is answered
};

struct NetSide::Ending {
  uint64_t completed = 0;
  int32_t code = 0;
  uint32_t message_bytes = 0;
  char message[1024] = {};
};

namespace {

template <typename T>
std::string BytesOf(const T& value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

template <typename T>
T FromBytes(const std::string& bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof(value));
  return value;
}

}  // namespace

NetSide::NetSide(const CollectiveMembers& members, std::vector<int> far,
                 UcxTransport& transport, std::function<void()> changed)
    : members_(members),
      group_(members.Id()),
      far_(std::move(far)),
      transport_(transport),
      changed_(std::move(changed)),
      port_(NextNetPort()),
      operations_(NextNetOperations()) {
  MutexLock lock(mutex_);
  for (const int m : far_) state_.emplace_back().index = m;
}

UcxTransport::PeerKey NetSide::KeyOf(int member) const {
  return static_cast<uint64_t>(
      members_.peers[static_cast<size_t>(member)].rank.value());
}

NetSide::Member& NetSide::member(int index) {
  return *std::find_if(state_.begin(), state_.end(),
                       [index](const Member& m) { return m.index == index; });
}

const NetSide::Member& NetSide::member(int index) const {
  return *std::find_if(state_.begin(), state_.end(),
                       [index](const Member& m) { return m.index == index; });
}

void NetSide::Counted(Counter counter, Done done, absl::Status status) {
  if (done != nullptr) std::move(done)(std::move(status));
  {
    MutexLock lock(mutex_);
    --active_[counter];
  }
  changed_();
}

void NetSide::Queue(const Message& message, Done done) {
  {
    // Held until it is queued: nothing is after Close has withdrawn all.
    MutexLock lock(mutex_);
    if (!closed_) {
      ++active_[message.counter];
      auto counted = [self = shared_from_this(), counter = message.counter,
                      done = std::move(done)](absl::Status status) mutable {
        self->Counted(counter, std::move(done), std::move(status));
      };
      if (message.receive) {
        transport_.Receive(operations_, KeyOf(message.member), message.tag,
                           message.data, message.bytes, std::move(counted));
      } else {
        transport_.Send(operations_, KeyOf(message.member), message.tag,
                        message.data, message.bytes, std::move(counted));
      }
      return;
    }
  }
  if (done != nullptr) {
    std::move(done)(absl::CancelledError("the group is over"));
  }
}

void NetSide::CountedSend(int to, uint64_t tag, std::string bytes, Done done) {
  auto held = std::make_shared<std::string>(std::move(bytes));
  Queue({false, kControlSend, to, tag, held->data(),
         static_cast<int64_t>(held->size())},
        [held, done = std::move(done)](absl::Status status) mutable {
          if (done != nullptr) std::move(done)(std::move(status));
        });
}

void NetSide::CountedReceive(int from, uint64_t tag,
                             const std::shared_ptr<std::string>& into,
                             Done done) {
  Queue({true, kControlReceive, from, tag, into->data(),
         static_cast<int64_t>(into->size())},
        std::move(done));
}

// --- the meeting ------------------------------------------------------------

void NetSide::Ask() {
  for (const int m : far_) {
    bool expect_hello = false, expect_answer = false, expect_ending = false;
    {
      MutexLock lock(mutex_);
      if (closed_) return;
      Member& other = member(m);
      if (other.port != 0) continue;
      expect_hello = !std::exchange(other.hello_expected, true);
      expect_answer = !std::exchange(other.answer_expected, true);
      expect_ending = !std::exchange(other.ending_expected, true);
    }
    if (expect_ending) ExpectEnding(m);
    if (expect_answer) ExpectAnswer(m);
    if (expect_hello) ExpectHello(m);
    // Again each time: a former life of the other may have got the last one.
    SayHello(m);
  }
}

std::vector<int> NetSide::NotMet() const {
  MutexLock lock(mutex_);
  std::vector<int> out;
  for (const Member& m : state_) {
    if (m.port == 0) out.push_back(m.index);
  }
  return out;
}

void NetSide::SayHello(int to) {
  CountedSend(to, NetHelloTag(group_, members_.self, to),
              BytesOf(Hello{group_, port_, 0}), nullptr);
}

void NetSide::ExpectHello(int from) {
  auto bytes = std::make_shared<std::string>(sizeof(Hello), '\0');
  CountedReceive(from, NetHelloTag(group_, from, members_.self), bytes,
                 [this, from, bytes](absl::Status status) {
                   if (status.ok()) {
                     OnHello(from, FromBytes<Hello>(*bytes));
                     return;
                   }
                   {
                     MutexLock lock(mutex_);
                     member(from).hello_expected = false;
                     if (member(from).port == 0) return;  // to be tried again
                   }
                   Lost(from, status);
                 });
}

void NetSide::ExpectAnswer(int from) {
  auto bytes = std::make_shared<std::string>(sizeof(Hello), '\0');
  CountedReceive(from, NetTag(port_, from, NetKind::kAnswer, 0), bytes,
                 [this, from, bytes](absl::Status status) {
                   if (status.ok()) {
                     OnAnswer(from, FromBytes<Hello>(*bytes));
                     return;
                   }
                   MutexLock lock(mutex_);
                   member(from).answer_expected = false;
                 });
}

void NetSide::OnHello(int from, const Hello& hello) {
  if (hello.group != group_) return;
  bool again = false, other_life = false, ended = false, over = false;
  {
    MutexLock lock(mutex_);
    if (closed_) return;
    Member& other = member(from);
    // That of a former life may come late.
    other_life = other.port != 0 && IsLaterNetPort(hello.port, other.port);
    // It may have missed ours: that of its former life got it.
    again = other.port == 0;
    // The first life of it that we know of waits for us; a later one waits for
    // our next.
    over = !ending_.empty();
    ended = over && other.greeting_port == 0;
    if ((!over || ended) && IsLaterNetPort(hello.port, other.greeting_port)) {
      other.greeting_port = hello.port;
    }
  }
  ExpectHello(from);
  if (ended) SendEnding(from, hello.port);
  if (over) return;
  if (other_life) {
    Fail(from, absl::UnavailableError(absl::StrCat(MemberName(members_, from),
                                                   " made the group anew")));
    return;
  }
  CountedSend(from, NetTag(hello.port, members_.self, NetKind::kAnswer, 0),
              BytesOf(Hello{group_, port_, hello.port}), nullptr);
  if (again) SayHello(from);
}

void NetSide::OnAnswer(int from, const Hello& answer) {
  {
    MutexLock lock(mutex_);
    Member& other = member(from);
    if (closed_ || other.port != 0) return;
    other.port = answer.port;
    if (std::exchange(other.ending_expected, true)) return;
  }
  ExpectEnding(from);
}

void NetSide::ExpectEnding(int from) {
  ExpectStall(from, 1);
  auto bytes = std::make_shared<std::string>(sizeof(Ending), '\0');
  CountedReceive(
      from, NetTag(port_, from, NetKind::kEnding, 0), bytes,
      [this, from, bytes](absl::Status status) {
        if (!status.ok()) {
          Lost(from, status);
          return;
        }
        const auto ending = FromBytes<Ending>(*bytes);
        {
          MutexLock lock(mutex_);
          member(from).completed = ending.completed;
        }
        const size_t size =
            std::min<size_t>(ending.message_bytes, sizeof(ending.message));
        const absl::string_view text(ending.message, size);
        Fail(from, {static_cast<absl::StatusCode>(ending.code), text});
      });
}

void NetSide::Lost(int index, const absl::Status& status) {
  {
    MutexLock lock(mutex_);
    if (closed_) return;  // it was withdrawn
  }
  Fail(index,
       absl::UnavailableError(absl::StrCat(MemberName(members_, index),
                                           " is gone: ", status.message())));
}

void NetSide::Fail(int index, absl::Status status) {
  MutexLock lock(mutex_);
  member(index).ended = true;
  if (status.ok())
    status = absl::InternalError("a member ended without reason");
  if (failure_.ok()) failure_ = std::move(status);
}

// --- calls ------------------------------------------------------------------

void NetSide::ExchangeHeaders(uint64_t ordinal, std::string header) {
  for (const int m : far_) {
    auto bytes = std::make_shared<std::string>(header.size(), '\0');
    uint32_t port = 0;
    {
      MutexLock lock(mutex_);
      member(m).header_here = false;
      port = member(m).port;
    }
    CountedReceive(m, NetTag(port_, m, NetKind::kHeader, ordinal), bytes,
                   [this, m, bytes](absl::Status status) {
                     if (!status.ok()) {
                       Lost(m, status);
                       return;
                     }
                     MutexLock lock(mutex_);
                     member(m).header = std::move(*bytes);
                     member(m).header_here = true;
                   });
    ExpectFinished(m, ordinal);
    CountedSend(m, NetTag(port, members_.self, NetKind::kHeader, ordinal),
                header, [this, m](absl::Status status) {
                  if (!status.ok()) Lost(m, status);
                });
  }
}

const void* NetSide::header(int m) const {
  MutexLock lock(mutex_);
  const Member& other = member(m);
  return other.header_here ? other.header.data() : nullptr;
}

void NetSide::ExpectFinished(int from, uint64_t ordinal) {
  auto bytes = std::make_shared<std::string>(sizeof(uint64_t), '\0');
  CountedReceive(from, NetTag(port_, from, NetKind::kFinished, ordinal), bytes,
                 [this, from, bytes](absl::Status status) {
                   if (!status.ok()) {
                     Lost(from, status);
                     return;
                   }
                   MutexLock lock(mutex_);
                   member(from).finished = FromBytes<uint64_t>(*bytes);
                 });
}

void NetSide::TellAll(NetKind kind, uint64_t number) {
  for (const int m : far_) {
    uint32_t port = 0;
    {
      MutexLock lock(mutex_);
      port = member(m).port;
    }
    CountedSend(m, NetTag(port, members_.self, kind, number), BytesOf(number),
                [this, m](absl::Status status) {
                  if (!status.ok()) Lost(m, status);
                });
  }
}

void NetSide::SendFinished(uint64_t ordinal) {
  TellAll(NetKind::kFinished, ordinal);
}

void NetSide::SendStall() { TellAll(NetKind::kStall, ++told_stalls_); }

void NetSide::ExpectStall(int from, uint64_t number) {
  auto bytes = std::make_shared<std::string>(sizeof(uint64_t), '\0');
  CountedReceive(from, NetTag(port_, from, NetKind::kStall, number), bytes,
                 [this, from, number, bytes](absl::Status status) {
                   // A member that is gone is noticed by its ending.
                   if (!status.ok()) return;
                   {
                     MutexLock lock(mutex_);
                     member(from).stalls = FromBytes<uint64_t>(*bytes);
                   }
                   ExpectStall(from, number + 1);
                 });
}

uint64_t NetSide::stalls(int m) const {
  MutexLock lock(mutex_);
  return member(m).stalls;
}

uint64_t NetSide::finished(int m) const {
  MutexLock lock(mutex_);
  return member(m).finished;
}

uint64_t NetSide::completed(int m) const {
  MutexLock lock(mutex_);
  return member(m).completed;
}

void NetSide::Send(int to, const void* data, int64_t bytes, Done done) {
  uint64_t tag = 0;
  {
    MutexLock lock(mutex_);
    Member& other = member(to);
    tag = NetTag(other.port, members_.self, NetKind::kData, other.sent++);
  }
  Queue({false, kDataMessage, to, tag, const_cast<void*>(data), bytes},
        [this, to, done = std::move(done)](absl::Status status) mutable {
          if (!status.ok()) Lost(to, status);
          std::move(done)(std::move(status));
        });
}

void NetSide::Receive(int from, void* data, int64_t bytes, Done done) {
  uint64_t tag = 0;
  {
    MutexLock lock(mutex_);
    Member& other = member(from);
    tag = NetTag(port_, from, NetKind::kData, other.received++);
  }
  Queue({true, kDataMessage, from, tag, data, bytes},
        [this, from, done = std::move(done)](absl::Status status) mutable {
          if (!status.ok()) Lost(from, status);
          std::move(done)(std::move(status));
        });
}

// --- the end ----------------------------------------------------------------

absl::Status NetSide::failure() const {
  MutexLock lock(mutex_);
  return failure_;
}

void NetSide::SendFailure(const absl::Status& reason, uint64_t completed) {
  Ending ending;
  ending.completed = completed;
  ending.code = static_cast<int32_t>(reason.code());
  ending.message_bytes = static_cast<uint32_t>(
      std::min(reason.message().size(), sizeof(ending.message)));
  std::memcpy(ending.message, reason.message().data(), ending.message_bytes);
  std::vector<std::pair<int, uint32_t>> known;
  {
    MutexLock lock(mutex_);
    ending_ = BytesOf(ending);
    // Also one that has told its end: it may wait for ours (Quiet).
    for (const Member& m : state_) {
      const uint32_t port = m.port != 0 ? m.port : m.greeting_port;
      if (port != 0) known.push_back({m.index, port});
    }
  }
  for (const auto& [to, port] : known) SendEnding(to, port);
}

void NetSide::SendEnding(int to, uint32_t port) {
  std::string bytes;
  {
    MutexLock lock(mutex_);
    bytes = ending_;
  }
  CountedSend(to, NetTag(port, members_.self, NetKind::kEnding, 0),
              std::move(bytes), nullptr);
}

bool NetSide::Quiet() const {
  MutexLock lock(mutex_);
  if (active_[kControlSend] > 0) return false;
  return active_[kDataMessage] == 0 ||
         std::all_of(state_.begin(), state_.end(),
                     [](const Member& m) { return m.ended || m.port == 0; });
}

void NetSide::Close() {
  {
    MutexLock lock(mutex_);
    if (std::exchange(closed_, true)) return;
  }
  transport_.CancelGroup(operations_,
                         [self = shared_from_this()](absl::Status) {
                           {
                             MutexLock lock(self->mutex_);
                             self->withdrawn_ = true;
                           }
                           self->changed_();
                         });
}

bool NetSide::Over() const {
  MutexLock lock(mutex_);
  return withdrawn_ && std::all_of(std::begin(active_), std::end(active_),
                                   [](int active) { return active == 0; });
}

}  // namespace sluice::agent
