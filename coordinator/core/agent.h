#ifndef SLUICE_COORDINATOR_CORE_AGENT_H_
#define SLUICE_COORDINATOR_CORE_AGENT_H_

// One agent as the coordinator sees it: identity, life, lease, connection, and
// what is under way to it.

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/command.h"
#include "common/ids.h"
#include "common/nccl_report.h"
#include "common/reduce_report.h"
#include "coordinator/core/command_outbox.h"
#include "coordinator/core/operation_types.h"

namespace sluice::coordinator {

// How an event that wants an ack was answered; nullopt: not answered yet.
struct AckedEvent {
  std::optional<absl::Status> outcome;
  Version version;
};

// Life of an incarnation, as State() tells it:
//
//   (record of an earlier life) --1--> SUSPECT --> as below
//   Register --2--> JOINING --3--> ALIVE <--4--> SUSPECT
//                      |            |  |           |
//                      |            |  5--> DRAINING
//                      +---------6--+------6-------+--> LOST --7--> JOINING
//
// 1 after a restart of the coordinator: it is awaited for a lease.
// 2 a new incarnation; the one before it is gone at once.
// 3 its stream is open and its inventory complete.
// 4 the stream broke, or beats are late; and back.
// 5 Drain: nothing new is planned on it.
// 6 the lease lapsed, or a draining agent closed its stream.
// 7 it registers again, as the same or as a new incarnation.
struct Agent {
  // --- identity: stable for a name
  std::string name;
  Rank rank = kNoRank;

  // --- the current life, as it registered
  Incarnation incarnation;  // 0: none registered in this coordinator's life
  std::string node, address, socket_path, network_address, device,
      device_description;
  // Names those who map each other's memory: agents of one node, where an agent
  // without a GPU cannot map what lies on one, nor one with a GPU what lies on
  // a GPU that it does not reach (see Peer.device).
  std::string MemoryNode() const {
    return device.starts_with("cuda") ? node + "\n" + device : node;
  }
  int64_t memory_bytes = 0;
  int64_t staging_bytes = 0;
  int64_t pid = 0;
  int32_t nccl_version = 0;  // as NCCL counts; 0: none
  std::string nccl_device;   // the same of two: they share a GPU
  // Incarnations that others have replaced: never taken back.
  std::deque<Incarnation> replaced;

  // --- lease
  absl::Time last_beat = absl::InfinitePast();
  absl::Time lease_until = absl::InfinitePast();
  bool lost = false;
  bool draining = false;
  bool beat_late = false;
  // Known from the store and not seen since the coordinator started.
  bool awaited = false;
  // Whether the store holds (name, rank, node, gone = false).
  bool recorded = false;

  // --- connection
  bool connecting = false;  // ConnectAgent was ordered for this life
  bool stream_up = false;
  // Welcome was sent on this stream, its inventory has not come.
  bool inventory_awaited = false;
  // Welcome was repeated on a running stream, for its inventory alone.
  bool inventory_requested = false;
  // An inventory of this life has come.
  bool inventoried = false;
  std::optional<absl::Time> stream_down_since;
  // The grace after a break is over and was reported.
  bool connection_lost = false;
  InventoryEvent collecting;
  CommandOutbox outbox;
  std::map<uint64_t, AckedEvent> acks;

  // --- what it holds and does
  std::vector<std::string> workers;
  std::vector<ReduceGroupReport> reduce_groups;  // of the last beat
  NcclReport nccl;                               // likewise
  absl::flat_hash_set<uint64_t> known_parts;     // digests
  // Staging memory held by operations, in bytes.
  std::map<OperationId, int64_t> staging_held;

  AgentState State() const {
    if (lost) return AgentState::kLost;
    if (draining) return AgentState::kDraining;
    if (incarnation == Incarnation()) return AgentState::kSuspect;
    if (!inventoried) return AgentState::kJoining;
    if (!stream_up || inventory_awaited || beat_late) {
      return AgentState::kSuspect;
    }
    return AgentState::kAlive;
  }
  // Whether commands reach it now.
  bool Reachable() const { return !lost && stream_up && !inventory_awaited; }
  int64_t StagingUsed() const {
    int64_t used = 0;
    for (const auto& [operation, bytes] : staging_held) used += bytes;
    return used;
  }
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_AGENT_H_
