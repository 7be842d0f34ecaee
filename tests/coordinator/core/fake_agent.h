#ifndef SLUICE_TESTS_COORDINATOR_CORE_FAKE_AGENT_H_
#define SLUICE_TESTS_COORDINATOR_CORE_FAKE_AGENT_H_

// An agent as the coordinator's core sees it: answers commands as the real one
// does, moves no bytes, and can be told to keep silent or to refuse.

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/command.h"

namespace sluice::coordinator {

// What a copy of a placement holds: one entry for each of its copies.
struct FakePlacement {
  PlacementDefinition definition;
  std::vector<CopyInventory> copies;
};

class FakeAgent {
 public:
  FakeAgent(std::string name, std::string node)
      : name(std::move(name)), node(std::move(node)) {}

  // The agent's answers to a command, in order.
  std::vector<AgentEvent> OnCommand(const Command& command);

  // Commands of this type are received and not acted on.
  template <typename Body>
  void Mute() {
    muted_.insert(CommandBody(Body{}).index());
  }
  template <typename Body>
  void Unmute() {
    muted_.erase(CommandBody(Body{}).index());
  }
  // Commands of this type are answered with this status.
  template <typename Body>
  void Refuse(absl::Status status) {
    refused_[CommandBody(Body{}).index()] = std::move(status);
  }
  void StopRefusing() { refused_.clear(); }

  // Received commands of one type, oldest first.
  template <typename Body>
  std::vector<Body> Received() const {
    std::vector<Body> bodies;
    for (const Command& command : received) {
      if (const Body* body = std::get_if<Body>(&command.body)) {
        bodies.push_back(*body);
      }
    }
    return bodies;
  }

  AgentEvent Event(AgentEventBody body, uint64_t event_id = 0) const {
    return {event_id, incarnation, std::move(body)};
  }
  VoteEvent Vote(OperationId operation, absl::Status outcome = {}) const;
  // The published version of a placement; 0 for none.
  Version Published(const std::string& placement) const;
  // A new process: nothing is left of the old one but the name.
  void StartAgain(uint64_t new_incarnation);

  const std::string name, node;
  std::string address;
  Incarnation incarnation;
  Rank rank = kNoRank;
  int64_t memory_bytes = int64_t{1} << 30;
  int64_t staging_bytes = int64_t{64} << 20;
  int32_t nccl_version = 0;  // 0: no NCCL
  std::string nccl_device;
  // Whether the process runs, and whether its network works.
  bool running = true;
  bool connected = false;  // its command stream is open
  bool wanted = false;     // the coordinator wants a stream to it
  // Whether it votes as soon as it executes.
  bool votes = true;
  absl::Status vote_outcome;
  uint64_t next_event_id = 1;

  std::map<PlacementRef, FakePlacement> placements;
  std::vector<SampleEntry> samples;
  std::vector<bool> owned;
  std::set<OperationId> operations, undecided;
  std::set<uint64_t> parts;
  std::vector<Command> received;
  // Digest it reports for a box, xored into both lanes.
  uint64_t corruption = 0;

 private:
  struct Work {
    std::vector<PlacementRef> destinations;
    Version version;
    std::shared_ptr<const PlanPart> part;
  };

  absl::Status Act(const Command& command, std::vector<AgentEvent>& events);
  void OnDefine(const PlacementDefinition& definition);
  absl::Status OnLoad(const LoadCommand& load, std::vector<AgentEvent>& events);
  void OnVersionAssigned(const VersionAssignedCommand& assigned);
  absl::Status OnPrepare(const PrepareCommand& prepare);
  absl::Status OnCommit(const CommitCommand& commit);
  void OnVoted(OperationId operation, std::vector<AgentEvent>& events);
  void End(OperationId operation, CopyState lent_becomes);
  absl::Status Fill(const PlacementRef& ref, OperationId operation,
                    Version version);
  InventoryEvent Inventory() const;
  std::vector<BoxDigest> Digests(const PlacementRef& ref) const;
  void Drop(const ClearSamplesCommand& clear);

  std::set<size_t> muted_;
  std::map<size_t, absl::Status> refused_;
  // Answers by command, so that a repeated one is answered and not acted on.
  std::map<std::pair<Epoch, CommandId>, absl::Status> answered_;
  std::map<OperationId, Work> work_;
  std::map<uint64_t, std::shared_ptr<const PlanPart>> known_parts_;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_TESTS_COORDINATOR_CORE_FAKE_AGENT_H_
