// The other side of ucx_process_test: a transport in a process of its own,
// which the test stops and kills.
//
//   ucx_peer send|receive BYTES
//
// Prints its address; reads the test's address; starts one message of BYTES
// bytes (tag 1) and prints "started"; prints "ended CODE" when it is over; ends
// when its input does.

#include <cstdio>
#include <future>
#include <iostream>
#include <string>
#include <vector>

#include "agent/transport/ucx_transport.h"

int main(int argc, char** argv) {
  using sluice::agent::UcxTransport;
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
