#include "tests/sim/message_text.h"

#include <variant>

#include "absl/strings/str_cat.h"
#include "common/overloaded.h"

namespace sluice::sim {

std::string CommandText(const Command& command) {
  const auto operation = [](const char* what, OperationId id) {
    return absl::StrCat(what, " ", id.value());
  };
  return std::visit(
      Overloaded{
          [](const WelcomeCommand&) { return std::string("Welcome"); },
          [](const DefinePlacementCommand& c) {
            return absl::StrCat("Define ", c.definition.ref.placement, "@",
                                c.definition.ref.generation);
          },
          [](const RemovePlacementCommand& c) {
            return absl::StrCat("Remove ", c.placement.placement);
          },
          [](const SetPeersCommand&) { return std::string("SetPeers"); },
          [&](const LoadCommand& c) { return operation("Load", c.operation); },
          [&](const PrepareCommand& c) {
            return operation("Prepare", c.operation);
          },
          [&](const ExecuteCommand& c) {
            return operation("Execute", c.operation);
          },
          [&](const CommitCommand& c) {
            return absl::StrCat(operation("Commit", c.operation), " version ",
                                c.version.value());
          },
          [&](const AbortCommand& c) {
            return operation("Abort", c.operation);
          },
          [&](const ReleaseCommand& c) {
            return operation("Release", c.operation);
          },
          [&](const ReadDigestsCommand& c) {
            return operation("ReadDigests", c.operation);
          },
          [](const ClearSamplesCommand& c) {
            return absl::StrCat("Clear ", c.sample_ids.size(), " samples");
          },
          [](const EventAck& c) {
            return absl::StrCat("Ack ", c.event_id, " ", c.outcome.ToString(),
                                " version ", c.version.value());
          },
          [](const VersionAssignedCommand& c) {
            return absl::StrCat("Version ", c.version.value(), " for step ",
                                c.step);
          }},
      command.body);
}

std::string EventText(const AgentEvent& event) {
  return std::visit(
      Overloaded{[](const CommandResult& e) {
                   return absl::StrCat("Result ", e.command.value(), " ",
                                       e.outcome.ToString());
                 },
                 [](const InventoryEvent& e) {
                   return absl::StrCat("Inventory: ", e.operations.size(),
                                       " operations, ", e.undecided.size(),
                                       " undecided, ", e.samples.size(),
                                       " samples");
                 },
                 [](const ProgressEvent&) { return std::string(); },
                 [](const VoteEvent& e) {
                   return absl::StrCat("Vote ", e.operation.value(), " ",
                                       e.outcome.ToString());
                 },
                 [](const StoppedEvent& e) {
                   return absl::StrCat("Stopped ", e.operation.value());
                 },
                 [](const SamplesAddedEvent& e) {
                   return absl::StrCat("SamplesAdded ", e.entries.size());
                 },
                 [](const WriteEvent& e) {
                   return absl::StrCat("Write kind ", static_cast<int>(e.kind),
                                       " step ", e.step, " version ",
                                       e.version.value());
                 },
                 [](const DigestsEvent&) { return std::string("Digests"); },
                 [](const WorkersEvent&) { return std::string("Workers"); }},
      event.body);
}

}  // namespace sluice::sim
