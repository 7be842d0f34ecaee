#ifndef SLUICE_COORDINATOR_CORE_COMMAND_OUTBOX_H_
#define SLUICE_COORDINATOR_CORE_COMMAND_OUTBOX_H_

// Commands to one agent that it has not answered. What a broken stream lost is
// sent again under the same ids.

#include <map>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "common/command.h"
#include "common/ids.h"

namespace sluice::coordinator {

// Invariant: ids increase in the order of Add, over all incarnations of the
// agent in this life of the coordinator.
class CommandOutbox {
 public:
  // Numbers a command; it stays until it is answered or dropped.
  const Command& Add(Epoch epoch, CommandBody body) {
    const CommandId id = NextId();
    return unanswered_.emplace(id, Command{id, epoch, std::move(body)})
        .first->second;
  }
  // Numbers a command that no resending is wanted for.
  Command Unkept(Epoch epoch, CommandBody body) {
    return Command{NextId(), epoch, std::move(body)};
  }
  // Takes out the command answered; nullopt if it was answered or dropped.
  std::optional<Command> Answered(CommandId id) {
    const auto it = unanswered_.find(id);
    if (it == unanswered_.end()) return std::nullopt;
    std::optional<Command> command(std::move(it->second));
    unanswered_.erase(it);
    return command;
  }
  const std::map<CommandId, Command>& unanswered() const { return unanswered_; }

  // Whether an unanswered command of type Body makes `match(body)` true.
  template <typename Body, typename Match>
  bool Has(const Match& match) const {
    for (const auto& [id, command] : unanswered_) {
      const Body* body = std::get_if<Body>(&command.body);
      if (body != nullptr && match(*body)) return true;
    }
    return false;
  }
  // Drops unanswered commands of type Body for which `match(body)` is true.
  template <typename Body, typename Match>
  void Drop(const Match& match) {
    std::erase_if(unanswered_, [&match](const auto& entry) {
      const Body* body = std::get_if<Body>(&entry.second.body);
      return body != nullptr && match(*body);
    });
  }
  void Clear() { unanswered_.clear(); }

 private:
  CommandId NextId() {
    last_ = CommandId(last_.value() + 1);
    return last_;
  }

  CommandId last_;
  std::map<CommandId, Command> unanswered_;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_COMMAND_OUTBOX_H_
