// The other side of ucx_process_test: a transport in a process of its own,
// which the test stops and kills.
//
//   ucx_peer send|receive BYTES
//
// Prints its address; reads the test's address; starts one message of BYTES
// bytes (tag 1) and prints "started"; prints "ended CODE" when it is over; ends
// when its input does.
//
//   ucx_peer exchange BYTES
//
// The same with messages without end, kLanes both ways at once: each lane (tags
// from 0) starts its next message when the last one is over. Prints "ended
// CODE" when one has failed. One more receive, of tag kLanes, which nobody
// sends, is always under way: a connection may end between the messages of all
// lanes, and then the next ones connect anew and wait for who has cut us off.

#include <atomic>
#include <cstdio>
#include <future>
#include <iostream>
#include <string>
#include <vector>

#include "agent/transport/ucx_transport.h"

namespace {

using sluice::agent::UcxTransport;

constexpr int kLanes = 4;

// Messages to and from the test, until one fails.
class Exchange {
 public:
  Exchange(UcxTransport& transport, int64_t bytes)
      : transport_(transport),
        bytes_(bytes),
        memory_(static_cast<size_t>(2 * kLanes * bytes), 0x11) {}

  void Start() {
    transport_.Receive(1, 1, kLanes, &never_, 1,
                       [this](const absl::Status& status) { Failed(status); });
    for (int lane = 0; lane < 2 * kLanes; ++lane) Next(lane);
  }
  absl::Status Wait() { return end_.get_future().get(); }

 private:
  // Lanes from kLanes on receive.
  void Next(int lane) {
    char* data = memory_.data() + lane * bytes_;
    const auto tag = static_cast<uint64_t>(lane % kLanes);
    auto done = [this, lane](const absl::Status& status) {
      if (status.ok()) {
        Next(lane);
      } else {
        Failed(status);
      }
    };
    if (lane < kLanes) {
      transport_.Send(1, 1, tag, data, bytes_, done);
    } else {
      transport_.Receive(1, 1, tag, data, bytes_, done);
    }
  }

  void Failed(const absl::Status& status) {
    if (!failed_.exchange(true)) end_.set_value(status);
  }

  UcxTransport& transport_;
  const int64_t bytes_;
  std::vector<char> memory_;
  char never_ = 0;
  std::atomic<bool> failed_ = false;
  std::promise<absl::Status> end_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const std::string role = argv[1];
  const auto bytes = static_cast<int64_t>(std::stoll(argv[2]));
  auto transport = UcxTransport::Create({.net_devices = "lo"});
  if (!transport.ok()) {
    std::cerr << transport.status() << std::endl;
    return 1;
  }
  std::cout << (*transport)->LocalAddress() << std::endl;
  std::string address;
  std::getline(std::cin, address);
  if (!(*transport)->Connect(1, address).ok()) return 1;
  if (role == "exchange") {
    Exchange exchange(**transport, bytes);
    exchange.Start();
    std::cout << "started" << std::endl;
    const absl::Status status = exchange.Wait();
    std::cout << "ended " << static_cast<int>(status.code()) << std::endl;
    std::getline(std::cin, address);
    transport->reset();  // what is left of the exchange ends
    return 0;
  }
  std::vector<char> memory(static_cast<size_t>(bytes), 0x11);
  std::promise<absl::Status> end;
  auto done = [&end](absl::Status status) { end.set_value(status); };
  if (role == "send") {
    (*transport)->Send(1, 1, 1, memory.data(), bytes, done);
  } else {
    (*transport)->Receive(1, 1, 1, memory.data(), bytes, done);
  }
  std::cout << "started" << std::endl;
  const absl::Status status = end.get_future().get();
  std::cout << "ended " << static_cast<int>(status.code()) << std::endl;
  std::getline(std::cin, address);
  return 0;
}
