// A transport against peers in other processes that stop and die.

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <future>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "agent/transport/ucx_transport.h"

namespace sluice::agent {
namespace {

constexpr UcxTransport::PeerKey kPeer = 2;
constexpr int64_t kLarge = int64_t{512} << 20;
constexpr auto kPatience = std::chrono::seconds(20);

// A ucx_peer process; killed at the latest when the test ends.
class PeerProcess {
 public:
  PeerProcess(const char* role, int64_t bytes) {
    int input[2], output[2];
    REQUIRE(pipe(input) == 0);
    REQUIRE(pipe(output) == 0);
    const std::string size = std::to_string(bytes);
    pid_ = fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      dup2(input[0], 0);
      dup2(output[1], 1);
      for (const int fd : {input[0], input[1], output[0], output[1]}) close(fd);
      execl(Program(), "ucx_peer", role, size.c_str(), nullptr);
      _exit(127);
    }
    close(input[0]);
    close(output[1]);
    to_ = input[1];
    from_ = output[0];
  }
  ~PeerProcess() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    close(to_);
    close(from_);
  }

  // The next line; "(end)" where none comes any more, "(silence)" where none
  // comes in time.
  std::string ReadLine() {
    size_t end = 0;
    while ((end = read_.find('\n')) == std::string::npos) {
      pollfd readable{from_, POLLIN, 0};
      constexpr std::chrono::milliseconds patience = kPatience;
      const int n = poll(&readable, 1, static_cast<int>(patience.count()));
      if (n == 0) return "(silence)";
      char part[512];
      const ssize_t bytes = n < 0 ? -1 : read(from_, part, sizeof(part));
      if (bytes <= 0) return "(end)";
      read_.append(part, static_cast<size_t>(bytes));
    }
    const std::string line = read_.substr(0, end);
    read_.erase(0, end + 1);
    return line;
  }
  void WriteLine(const std::string& line) {
    const std::string text = line + "\n";
    REQUIRE(write(to_, text.data(), text.size()) ==
            static_cast<ssize_t>(text.size()));
  }
  void Signal(int signal) { kill(pid_, signal); }

 private:
  static const char* Program() {
    const char* named = std::getenv("UCX_PEER");
    return named != nullptr ? named : "tests/agent/transport/ucx_peer";
  }

  pid_t pid_ = -1;
  int to_ = -1;
  int from_ = -1;
  std::string read_;  // of the lines to come
};

struct Meeting {
  std::unique_ptr<UcxTransport> transport;
  std::unique_ptr<PeerProcess> peer;
};

Meeting Meet(const char* role, int64_t bytes) {
  Meeting meeting;
  auto made = UcxTransport::Create({.net_devices = "lo"});
  REQUIRE(made.ok());
  meeting.transport = *std::move(made);
  meeting.peer = std::make_unique<PeerProcess>(role, bytes);
  REQUIRE(meeting.transport->Connect(kPeer, meeting.peer->ReadLine()).ok());
  meeting.peer->WriteLine(meeting.transport->LocalAddress());
  REQUIRE(meeting.peer->ReadLine() == "started");
  return meeting;
}

struct Ending {
  std::shared_ptr<std::promise<absl::Status>> promise =
      std::make_shared<std::promise<absl::Status>>();
  std::future<absl::Status> future = promise->get_future();

  UcxTransport::Done Callback() {
    return [p = promise](absl::Status status) { p->set_value(status); };
  }
  bool IsOver() {
    return future.wait_for(std::chrono::seconds(0)) ==
           std::future_status::ready;
  }
  absl::StatusCode Wait() {
    if (future.wait_for(kPatience) != std::future_status::ready) {
      return absl::StatusCode::kDeadlineExceeded;
    }
    return future.get().code();
  }
};

// Waits until a byte that the transport's thread fills has come.
void WaitForByte(unsigned char& byte) {
  const auto start = std::chrono::steady_clock::now();
  while (std::atomic_ref<unsigned char>(byte).load() != 0x11) {
    std::this_thread::yield();
    REQUIRE(std::chrono::steady_clock::now() - start < kPatience);
  }
}

bool AllBytesAre(const std::vector<unsigned char>& memory, int value) {
  return std::all_of(memory.begin(), memory.end(),
                     [value](unsigned char b) { return b == value; });
}

TEST_CASE(
    "a receive from a peer that stopped in mid-message is ended, and "
    "nothing is written after",
    "[ucx]") {
  Meeting meeting = Meet("send", kLarge);
  std::vector<unsigned char> memory(kLarge, 0x55);
  Ending received, over;
  meeting.transport->Receive(1, kPeer, 1, memory.data(), kLarge,
                             received.Callback());
  WaitForByte(memory[kLarge / 64]);
  meeting.peer->Signal(SIGSTOP);
  meeting.transport->CancelGroup(1, over.Callback());
  REQUIRE(over.Wait() == absl::StatusCode::kOk);
  REQUIRE(received.IsOver());
  CHECK(received.Wait() == absl::StatusCode::kCancelled);
  CHECK(memory[kLarge - 1] == 0x55);  // it was in mid-message

  std::fill(memory.begin(), memory.end(), 0x77);
  meeting.peer->Signal(SIGCONT);
  // The peer learns of it: UNAVAILABLE.
  CHECK(meeting.peer->ReadLine() == "ended 14");
  CHECK(AllBytesAre(memory, 0x77));
}

TEST_CASE("a send to a peer that stopped is ended at once", "[ucx]") {
  Meeting meeting = Meet("receive", kLarge);
  const std::vector<unsigned char> memory(kLarge, 0x11);
  meeting.peer->Signal(SIGSTOP);
  Ending sent, over;
  meeting.transport->Send(1, kPeer, 1, memory.data(), kLarge, sent.Callback());
  meeting.transport->CancelGroup(1, over.Callback());
  CHECK(over.Wait() == absl::StatusCode::kOk);
  REQUIRE(sent.IsOver());
  CHECK(sent.Wait() == absl::StatusCode::kCancelled);
}

TEST_CASE("a peer killed in mid-message ends what it sent", "[ucx]") {
  Meeting meeting = Meet("send", kLarge);
  std::vector<unsigned char> memory(kLarge, 0x55);
  Ending received;
  meeting.transport->Receive(1, kPeer, 1, memory.data(), kLarge,
                             received.Callback());
  WaitForByte(memory[kLarge / 64]);
  meeting.peer->Signal(SIGKILL);
  CHECK(received.Wait() == absl::StatusCode::kUnavailable);
}

TEST_CASE("a peer that is killed ends messages both ways", "[ucx]") {
  Meeting meeting = Meet("receive", 100);
  std::vector<unsigned char> memory(1 << 20);
  Ending exchanged, received, sent;
  // Once something went through, the connections stand.
  meeting.transport->Send(1, kPeer, 1, memory.data(), 100,
                          exchanged.Callback());
  REQUIRE(exchanged.Wait() == absl::StatusCode::kOk);
  REQUIRE(meeting.peer->ReadLine() == "ended 0");
  meeting.transport->Receive(1, kPeer, 2, memory.data(), 1 << 20,
                             received.Callback());
  meeting.transport->Send(1, kPeer, 3, memory.data(), 1 << 20, sent.Callback());
  meeting.peer->Signal(SIGKILL);
  CHECK(received.Wait() == absl::StatusCode::kUnavailable);
  CHECK(sent.Wait() == absl::StatusCode::kUnavailable);
}

TEST_CASE("a peer that is not there is told at once", "[ucx]") {
  std::string address;
  {
    auto gone = UcxTransport::Create({.net_devices = "lo"});
    REQUIRE(gone.ok());
    address = (*gone)->LocalAddress();
  }
  auto made = UcxTransport::Create({.net_devices = "lo"});
  REQUIRE(made.ok());
  REQUIRE((*made)->Connect(kPeer, address).ok());
  std::vector<unsigned char> memory(1 << 20);
  Ending received, sent;
  (*made)->Receive(1, kPeer, 1, memory.data(), 100, received.Callback());
  (*made)->Send(1, kPeer, 2, memory.data(), 1 << 20, sent.Callback());
  CHECK(received.Wait() == absl::StatusCode::kUnavailable);
  CHECK(sent.Wait() == absl::StatusCode::kUnavailable);
  CHECK_FALSE((*made)->Connect(kPeer, "ucx1 zz 1.2.3.4 5").ok());
  CHECK_FALSE((*made)->Connect(kPeer, "").ok());
}

// Messages with a peer, kLanes both ways at once, each lane on and on until it
// fails; at a chosen number of messages something is done.
class Exchange {
 public:
  static constexpr int kLanes = 4;

  Exchange(UcxTransport& transport, UcxTransport::PeerKey peer, int64_t bytes,
           int act_after, std::function<void()> act)
      : transport_(transport),
        peer_(peer),
        bytes_(bytes),
        act_after_(act_after),
        act_(std::move(act)),
        memory_(static_cast<size_t>(2 * kLanes * bytes)) {}

  void Start() {
    for (int lane = 0; lane < 2 * kLanes; ++lane) Next(lane);
  }
  // Whether all lanes have failed in time.
  bool Wait() {
    return end_.get_future().wait_for(kPatience) == std::future_status::ready;
  }

 private:
  // Lanes from kLanes on receive.
  void Next(int lane) {
    unsigned char* data = memory_.data() + lane * bytes_;
    const auto tag = static_cast<uint64_t>(lane % kLanes);
    auto done = [this, lane](const absl::Status& status) {
      if (++messages_ == act_after_) act_();
      if (status.ok()) {
        Next(lane);
      } else if (++failed_ == 2 * kLanes) {
        end_.set_value();
      }
    };
    if (lane < kLanes) {
      transport_.Send(peer_, peer_, tag, data, bytes_, done);
    } else {
      transport_.Receive(peer_, peer_, tag, data, bytes_, done);
    }
  }

  UcxTransport& transport_;
  const UcxTransport::PeerKey peer_;
  const int64_t bytes_;
  const int act_after_;
  const std::function<void()> act_;
  std::vector<unsigned char> memory_;
  // On the transport's thread.
  int messages_ = 0;
  int failed_ = 0;
  std::promise<void> end_;
};

TEST_CASE(
    "a process outlives peers that are killed or cut off amid many messages",
    "[ucx]") {
  auto made = UcxTransport::Create({.net_devices = "lo"});
  REQUIRE(made.ok());
  UcxTransport& transport = **made;
  // UCX_KILLS asks for more, to look for what is rare.
  const char* more = std::getenv("UCX_KILLS");
  const int rounds = more != nullptr ? std::atoi(more) : 40;
  std::mt19937 random(20261121);
  for (int round = 0; round < rounds; ++round) {
    const UcxTransport::PeerKey key = 100 + round;
    const int64_t bytes = int64_t{4096} << random() % 9;
    const int after = 1 + static_cast<int>(random() % 200);
    const bool kills = random() % 4 != 0;
    CAPTURE(round, bytes, after, kills);
    PeerProcess peer("exchange", bytes);
    REQUIRE(transport.Connect(key, peer.ReadLine()).ok());
    peer.WriteLine(transport.LocalAddress());
    REQUIRE(peer.ReadLine() == "started");
    Exchange exchange(transport, key, bytes, after, [&] {
      if (kills) {
        peer.Signal(SIGKILL);
      } else {
        transport.Disconnect(key, nullptr);
      }
    });
    exchange.Start();
    REQUIRE(exchange.Wait());
    // The one that was cut off says so; it has not crashed.
    if (!kills) CHECK(peer.ReadLine() == "ended 14");
    Ending over;
    transport.Disconnect(key, over.Callback());
    CHECK(over.Wait() == absl::StatusCode::kOk);
  }
}

}  // namespace
}  // namespace sluice::agent
