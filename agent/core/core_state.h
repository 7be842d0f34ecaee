#ifndef SLUICE_AGENT_CORE_CORE_STATE_H_
#define SLUICE_AGENT_CORE_CORE_STATE_H_

// Everything an agent's core knows, in one place: the handlers (stream,
// operations, workers, samples) are functions of it.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "agent/core/agent_options.h"
#include "agent/core/buffer_table.h"
#include "agent/core/command_log.h"
#include "agent/core/events.h"
#include "agent/core/operation_table.h"
#include "agent/core/outbox.h"
#include "agent/core/part_cache.h"
#include "agent/core/placement_table.h"
#include "agent/core/sample_arena.h"
#include "agent/core/sample_index.h"
#include "common/command.h"

namespace sluice::agent {

struct Session {
  std::string worker;
};

// A pin that was given.
struct HeldPin {
  SessionId session;
  CopyRef copy;
  BufferId buffer;
};

// Calls that wait for something local.
struct WaitingWriter {
  BeginWriteRequest request;
  PlacementPtr placement;
  absl::Time until;
};
struct WaitingPin {
  PinRequest request;
  PlacementPtr placement;
  absl::Time until;
};
// A definition whose arenas the host still makes, and who asked.
struct WaitingDefinition {
  PlacementPtr placement;
  std::vector<std::pair<Epoch, CommandId>> answer_to;
};

// An event that the coordinator has not acknowledged yet; told again after each
// inventory.
struct News {
  AgentEventBody body;
  // The worker's call that waits for the ack, and how long.
  std::optional<CallId> call;
  absl::Time call_until;
  PlacementPtr placement;     // WriteEvent
  ReservationId reservation;  // SamplesAddedEvent
  BufferId lent;              // WriteEvent of kind kLent
};

struct CoreState {
  explicit CoreState(AgentOptions agent_options)
      : options(std::move(agent_options)),
        out(options.incarnation),
        buffers(options.memory_bytes),
        arena(options.sample_segment_bytes, &buffers),
        parts(options.max_kept_parts) {}
  CoreState(const CoreState&) = delete;
  CoreState& operator=(const CoreState&) = delete;

  const AgentOptions options;
  absl::Time now;
  Outbox out;

  // Who this agent is: from Register, or from the first Welcome if that comes
  // before its answer.
  std::string cluster_id;
  Rank rank = kNoRank;
  // A Welcome was accepted on the present stream, whose epoch is log.epoch().
  bool welcomed = false;
  // CloseStream was ordered; what still arrives on the stream is dropped.
  bool closing = false;
  CommandLog log;

  BufferTable buffers;
  SampleArena arena;  // after buffers, before whatever owns blocks
  SampleIndex samples;
  PlacementTable placements;
  OperationTable operations;
  PartCache parts;

  uint64_t next_session = 1;
  std::map<SessionId, Session> sessions;
  uint64_t next_pin = 1;
  std::map<PinId, HeldPin> pins;
  uint64_t last_overwrite = 0;
  uint64_t next_event_id = 1;
  std::map<uint64_t, News> news;

  // First come, first served.
  std::vector<WaitingDefinition> definitions;
  std::vector<WaitingWriter> writers;
  std::vector<WaitingPin> waiting_pins;
  // Placements whose lent memory has ended with its worker, but is still being
  // filled.
  std::vector<PlacementPtr> ended_memory;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CORE_CORE_STATE_H_
