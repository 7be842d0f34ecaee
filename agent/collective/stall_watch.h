#ifndef SLUICE_AGENT_COLLECTIVE_STALL_WATCH_H_
#define SLUICE_AGENT_COLLECTIVE_STALL_WATCH_H_

// Finds out that nothing moves any more in a group, and who stands still.
//
// Whom a member waits for may itself wait for another one. So a member for
// which nothing has moved for half of the timeout tells all that it waits, and
// when the timeout is over, whoever told nothing since is the one to name.

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "absl/time/time.h"

namespace sluice::agent {

// A value without clock; of one wait.
class StallWatch {
 public:
  enum class Verdict {
    kGoOn,
    kTell,  // now this member is to tell that it waits; once a standstill
    kOver,  // nothing has moved for the timeout
  };
  // How often each member has told that it waits.
  using Told = std::vector<uint64_t>;

  // `moved`: what Look is given, as it is now.
  StallWatch(absl::Duration timeout, absl::Time now, uint64_t moved)
      : timeout_(timeout), moved_at_(now), moved_(moved) {}

  // To be called several times in a quarter of the timeout. `moved` changes
  // when anything moves.
  Verdict Look(absl::Time now, uint64_t moved,
               const std::function<Told()>& told);

  // After kOver: the others that told nothing during the standstill; if there
  // are none, `waited_for`.
  std::vector<int> Silent(const Told& told, int self,
                          std::vector<int> waited_for) const;

 private:
  const absl::Duration timeout_;
  absl::Time moved_at_;
  uint64_t moved_;
  bool told_ = false;
  // As it was early in this standstill.
  std::optional<Told> before_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_COLLECTIVE_STALL_WATCH_H_
