#include "agent/peer_directory.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/descriptor_socket.h"
#include "agent/device/memory_file.h"
#include "agent/device_memory_proto.h"
#include "agent/socket_paths.h"
#include "common/convert_tensor.h"
#include "common/dtype.h"
#include "common/status_macros.h"
#include "proto/sluice/v1/descriptor_socket.pb.h"

namespace sluice::agent {
namespace {

absl::Status BadReply(absl::string_view what) {
  return absl::InternalError(absl::StrCat("reply of a peer: ", what));
}

}  // namespace

void SocketPeerDirectory::SetSelf(Rank self) {
  MutexLock lock(mutex_);
  self_ = self;
}

void SocketPeerDirectory::SetPeers(const std::vector<Peer>& peers) {
  absl::flat_hash_map<Rank, PeerState> next;
  for (const Peer& peer : peers) {
    next[peer.rank] = {peer.incarnation, peer.name, peer.socket_path, {}, {}};
  }
  MutexLock lock(mutex_);
  for (auto& [rank, state] : next) {
    const auto known = peers_.find(rank);
    if (known != peers_.end() &&
        known->second.incarnation == state.incarnation) {
      state.mappings.swap(known->second.mappings);
      state.device_mappings.swap(known->second.device_mappings);
    }
  }
  peers_.swap(next);
  for (auto& [rank, state] : next) {
    for (auto& [key, mapping] : state.mappings) {
      gone_.push_back(std::move(mapping.memory));
    }
    for (auto& [key, mapping] : state.device_mappings) {
      gone_.push_back(std::move(mapping.memory));
    }
  }
}

template <typename Mappings>
void SocketPeerDirectory::TakeUnused(Mappings& mappings, absl::Time oldest,
                                     Memories& taken) {
  absl::erase_if(mappings, [&](auto& item) {
    Mapping& mapping = item.second;
    // An execution that runs still uses it.
    if (mapping.last_used >= oldest || mapping.memory.use_count() > 1) {
      return false;
    }
    taken.push_back(std::move(mapping.memory));
    return true;
  });
}

void SocketPeerDirectory::Trim() {
  const absl::Time now = clock_.Now();
  // Unmapped before the first lock ends and after the second.
  MutexLock unmapping(unmapping_);
  Memories dropped;
  MutexLock lock(mutex_);
  dropped.swap(gone_);
  for (auto& [rank, state] : peers_) {
    TakeUnused(state.mappings, now - kKeepUnused, dropped);
    TakeUnused(state.device_mappings, now - kKeepUnusedDevice, dropped);
  }
}

void SocketPeerDirectory::DropUnused(std::optional<Rank> peer) {
  // As in Trim.
  MutexLock unmapping(unmapping_);
  Memories dropped;
  MutexLock lock(mutex_);
  dropped.swap(gone_);
  for (auto& [rank, state] : peers_) {
    if (peer.has_value() && *peer != rank) continue;
    TakeUnused(state.device_mappings, absl::InfiniteFuture(), dropped);
  }
}

int64_t SocketPeerDirectory::num_mappings() const {
  MutexLock lock(mutex_);
  int64_t total = 0;
  for (const auto& [rank, state] : peers_) {
    total += static_cast<int64_t>(state.mappings.size() +
                                  state.device_mappings.size());
  }
  return total;
}

absl::StatusOr<SocketPeerDirectory::Target> SocketPeerDirectory::Find(
    Rank peer) const {
  MutexLock lock(mutex_);
  const auto it = peers_.find(peer);
  if (it == peers_.end()) {
    return absl::UnavailableError(
        absl::StrCat("rank ", peer.value(), " is not among the live agents"));
  }
  return Target{self_, it->second.incarnation, it->second.name,
                it->second.socket_path};
}

absl::StatusOr<PeerSource> SocketPeerDirectory::Open(OperationId operation,
                                                     Rank peer,
                                                     absl::Time deadline,
                                                     int interrupt) {
  SLUICE_ASSIGN_OR_RETURN(const Target target, Find(peer));
  const auto named = [&](const absl::Status& status) {
    return absl::Status(status.code(),
                        absl::StrCat("agent \"", target.name, "\" (rank ",
                                     peer.value(), "): ", status.message()));
  };
  absl::StatusOr<UniqueFd> socket =
      ConnectUnixSocket(DescriptorSocketPath(target.socket_path));
  if (!socket.ok()) return named(socket.status());
  v1::PassRequest request;
  request.mutable_open()->set_operation(operation.value());
  request.mutable_open()->set_rank(target.self.value());
  absl::StatusOr<Frame> frame = ExchangeFrames(
      socket->get(), request.SerializeAsString(), {},
      DescriptorSocket::kMaxReplyBytes, deadline - clock_.Now(), interrupt);
  if (!frame.ok()) return named(frame.status());
  v1::PassReply reply;
  if (!reply.ParseFromString(frame->body)) {
    return named(BadReply("it is no PassReply"));
  }
  if (reply.outcome().code() != 0) {
    return named(
        absl::Status(static_cast<absl::StatusCode>(reply.outcome().code()),
                     reply.outcome().message()));
  }
  absl::StatusOr<PeerSource> source =
      MapReply(peer, target.incarnation, reply, std::move(frame->descriptors));
  if (!source.ok()) return named(source.status());
  return source;
}

absl::StatusOr<std::shared_ptr<MappedMemory>> SocketPeerDirectory::Map(
    Rank peer, Incarnation incarnation, UniqueFd descriptor, int64_t bytes) {
  struct stat info;
  if (fstat(descriptor.get(), &info) != 0) {
    return absl::UnavailableError(
        absl::StrCat("descriptor of a peer: ", std::strerror(errno)));
  }
  // The inode cannot be another memory's while a mapping here holds it.
  const FileKey key{info.st_dev, info.st_ino};
  {
    MutexLock lock(mutex_);
    const auto state = peers_.find(peer);
    if (state != peers_.end()) {
      const auto it = state->second.mappings.find(key);
      if (it != state->second.mappings.end() &&
          it->second.memory->size() >= bytes) {
        it->second.last_used = clock_.Now();
        return it->second.memory;
      }
    }
  }
  SLUICE_RETURN_IF_ERROR(CheckMemoryFile(descriptor.get()).status());
  SLUICE_ASSIGN_OR_RETURN(
      std::shared_ptr<MappedMemory> memory,
      MapMemoryFile(std::move(descriptor), bytes, Access::kReadOnly));
  Mapping next{memory, clock_.Now()};
  MutexLock lock(mutex_);
  const auto state = peers_.find(peer);
  if (state != peers_.end() && state->second.incarnation == incarnation) {
    // A smaller mapping of it goes outside the lock.
    std::swap(state->second.mappings[key], next);
  }
  return memory;
}

absl::StatusOr<std::shared_ptr<MappedMemory>> SocketPeerDirectory::MapDevice(
    Rank peer, Incarnation incarnation, const v1::DeviceMemory& memory) {
  const std::string key = memory.SerializeAsString();
  {
    MutexLock lock(mutex_);
    const auto state = peers_.find(peer);
    if (state != peers_.end()) {
      const auto it = state->second.device_mappings.find(key);
      if (it != state->second.device_mappings.end()) {
        it->second.last_used = clock_.Now();
        return it->second.memory;
      }
    }
  }
  if (device_ == nullptr) return BadReply("memory of a GPU, none is here");
  SLUICE_ASSIGN_OR_RETURN(std::shared_ptr<MappedMemory> mapped,
                          Import(peer, memory));
  Mapping next{mapped, clock_.Now()};
  MutexLock lock(mutex_);
  const auto state = peers_.find(peer);
  if (state != peers_.end() && state->second.incarnation == incarnation) {
    // What another operation has mapped meanwhile goes outside the lock.
    std::swap(state->second.device_mappings[key], next);
  }
  return mapped;
}

absl::StatusOr<std::shared_ptr<MappedMemory>> SocketPeerDirectory::Import(
    Rank peer, const v1::DeviceMemory& memory) {
  const DeviceRange range = RangeOf(memory);
  absl::StatusOr<std::shared_ptr<MappedMemory>> adopted =
      device_->AdoptRange(range);
  // A peer that frees memory and makes as much anew mostly gets it at the same
  // address. The driver maps nothing over the old one as long as that is mapped
  // here (cudaErrorAlreadyMapped). It is the same peer's, unless the address
  // was another process's before.
  for (const auto& of : {std::optional<Rank>(peer), std::optional<Rank>()}) {
    if (adopted.ok()) return adopted;
    DropUnused(of);
    adopted = device_->AdoptRange(range);
  }
  // The peer has or had it mapped: nobody has said anything wrong.
  if (absl::IsInvalidArgument(adopted.status())) {
    return absl::UnavailableError(
        absl::StrCat(adopted.status().message(),
                     "; has the process ended whose memory it is?"));
  }
  return adopted;
}

absl::StatusOr<PeerSource> SocketPeerDirectory::MapReply(
    Rank peer, Incarnation incarnation, const v1::PassReply& reply,
    std::vector<UniqueFd> descriptors) {
  if (descriptors.empty() ||
      static_cast<int>(descriptors.size()) != reply.sizes_size()) {
    return BadReply(absl::StrCat(descriptors.size(), " descriptors for ",
                                 reply.sizes_size(), " sizes"));
  }
  PeerSource out;
  // The board belongs to one operation: mapped for it, and for writing too.
  SLUICE_RETURN_IF_ERROR(CheckMemoryFile(descriptors[0].get()).status());
  SLUICE_ASSIGN_OR_RETURN(
      out.board, MapMemoryFile(std::move(descriptors[0]), reply.sizes(0),
                               Access::kReadWrite));
  std::vector<std::shared_ptr<MappedMemory>> memories(descriptors.size());
  for (int i = 1; i < reply.sizes_size(); ++i) {
    SLUICE_ASSIGN_OR_RETURN(
        memories[static_cast<size_t>(i)],
        Map(peer, incarnation, std::move(descriptors[static_cast<size_t>(i)]),
            reply.sizes(i)));
  }
  std::vector<std::shared_ptr<MappedMemory>> devices;
  for (const v1::DeviceMemory& memory : reply.devices()) {
    SLUICE_ASSIGN_OR_RETURN(devices.emplace_back(),
                            MapDevice(peer, incarnation, memory));
  }
  for (const v1::SourceTransfer& transfer : reply.transfers()) {
    PeerTransferSource& source = out.transfers[transfer.id()];
    for (const v1::SourcePiece& piece : transfer.pieces()) {
      const bool on_device = piece.device_index() != 0;
      const int index =
          on_device ? piece.device_index() - 1 : piece.descriptor_index();
      const auto& held = on_device ? devices : memories;
      if (index < (on_device ? 0 : 1) ||
          index >= static_cast<int>(held.size())) {
        return BadReply(absl::StrCat("memory ", index, " of ", held.size()));
      }
      SLUICE_ASSIGN_OR_RETURN(Box box, FromProto(piece.box()));
      DType dtype = DType::kUnspecified;
      if (piece.dtype() != v1::DTYPE_UNSPECIFIED) {
        SLUICE_ASSIGN_OR_RETURN(dtype, FromProto(piece.dtype()));
      }
      source.boxes.push_back(std::move(box));
      source.pieces.push_back(
          {held[static_cast<size_t>(index)],
           piece.offset_bytes(),
           {piece.strides_bytes().begin(), piece.strides_bytes().end()},
           dtype});
    }
  }
  return out;
}

}  // namespace sluice::agent
