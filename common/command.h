#ifndef SLUICE_COMMON_COMMAND_H_
#define SLUICE_COMMON_COMMAND_H_

// What a coordinator tells an agent and what an agent tells it, as domain
// values: the two pure cores speak these to each other, over gRPC
// (proto/sluice/v1/command.proto, same names and meaning) or over the
// simulator's network.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/digest_value.h"
#include "common/ids.h"
#include "common/layout.h"
#include "common/mesh.h"
#include "common/model.h"
#include "common/plan.h"

namespace sluice {

// As v1::Storage.
enum class Storage { kUnspecified = 0, kArena = 1, kLent = 2, kHostArena = 3 };

// A placement by name, as defined in one generation.
struct PlacementRef {
  std::string model;
  std::string placement;
  uint64_t generation = 0;
  friend auto operator<=>(const PlacementRef&, const PlacementRef&) = default;
};

struct PlacementDefinition {
  PlacementRef ref;
  std::shared_ptr<const ModelSpec> spec;
  std::shared_ptr<const Layout> layout;
  Mesh mesh;                        // ranks are cluster ranks
  std::vector<std::string> agents;  // names by mesh index
  int64_t mesh_index = 0;           // of the agent told
  Storage storage = Storage::kArena;
};

struct Peer {
  Rank rank = kNoRank;
  std::string name;
  std::string node;
  Incarnation incarnation;
  std::string network_address;
  std::string socket_path;
  std::string device = {};  // kind, such as "host"
  friend bool operator==(const Peer&, const Peer&) = default;
};

// Agents of an operation whose GPUs exchange its messages by NCCL; no members:
// there is none.
struct MessageGroup {
  struct Member {
    Rank rank = kNoRank;
    Incarnation incarnation;
    friend auto operator<=>(const Member&, const Member&) = default;
  };
  // The same name and members mean a communicator made before.
  std::string name;
  std::vector<Member> members;
  friend bool operator==(const MessageGroup&, const MessageGroup&) = default;
};

// --- commands ---------------------------------------------------------------

struct WelcomeCommand {
  std::string cluster_id;
  Rank rank = kNoRank;
  Incarnation incarnation;
};
struct DefinePlacementCommand {
  PlacementDefinition definition;
};
struct RemovePlacementCommand {
  PlacementRef placement;
};
struct SetPeersCommand {
  std::vector<Peer> peers;
};
// Answered (CommandResult) when started or refused; votes like an executed part
// when the views are in memory.
struct LoadCommand {
  OperationId operation;
  PlacementRef placement;
  std::string directory;
  absl::Duration deadline;
};
struct PrepareCommand {
  OperationId operation;
  uint64_t part_digest = 0;
  std::shared_ptr<const PlanPart> part;  // null: known by digest
  PlacementRef source;                   // empty model: samples
  Version version;
  std::vector<PlacementRef> destinations;
  bool digests = true;
  int64_t staging_bytes = 0;
  absl::Duration wait_deadline;
  absl::Duration progress_timeout;
  absl::Duration deadline;
  MessageGroup group = {};
};
struct ExecuteCommand {
  OperationId operation;
};
struct CommitCommand {
  OperationId operation;
  Version version;  // published by this commit; 0 for samples
};
struct AbortCommand {
  OperationId operation;
  absl::Status reason;
};
struct ReleaseCommand {
  OperationId operation;
};
struct ReadDigestsCommand {
  OperationId operation;
  PlacementRef placement;
  Version version;
  // One per tensor of the model: the type to digest it in; empty: as it is
  // held.
  std::vector<DType> dtypes = {};
};
struct ClearSamplesCommand {
  std::vector<std::string> sample_ids;
  std::vector<std::string> keys;  // empty: all
};
struct EventAck {
  uint64_t event_id = 0;
  absl::Status outcome;
  Version version;
};
struct VersionAssignedCommand {
  PlacementRef placement;
  int64_t step = 0;
  Version version;
};

using CommandBody =
    std::variant<WelcomeCommand, DefinePlacementCommand, RemovePlacementCommand,
                 SetPeersCommand, LoadCommand, PrepareCommand, ExecuteCommand,
                 CommitCommand, AbortCommand, ReleaseCommand,
                 ReadDigestsCommand, ClearSamplesCommand, EventAck,
                 VersionAssignedCommand>;

// Every command but EventAck is answered by exactly one CommandResult; an
// Execute that is carried out, by the operation's vote or stop. A command
// repeated under the same (epoch, id) is answered again, not executed again.
// Prepare with an unknown digest and no part is answered NOT_FOUND.
struct Command {
  CommandId id;
  Epoch epoch;
  CommandBody body;
};

// --- events -----------------------------------------------------------------

enum class CopyState {
  kAbsent = 0,
  kStaged = 1,
  kPublished = 2,
  kTorn = 3,
  kWriting = 4,
  kFilling = 5,
};

struct CopyInventory {
  CopyState state = CopyState::kAbsent;
  Version version;
  OperationId operation;
  int64_t step = 0;
  friend bool operator==(const CopyInventory&, const CopyInventory&) = default;
};

struct PlacementInventory {
  PlacementRef placement;
  std::vector<CopyInventory> copies;
  int64_t bytes = 0;
  bool lent = false;
};

struct CommandResult {
  CommandId command;
  absl::Status outcome;
};
struct InventoryEvent {
  std::vector<PlacementInventory> placements;
  std::vector<SampleEntry> samples;
  std::vector<bool> owned;
  bool more = false;
  std::vector<OperationId> operations;
  std::vector<OperationId> undecided;
  std::vector<std::string> workers;
};
struct ProgressEvent {
  OperationId operation;
  int64_t bytes_done = 0;
};
struct PartStats {
  LinkBytes bytes{};
  std::array<double, kNumLinkClasses> seconds{};
  int64_t digest_bytes = 0;
  int64_t digests_compared = 0;
  int64_t peak_staging_bytes = 0;
};
struct VoteEvent {
  OperationId operation;
  absl::Status outcome;
  PartStats stats;
  Rank blamed = kNoRank;
};
struct StoppedEvent {
  OperationId operation;
};
struct SamplesAddedEvent {
  std::vector<SampleEntry> entries;
};
struct WriteEvent {
  enum class Kind { kUnspecified = 0, kLent, kBegun, kEnded, kTorn };
  PlacementRef placement;
  Kind kind = Kind::kUnspecified;
  int64_t step = 0;
  Version version;
  std::string worker;
};
struct BoxDigest {
  TensorIndex tensor;
  Box box;
  Digest digest;
};
struct DigestsEvent {
  OperationId operation;
  std::vector<BoxDigest> digests;
};

// Who is attached now; told whenever it changes.
struct WorkersEvent {
  std::vector<std::string> workers;
};

using AgentEventBody =
    std::variant<CommandResult, InventoryEvent, ProgressEvent, VoteEvent,
                 StoppedEvent, SamplesAddedEvent, WriteEvent, DigestsEvent,
                 WorkersEvent>;

struct AgentEvent {
  uint64_t event_id = 0;  // not 0: an EventAck is wanted
  Incarnation incarnation;
  AgentEventBody body;
};

}  // namespace sluice

#endif  // SLUICE_COMMON_COMMAND_H_
