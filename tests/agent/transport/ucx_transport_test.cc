#include "agent/transport/ucx_transport.h"

#include <sys/resource.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <future>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace sluice::agent {
namespace {

using Bytes = std::vector<unsigned char>;

constexpr UcxTransport::GroupId kGroup = 7;
constexpr UcxTransport::PeerKey kA = 1;
constexpr UcxTransport::PeerKey kB = 2;
// Longer than any test may take: a wait that needs it has failed.
constexpr auto kPatience = std::chrono::seconds(20);

Bytes RandomBytes(size_t n, uint64_t seed) {
  std::mt19937_64 random(seed);
  Bytes bytes(n);
  for (auto& b : bytes) b = static_cast<unsigned char>(random());
  return bytes;
}

// The end of one operation, to be waited for on the main thread.
class Ending {
 public:
  UcxTransport::Done Callback() {
    return [promise = promise_](absl::Status status) {
      promise->set_value(std::move(status));
    };
  }
  bool IsOver() {
    return future_.wait_for(std::chrono::seconds(0)) ==
           std::future_status::ready;
  }
  absl::Status Wait() {
    if (future_.wait_for(kPatience) != std::future_status::ready) {
      return absl::DeadlineExceededError("never ended");
    }
    return future_.get();
  }

 private:
  std::shared_ptr<std::promise<absl::Status>> promise_ =
      std::make_shared<std::promise<absl::Status>>();
  std::future<absl::Status> future_ = promise_->get_future();
};

struct Pair {
  std::unique_ptr<UcxTransport> a, b;
};

std::unique_ptr<UcxTransport> MakeTransport() {
  auto made = UcxTransport::Create({.net_devices = "lo"});
  INFO(made.status());
  REQUIRE(made.ok());
  return *std::move(made);
}

// `a` knows `b` as kB, `b` knows `a` as kA.
Pair MakePair() {
  Pair pair{MakeTransport(), MakeTransport()};
  REQUIRE(pair.a->Connect(kB, pair.b->LocalAddress()).ok());
  REQUIRE(pair.b->Connect(kA, pair.a->LocalAddress()).ok());
  return pair;
}

TEST_CASE("messages of all sizes arrive by their tags, both ways", "[ucx]") {
  const Pair pair = MakePair();
  const std::vector<size_t> sizes = {0,    1,     100,     4095,    4096,
                                     9000, 65537, 1 << 20, 4 << 20, 10000001};
  std::vector<Bytes> sent, received;
  std::vector<Ending> ends(2 * sizes.size());
  for (size_t i = 0; i < sizes.size(); ++i) {
    sent.push_back(RandomBytes(sizes[i], i));
    received.emplace_back(sizes[i] + 8, 0xEE);
  }
  for (size_t i = 0; i < sizes.size(); ++i) {
    const bool from_a = i % 2 == 0;
    UcxTransport& sender = from_a ? *pair.a : *pair.b;
    sender.Send(kGroup, from_a ? kB : kA, 1000 + i, sent[i].data(),
                static_cast<int64_t>(sizes[i]), ends[2 * i].Callback());
  }
  // Posted in the opposite order.
  for (size_t i = sizes.size(); i-- > 0;) {
    const bool from_a = i % 2 == 0;
    UcxTransport& receiver = from_a ? *pair.b : *pair.a;
    receiver.Receive(kGroup, from_a ? kA : kB, 1000 + i, received[i].data(),
                     static_cast<int64_t>(sizes[i]),
                     ends[2 * i + 1].Callback());
  }
  for (Ending& end : ends) REQUIRE(end.Wait() == absl::OkStatus());
  for (size_t i = 0; i < sizes.size(); ++i) {
    CAPTURE(sizes[i]);
    CHECK(std::equal(sent[i].begin(), sent[i].end(), received[i].begin()));
    // Nothing beyond the message.
    CHECK(std::count(received[i].begin() + sizes[i], received[i].end(), 0xEE) ==
          8);
  }
}

TEST_CASE("messages that came before their receives are found, short and long",
          "[ucx]") {
  const Pair pair = MakePair();
  const Bytes message = RandomBytes(1 << 20, 1);
  for (const int64_t bytes : {16, 300, 1 << 20}) {
    Bytes memory(1 << 20);
    Ending early, late, received, behind;
    pair.a->Send(kGroup, kB, 1, message.data(), bytes, early.Callback());
    // What was sent behind it is there: so is it, and nobody has asked for it.
    pair.a->Send(kGroup, kB, 2, message.data(), 8, late.Callback());
    pair.b->Receive(kGroup, kA, 2, memory.data(), 8, behind.Callback());
    REQUIRE(behind.Wait().ok());
    pair.b->Receive(kGroup, kA, 1, memory.data(), bytes, received.Callback());
    CHECK(received.Wait() == absl::OkStatus());
    CHECK(early.Wait().ok());
    CHECK(late.Wait().ok());
    CHECK(std::equal(memory.begin(), memory.begin() + bytes, message.begin()));
  }
}

TEST_CASE("a message of another size than expected is data loss", "[ucx]") {
  const Pair pair = MakePair();
  const Bytes message = RandomBytes(1 << 20, 1);
  Bytes memory(2 << 20);
  for (const int64_t expected : {int64_t{1} << 19, int64_t{2} << 20}) {
    Ending sent, received;
    pair.b->Receive(kGroup, kA, 1, memory.data(), expected,
                    received.Callback());
    pair.a->Send(kGroup, kB, 1, message.data(), 1 << 20, sent.Callback());
    CHECK(received.Wait().code() == absl::StatusCode::kDataLoss);
    // The sender may learn of it or not.
    CHECK(sent.Wait().code() != absl::StatusCode::kDeadlineExceeded);
  }
}

TEST_CASE("posted receives of a group are withdrawn, others stay", "[ucx]") {
  const Pair pair = MakePair();
  Bytes first(1 << 20), second(1 << 20);
  Ending cancelled, kept, over;
  pair.b->Receive(/*group=*/1, kA, 1, first.data(), 1 << 20,
                  cancelled.Callback());
  pair.b->Receive(/*group=*/2, kA, 2, second.data(), 1 << 20, kept.Callback());
  pair.b->CancelGroup(1, over.Callback());
  REQUIRE(over.Wait().ok());
  CHECK(cancelled.IsOver());
  CHECK(cancelled.Wait().code() == absl::StatusCode::kCancelled);
  CHECK_FALSE(kept.IsOver());

  const Bytes message = RandomBytes(1 << 20, 2);
  Ending sent;
  pair.a->Send(2, kB, 2, message.data(), 1 << 20, sent.Callback());
  CHECK(kept.Wait().ok());
  CHECK(second == message);
}

TEST_CASE("a send that nobody receives is ended by force, and the next works",
          "[ucx]") {
  const Pair pair = MakePair();
  const Bytes message = RandomBytes(8 << 20, 3);
  Ending stuck, over;
  pair.a->Send(/*group=*/1, kB, 1, message.data(), 8 << 20, stuck.Callback());
  pair.a->CancelGroup(1, over.Callback());
  REQUIRE(over.Wait().ok());
  REQUIRE(stuck.IsOver());
  CHECK(stuck.Wait().code() == absl::StatusCode::kCancelled);

  // Again and again: either side's next operation makes a connection. One that
  // meets the old connection's end may fail, as UNAVAILABLE.
  Bytes memory(8 << 20);
  for (int attempt = 0;; ++attempt) {
    REQUIRE(attempt < 10);
    Ending sent, received;
    const auto group = static_cast<UcxTransport::GroupId>(10 + attempt);
    const auto tag = static_cast<uint64_t>(100 + attempt);
    pair.b->Receive(group, kA, tag, memory.data(), 8 << 20,
                    received.Callback());
    pair.a->Send(group, kB, tag, message.data(), 8 << 20, sent.Callback());
    const absl::Status end = sent.Wait();
    if (end.ok()) {
      CHECK(received.Wait().ok());
      break;
    }
    CHECK(end.code() == absl::StatusCode::kUnavailable);
    Ending cleared;
    pair.b->CancelGroup(group, cleared.Callback());
    REQUIRE(cleared.Wait().ok());
  }
  CHECK(memory == message);
}

TEST_CASE("operations with an unknown or forgotten peer fail at once",
          "[ucx]") {
  const Pair pair = MakePair();
  Bytes memory(100);
  Ending unknown, waiting, gone, after;
  pair.a->Send(kGroup, /*peer=*/99, 1, memory.data(), 100, unknown.Callback());
  CHECK(unknown.Wait().code() == absl::StatusCode::kUnavailable);
  pair.a->Receive(kGroup, kB, 1, memory.data(), 100, waiting.Callback());
  pair.a->Disconnect(kB, gone.Callback());
  CHECK(gone.Wait().ok());
  CHECK(waiting.IsOver());
  CHECK(waiting.Wait().code() == absl::StatusCode::kUnavailable);
  pair.a->Send(kGroup, kB, 1, memory.data(), 100, after.Callback());
  CHECK(after.Wait().code() == absl::StatusCode::kUnavailable);
}

TEST_CASE("a transport that ends tells its peers, and ends its own operations",
          "[ucx]") {
  Pair pair = MakePair();
  Bytes memory(1 << 20);
  Ending own, other, exchanged_a, exchanged_b;
  pair.a->Send(kGroup, kB, 5, memory.data(), 10, exchanged_a.Callback());
  pair.b->Receive(kGroup, kA, 5, memory.data(), 10, exchanged_b.Callback());
  REQUIRE(exchanged_a.Wait().ok());
  REQUIRE(exchanged_b.Wait().ok());
  pair.a->Receive(kGroup, kB, 1, memory.data(), 1 << 20, own.Callback());
  pair.b->Receive(kGroup, kA, 2, memory.data(), 1 << 20, other.Callback());
  pair.a.reset();
  CHECK(own.Wait().code() == absl::StatusCode::kCancelled);
  CHECK(other.Wait().code() == absl::StatusCode::kUnavailable);
}

TEST_CASE("an idle transport uses no processor time", "[ucx]") {
  const Pair pair = MakePair();
  Bytes memory(1 << 20);
  Ending sent, received, waiting;
  pair.b->Receive(kGroup, kA, 1, memory.data(), 1 << 20, received.Callback());
  pair.a->Send(kGroup, kB, 1, memory.data(), 1 << 20, sent.Callback());
  REQUIRE(sent.Wait().ok());
  REQUIRE(received.Wait().ok());
  // A posted receive is waiting, too, not only nothing to do.
  pair.b->Receive(kGroup, kA, 2, memory.data(), 1 << 20, waiting.Callback());
  const auto used = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto micros = [](const timeval& t) {
      return int64_t{t.tv_sec} * 1000000 + t.tv_usec;
    };
    return micros(usage.ru_utime) + micros(usage.ru_stime);
  };
  const int64_t before = used();
  std::promise<void> never;
  never.get_future().wait_for(std::chrono::milliseconds(500));
  // A busy poll would use 1,000,000 on two threads.
  CHECK(used() - before < 50000);
}

}  // namespace
}  // namespace sluice::agent
