#ifndef SLUICE_AGENT_COLLECTIVE_NET_TAGS_H_
#define SLUICE_AGENT_COLLECTIVE_NET_TAGS_H_

// How messages of groups are told apart on the wire. Tags have their highest
// bit set, which those of plans' operations never have.

#include <cstdint>

#include "agent/transport/ucx_transport.h"

namespace sluice::agent {

enum class NetKind : uint64_t {
  kAnswer = 1,
  kHeader = 2,
  kFinished = 3,
  kEnding = 4,
  kData = 5,
  kStall = 6,
  kHello = 7,
};

// The tag of the `number`-th message of a kind (the lowest 26 bits count) from
// member `sender` to the life of a group that has `port`.
uint64_t NetTag(uint32_t port, int sender, NetKind kind, uint64_t number);
// The tag of hellos, whose sender does not know the port yet.
uint64_t NetHelloTag(uint64_t group, int sender, int receiver);

// A port that no other group of this process has: 24 bits, not 0.
uint32_t NextNetPort();
// Whether a port of a process was given after another one (0: none); they wrap.
bool IsLaterNetPort(uint32_t port, uint32_t other);

// Names the operations of a group to the transport: never one of a plan, which
// are small numbers.
UcxTransport::GroupId NextNetOperations();

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_COLLECTIVE_NET_TAGS_H_
