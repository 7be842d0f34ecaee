#ifndef SLUICE_AGENT_PEER_DIRECTORY_H_
#define SLUICE_AGENT_PEER_DIRECTORY_H_

// Opens what peers of this node have prepared for this agent, over their
// descriptor sockets.

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/device/descriptor_passing.h"
#include "agent/device/device.h"
#include "agent/executor_interface.h"
#include "common/clock.h"
#include "common/command.h"
#include "common/mutex.h"

namespace sluice::v1 {
class DeviceMemory;
class PassReply;
}  // namespace sluice::v1

namespace sluice::agent {

// Thread-safe. Deadlines are of `clock`. Nothing is unmapped under the lock
// that others need: to unmap memory of a GPU waits for it.
//
// A buffer of a peer is mapped once for all operations: mapping is cheap, but
// each page that is touched for the first time costs a fault. A mapping unused
// for kKeepUnused, or of a peer that is gone or lives anew, is dropped: it
// keeps memory alive that its owner may have freed.
class SocketPeerDirectory final : public PeerDirectory {
 public:
  static constexpr absl::Duration kKeepUnused = absl::Seconds(60);
  // The same for memory of a GPU: it is scarcer than the host's, a mapping is
  // in the way of what its owner makes at the same address (see Import), and to
  // map it anew costs no faults. Long enough for the next step of a group that
  // syncs every few seconds.
  static constexpr absl::Duration kKeepUnusedDevice = absl::Seconds(10);

  // `device`, if it is a GPU, maps the memory of others; it outlives this.
  explicit SocketPeerDirectory(const Clock& clock, Device* device = nullptr)
      : clock_(clock), device_(device) {}

  // Who this agent is, and who else lives; replaces what was known. Unmaps
  // nothing: Trim does.
  void SetSelf(Rank self);
  void SetPeers(const std::vector<Peer>& peers);
  // Drops mappings of peers that are gone, and those that nobody used for long.
  // May wait for the device.
  void Trim();
  // Number of mappings kept.
  int64_t num_mappings() const;

  absl::StatusOr<PeerSource> Open(OperationId operation, Rank peer,
                                  absl::Time deadline, int interrupt) override;

 private:
  using FileKey = std::pair<dev_t, ino_t>;
  struct Mapping {
    std::shared_ptr<MappedMemory> memory;
    absl::Time last_used;
  };
  struct PeerState {
    Incarnation incarnation;
    std::string name;
    std::string socket_path;
    absl::flat_hash_map<FileKey, Mapping> mappings;
    // Of a GPU's memory, by its DeviceMemory.
    absl::flat_hash_map<std::string, Mapping> device_mappings;
  };
  using Memories = std::vector<std::shared_ptr<MappedMemory>>;
  // A peer as Open needs it.
  struct Target {
    Rank self = kNoRank;
    Incarnation incarnation;
    std::string name;
    std::string socket_path;
  };

  absl::StatusOr<Target> Find(Rank peer) const;
  // Maps a peer's buffer, or returns its mapping.
  absl::StatusOr<std::shared_ptr<MappedMemory>> Map(Rank peer,
                                                    Incarnation incarnation,
                                                    UniqueFd descriptor,
                                                    int64_t bytes);
  absl::StatusOr<std::shared_ptr<MappedMemory>> MapDevice(
      Rank peer, Incarnation incarnation, const v1::DeviceMemory& memory);
  // Maps memory of a GPU; what is in the way and unused is unmapped first.
  absl::StatusOr<std::shared_ptr<MappedMemory>> Import(
      Rank peer, const v1::DeviceMemory& memory);
  // Moves what nobody uses, and nobody has used since `oldest`, into `taken`.
  template <typename Mappings>
  static void TakeUnused(Mappings& mappings, absl::Time oldest,
                         Memories& taken);
  // Unmaps what nobody uses of a GPU's memory: of this peer, or of all.
  void DropUnused(std::optional<Rank> peer);
  absl::StatusOr<PeerSource> MapReply(Rank peer, Incarnation incarnation,
                                      const v1::PassReply& reply,
                                      std::vector<UniqueFd> descriptors);

  const Clock& clock_;
  Device* const device_;
  // Held by who unmaps, so that who makes room waits for those who do already.
  Mutex unmapping_ ABSL_ACQUIRED_BEFORE(mutex_);
  mutable Mutex mutex_;
  Rank self_ ABSL_GUARDED_BY(mutex_) = kNoRank;
  absl::flat_hash_map<Rank, PeerState> peers_ ABSL_GUARDED_BY(mutex_);
  // Of peers that are gone; unmapped by the next that unmaps.
  Memories gone_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_PEER_DIRECTORY_H_
