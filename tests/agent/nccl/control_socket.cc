#include "tests/agent/nccl/control_socket.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "agent/collective/call_header.h"
#include "common/check.h"

namespace sluice::testing {
namespace {

using agent::CollectiveMembers;
using agent::UniqueFd;

struct WireHeader {
  uint32_t kind = 0;
  uint32_t member = 0;
  uint64_t group = 0;
  uint64_t generation = 0;
  uint64_t number = 0;
  uint64_t bytes = 0;
};

bool WriteAll(int fd, const void* data, size_t bytes) {
  const char* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t sent = ::send(fd, at, bytes, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    at += sent;
    bytes -= static_cast<size_t>(sent);
  }
  return true;
}

bool ReadAll(int fd, void* data, size_t bytes) {
  char* at = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t got = ::recv(fd, at, bytes, 0);
    if (got <= 0) return false;
    at += got;
    bytes -= static_cast<size_t>(got);
  }
  return true;
}

bool WriteFrame(int fd, const ControlFrame& frame) {
  const WireHeader header = {static_cast<uint32_t>(frame.kind),
                             frame.member,
                             frame.group,
                             frame.generation,
                             frame.number,
                             frame.text.size()};
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
  bytes += frame.text;
  return WriteAll(fd, bytes.data(), bytes.size());
}

bool ReadFrame(int fd, ControlFrame& frame) {
  WireHeader header;
  if (!ReadAll(fd, &header, sizeof header)) return false;
  frame = {static_cast<ControlFrame::Kind>(header.kind),
           header.member,
           header.group,
           header.generation,
           header.number,
           std::string(header.bytes, '\0')};
  return ReadAll(fd, frame.text.data(), frame.text.size());
}

UniqueFd Socket(const std::string& path, sockaddr_un& address) {
  SLUICE_CHECK(path.size() < sizeof address.sun_path) << path;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  SLUICE_CHECK(fd.get() >= 0);
  return fd;
}

}  // namespace

std::string LifeName(const Peer& peer) {
  return absl::StrCat(peer.name, "#", peer.incarnation.value());
}

ControlHub::ControlHub(const std::string& path)
    : stop_(::eventfd(0, EFD_CLOEXEC)) {
  sockaddr_un address = {};
  listener_ = Socket(path, address);
  SLUICE_CHECK(::bind(listener_.get(),
                      reinterpret_cast<const sockaddr*>(&address),
                      sizeof address) == 0)
      << path;
  SLUICE_CHECK(::listen(listener_.get(), 64) == 0);
  thread_ = std::thread([this] { Serve(); });
}

ControlHub::~ControlHub() {
  const uint64_t one = 1;
  SLUICE_CHECK(::write(stop_.get(), &one, sizeof one) == sizeof one);
  thread_.join();
}

void ControlHub::Serve() {
  while (true) {
    std::vector<pollfd> fds = {{stop_.get(), POLLIN, 0},
                               {listener_.get(), POLLIN, 0}};
    for (const Client& client : clients_) {
      fds.push_back({client.fd.get(), POLLIN, 0});
    }
    if (::poll(fds.data(), fds.size(), -1) < 0) continue;
    if (fds[0].revents != 0) return;
    // From the last: those who leave make the later places move.
    for (size_t i = fds.size(); i-- > 2;) {
      if (fds[i].revents == 0 || Hear(clients_[i - 2])) continue;
      const Client gone = std::move(clients_[i - 2]);
      clients_.erase(clients_.begin() + static_cast<ptrdiff_t>(i) - 2);
      ControlFrame frame;
      frame.kind = ControlFrame::Kind::kGone;
      frame.text = gone.life;
      Tell(nullptr, frame);
    }
    if (fds[1].revents != 0) Accept();
  }
}

void ControlHub::Accept() {
  UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (fd.get() < 0) return;
  for (const ControlFrame& frame : history_) WriteFrame(fd.get(), frame);
  clients_.push_back({std::move(fd), ""});
}

bool ControlHub::Hear(Client& client) {
  ControlFrame frame;
  if (!ReadFrame(client.fd.get(), frame)) return false;
  if (frame.kind == ControlFrame::Kind::kHello) {
    client.life = frame.text;
  } else {
    Tell(&client, frame);
  }
  return true;
}

void ControlHub::Tell(const Client* from, const ControlFrame& frame) {
  history_.push_back(frame);
  for (const Client& client : clients_) {
    // One that is gone is noticed when it is heard.
    if (&client != from) WriteFrame(client.fd.get(), frame);
  }
}

class SocketControls::Control final : public agent::GroupControl {
 public:
  Control(SocketControls& controls, Key key, uint32_t self)
      : controls_(controls), key_(key), self_(self) {}

  void Leave() override {
    {
      MutexLock lock(controls_.mutex_);
      left_ = true;
      Group& group = controls_.groups_[key_];
      group.waiting.clear();
      group.on_failed = nullptr;
      group.members.reset();
    }
    // What was handed on before runs now.
    Mutex mutex;
    CondVar changed;
    bool ran = false;
    controls_.callbacks_.Post([&] {
      MutexLock lock(mutex);
      ran = true;
      changed.SignalAll();
    });
    MutexLock lock(mutex);
    while (!ran) changed.Wait(mutex);
  }

  void Exchange(std::string own, Done done) override {
    MutexLock lock(controls_.mutex_);
    if (left_) return;
    Group& group = controls_.groups_[key_];
    ControlFrame frame;
    frame.kind = ControlFrame::Kind::kGive;
    frame.member = self_;
    frame.group = key_.first;
    frame.generation = key_.second;
    frame.number = group.next++;
    frame.text = std::move(own);
    group.waiting.emplace_back(frame.number, std::move(done));
    controls_.Say(frame);
    controls_.Handle(frame);
  }

  std::vector<int> Missing() const override {
    MutexLock lock(controls_.mutex_);
    return MissingOf(controls_.groups_[key_]);
  }

  void Fail(const absl::Status& reason) override {
    MutexLock lock(controls_.mutex_);
    if (left_ || !controls_.groups_[key_].failure.ok()) return;
    ControlFrame frame;
    frame.kind = ControlFrame::Kind::kFail;
    frame.group = key_.first;
    frame.generation = key_.second;
    frame.number = static_cast<uint64_t>(reason.code());
    frame.text = std::string(reason.message());
    controls_.Say(frame);
    controls_.Handle(frame);
  }

 private:
  SocketControls& controls_;
  const Key key_;
  const uint32_t self_;
  bool left_ ABSL_GUARDED_BY(controls_.mutex_) = false;
};

SocketControls::SocketControls(const std::string& path, const std::string& life)
    : callbacks_("control") {
  sockaddr_un address = {};
  fd_ = Socket(path, address);
  SLUICE_CHECK(::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address),
                         sizeof address) == 0)
      << path;
  ControlFrame hello;
  hello.text = life;
  SLUICE_CHECK(WriteFrame(fd_.get(), hello));
  reader_ = std::thread([this] { Read(); });
}

SocketControls::~SocketControls() {
  ::shutdown(fd_.get(), SHUT_RDWR);
  reader_.join();
}

absl::StatusOr<std::shared_ptr<agent::GroupControl>> SocketControls::Join(
    const CollectiveMembers& members, OnFailed on_failed) {
  MutexLock lock(mutex_);
  const uint64_t id = members.Id();
  const Key key = {id, generations_[id]++};
  Group& group = groups_[key];
  group.members = members;
  group.on_failed = std::move(on_failed);
  CheckGone(group);
  Deliver(group);
  return std::make_shared<Control>(*this, key,
                                   static_cast<uint32_t>(members.self));
}

void SocketControls::Read() {
  ControlFrame frame;
  while (ReadFrame(fd_.get(), frame)) {
    MutexLock lock(mutex_);
    Handle(frame);
  }
}

void SocketControls::Say(const ControlFrame& frame) {
  WriteFrame(fd_.get(), frame);
}

void SocketControls::Handle(const ControlFrame& frame) {
  if (frame.kind == ControlFrame::Kind::kGone) {
    gone_.insert(frame.text);
    for (auto& [key, group] : groups_) {
      CheckGone(group);
      Deliver(group);
    }
    return;
  }
  Group& group = groups_[{frame.group, frame.generation}];
  if (frame.kind == ControlFrame::Kind::kGive) {
    group.given[{frame.number, frame.member}] = frame.text;
  } else if (group.failure.ok()) {
    group.failure =
        absl::Status(static_cast<absl::StatusCode>(frame.number), frame.text);
  }
  Deliver(group);
}

void SocketControls::CheckGone(Group& group) {
  if (!group.members.has_value() || !group.failure.ok()) return;
  for (size_t m = 0; m < group.members->peers.size(); ++m) {
    if (!gone_.contains(LifeName(group.members->peers[m]))) continue;
    group.failure = absl::UnavailableError(absl::StrCat(
        agent::MemberName(*group.members, static_cast<int>(m)), " is gone"));
    return;
  }
}

std::vector<int> SocketControls::MissingOf(const Group& group) {
  std::vector<int> missing = group.missing_at_failure;
  if (!group.members.has_value() || group.waiting.empty()) return missing;
  missing.clear();
  const uint64_t number = group.waiting.front().first;
  for (size_t m = 0; m < group.members->peers.size(); ++m) {
    if (!group.given.contains({number, static_cast<uint32_t>(m)})) {
      missing.push_back(static_cast<int>(m));
    }
  }
  return missing;
}

void SocketControls::Deliver(Group& group) {
  if (!group.members.has_value()) return;
  while (!group.waiting.empty()) {
    absl::StatusOr<std::vector<std::string>> result =
        std::vector<std::string>();
    if (!group.failure.ok()) {
      if (group.missing_at_failure.empty()) {
        group.missing_at_failure = MissingOf(group);
      }
      result = group.failure;
    } else {
      if (!MissingOf(group).empty()) return;
      const uint64_t number = group.waiting.front().first;
      for (size_t m = 0; m < group.members->peers.size(); ++m) {
        const auto given = group.given.find({number, static_cast<uint32_t>(m)});
        result->push_back(std::move(given->second));
        group.given.erase(given);
      }
    }
    callbacks_.Post([done = std::move(group.waiting.front().second),
                     result = std::move(result)]() mutable {
      std::move(done)(std::move(result));
    });
    group.waiting.pop_front();
  }
  if (!group.failure.ok() && group.on_failed != nullptr) {
    callbacks_.Post(
        [failed = std::move(group.on_failed),
         reason = group.failure]() mutable { std::move(failed)(reason); });
    group.on_failed = nullptr;
  }
}

}  // namespace sluice::testing
