#ifndef SLUICE_COMMON_IDS_H_
#define SLUICE_COMMON_IDS_H_

// Strong integer identifiers. Two ids of different kinds never compare or
// convert, so a rank cannot be passed where a tensor is meant.

#include <compare>
#include <cstdint>
#include <ostream>
#include <utility>

namespace sluice {

// An integer of one kind. `Tag` makes the kind; zero means "none" for the ids
// that say so below.
template <typename Tag, typename Int = uint64_t>
class StrongId {
 public:
  using Underlying = Int;

  constexpr StrongId() = default;
  constexpr explicit StrongId(Int value) : value_(value) {}
  constexpr Int value() const { return value_; }

  friend constexpr auto operator<=>(StrongId, StrongId) = default;
  template <typename H>
  friend H AbslHashValue(H h, StrongId id) {
    return H::combine(std::move(h), id.value_);
  }
  friend std::ostream& operator<<(std::ostream& os, StrongId id) {
    return os << id.value_;
  }

 private:
  Int value_ = 0;
};

// Position of an agent in the cluster: assigned by the coordinator at the first
// registration of a name, stable for that name for ever. -1 is "none".
using Rank = StrongId<struct RankTag, int32_t>;
inline constexpr Rank kNoRank{-1};
// One life of an agent process; drawn at random at its start, never zero.
using Incarnation = StrongId<struct IncarnationTag>;
// One life of a coordinator (or one leader); strictly increasing, first is 1.
using Epoch = StrongId<struct EpochTag>;
// One operation (load, sync, redistribute) of the coordinator; unique for the
// life of a state directory; zero is "none".
using OperationId = StrongId<struct OperationIdTag>;
// A model's version: strictly increasing per model, zero is "no version yet".
using Version = StrongId<struct VersionTag>;
// A command to an agent: unique within (epoch, agent), increasing.
using CommandId = StrongId<struct CommandIdTag>;
// A buffer within one agent's incarnation; never reused; zero is "none".
using BufferId = StrongId<struct BufferIdTag>;
// Index of a logical tensor in its model's tensor list.
using TensorIndex = StrongId<struct TensorIndexTag, int32_t>;

}  // namespace sluice

#endif  // SLUICE_COMMON_IDS_H_
