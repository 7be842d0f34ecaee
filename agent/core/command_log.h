#ifndef SLUICE_AGENT_CORE_COMMAND_LOG_H_
#define SLUICE_AGENT_CORE_COMMAND_LOG_H_

// Which commands of the present epoch came and how they were answered, so that
// a repeated one is answered again and not executed again.

#include <map>
#include <optional>

#include "absl/status/status.h"
#include "common/ids.h"

namespace sluice::agent {

// Not thread-safe. Bounded: of the answered commands the last kMaxAnswered are
// known; a coordinator repeats only what it has no answer to.
class CommandLog {
 public:
  static constexpr size_t kMaxAnswered = 1 << 14;

  Epoch epoch() const { return epoch_; }
  // Raises the epoch (never lowers it); commands of the old one are forgotten.
  void Raise(Epoch epoch);

  enum class Seen { kNew, kRunning, kAnswered };
  // Takes note of a command of the present epoch.
  Seen Note(CommandId id);
  // Keeps the answer of a noted command; false if it belongs to another epoch.
  bool Answer(Epoch epoch, CommandId id, const absl::Status& outcome);
  // The answer kept; nullptr if none.
  const absl::Status* FindAnswer(CommandId id) const;
  // Lets a repeated command be executed again (its answer alone is not enough).
  void Forget(CommandId id);

 private:
  Epoch epoch_;
  // nullopt: running.
  std::map<CommandId, std::optional<absl::Status>> commands_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CORE_COMMAND_LOG_H_
