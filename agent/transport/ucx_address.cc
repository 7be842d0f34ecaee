#include "agent/transport/ucx_address.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace sluice::agent {
namespace {

constexpr absl::string_view kMagic = "ucx1";

// The address of an interface that is up; empty if it is another kind.
std::string Ipv4Of(const ifaddrs& interface) {
  if (interface.ifa_addr == nullptr ||
      interface.ifa_addr->sa_family != AF_INET ||
      (interface.ifa_flags & IFF_UP) == 0) {
    return "";
  }
  sockaddr_in address{};
  std::memcpy(&address, interface.ifa_addr, sizeof(address));
  char text[INET_ADDRSTRLEN] = "";
  inet_ntop(AF_INET, &address.sin_addr, text, sizeof(text));
  return text;
}

}  // namespace

std::string UcxAddress::Encode() const {
  return absl::StrCat(kMagic, " ", absl::Hex(client_id), " ", host, " ", port);
}

absl::StatusOr<UcxAddress> DecodeUcxAddress(absl::string_view bytes) {
  const std::vector<std::string> parts = absl::StrSplit(bytes, ' ');
  UcxAddress address;
  uint32_t port = 0;
  in_addr ip{};
  if (parts.size() != 4 || parts[0] != kMagic ||
      !absl::SimpleHexAtoi(parts[1], &address.client_id) ||
      inet_pton(AF_INET, parts[2].c_str(), &ip) != 1 ||
      !absl::SimpleAtoi(parts[3], &port) || port == 0 || port > 65535) {
    return absl::InvalidArgumentError(absl::StrCat(
        "not a network address of an agent (", bytes.size(), " bytes)"));
  }
  address.host = parts[2];
  address.port = static_cast<uint16_t>(port);
  return address;
}

absl::StatusOr<std::string> AddressOfDevices(absl::string_view devices) {
  ifaddrs* interfaces = nullptr;
  if (getifaddrs(&interfaces) != 0) {
    return absl::UnavailableError(
        absl::StrCat("getifaddrs: ", std::strerror(errno)));
  }
  const auto free_interfaces =
      absl::MakeCleanup([interfaces] { freeifaddrs(interfaces); });
  const std::vector<std::string> names =
      absl::StrSplit(devices, ',', absl::SkipEmpty());
  std::string loopback;
  for (const ifaddrs* i = interfaces; i != nullptr; i = i->ifa_next) {
    const std::string address = Ipv4Of(*i);
    if (address.empty()) continue;
    if (names.empty()) {
      if ((i->ifa_flags & IFF_LOOPBACK) == 0) return address;
      if (loopback.empty()) loopback = address;
    }
    for (const std::string& name : names) {
      if (name == i->ifa_name) return address;
    }
  }
  if (!loopback.empty()) return loopback;
  return absl::UnavailableError(
      absl::StrCat("no network device with an IPv4 address",
                   names.empty() ? "" : absl::StrCat(" among ", devices)));
}

}  // namespace sluice::agent
