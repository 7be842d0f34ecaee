#include "agent/core/command_log.h"

namespace sluice::agent {

void CommandLog::Raise(Epoch epoch) {
  if (epoch <= epoch_) return;
  epoch_ = epoch;
  commands_.clear();
}

CommandLog::Seen CommandLog::Note(CommandId id) {
  const auto [it, inserted] = commands_.try_emplace(id);
  if (inserted) return Seen::kNew;
  return it->second.has_value() ? Seen::kAnswered : Seen::kRunning;
}

bool CommandLog::Answer(Epoch epoch, CommandId id,
                        const absl::Status& outcome) {
  if (epoch != epoch_) return false;
  commands_[id] = outcome;
  // The oldest go first; one that still runs is kept.
  auto it = commands_.begin();
  while (commands_.size() > kMaxAnswered && it != commands_.end()) {
    it = it->second.has_value() && it->first != id ? commands_.erase(it)
                                                   : std::next(it);
  }
  return true;
}

const absl::Status* CommandLog::FindAnswer(CommandId id) const {
  const auto it = commands_.find(id);
  if (it == commands_.end() || !it->second.has_value()) return nullptr;
  return &*it->second;
}

void CommandLog::Forget(CommandId id) { commands_.erase(id); }

}  // namespace sluice::agent
