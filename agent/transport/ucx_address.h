#ifndef SLUICE_AGENT_TRANSPORT_UCX_ADDRESS_H_
#define SLUICE_AGENT_TRANSPORT_UCX_ADDRESS_H_

// The address of a transport as peers carry it to each other: where it listens
// and which life of it that is.

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sluice::agent {

struct UcxAddress {
  uint64_t client_id = 0;  // random, of one life of a transport
  std::string host;        // an IPv4 address
  uint16_t port = 0;

  std::string Encode() const;
  friend bool operator==(const UcxAddress&, const UcxAddress&) = default;
};

// Errors: INVALID_ARGUMENT - not the bytes of an address.
absl::StatusOr<UcxAddress> DecodeUcxAddress(absl::string_view bytes);

// Returns the IPv4 address of the first of `devices` (names divided by commas)
// that is up and has one; without devices, of the first that is no loopback,
// else the loopback's.
// Errors: UNAVAILABLE - there is none.
absl::StatusOr<std::string> AddressOfDevices(absl::string_view devices);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_TRANSPORT_UCX_ADDRESS_H_
