#include "agent/socket_group_directory.h"

#include <poll.h>

#include "absl/strings/str_cat.h"
#include "agent/descriptor_socket.h"
#include "agent/device/descriptor_passing.h"
#include "agent/socket_paths.h"
#include "common/status_macros.h"
#include "proto/sluice/v1/descriptor_socket.pb.h"

namespace sluice::agent {
namespace {

// Kept; more than this many agents do not live on one node.
constexpr size_t kMaxLinks = 1024;

absl::Status GoneError(const Peer& peer) {
  return absl::UnavailableError(
      absl::StrCat("agent \"", peer.name, "\" is gone"));
}

}  // namespace

void SocketGroupDirectory::Add(const GroupMemberKey& self,
                               std::shared_ptr<GroupMember> member) {
  table_.Add(self, std::move(member));
}

void SocketGroupDirectory::Remove(const GroupMemberKey& self,
                                  const GroupMember* member) {
  table_.Remove(self, member);
}

absl::Status SocketGroupDirectory::Link::ConnectLocked(const Peer& peer) {
  if (gone) return GoneError(peer);
  if (socket.valid()) return absl::OkStatus();
  SLUICE_ASSIGN_OR_RETURN(
      socket, ConnectUnixSocket(DescriptorSocketPath(peer.socket_path)));
  return absl::OkStatus();
}

bool SocketGroupDirectory::Link::GoneLocked(const Peer& peer) {
  if (!gone && !ConnectLocked(peer).ok()) gone = true;
  if (gone) return true;
  pollfd entry{socket.get(), POLLRDHUP, 0};
  gone = poll(&entry, 1, 0) > 0 &&
         (entry.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
  return gone;
}

std::shared_ptr<SocketGroupDirectory::Link> SocketGroupDirectory::LinkTo(
    const Peer& peer) {
  MutexLock lock(mutex_);
  std::shared_ptr<Link>& link = links_[{peer.socket_path, peer.incarnation}];
  if (link != nullptr) return link;
  link = std::make_shared<Link>();
  const std::shared_ptr<Link> made = link;
  // Those of lives that have ended and that nobody asks about.
  if (links_.size() > kMaxLinks) {
    absl::erase_if(
        links_, [](const auto& item) { return item.second.use_count() == 1; });
  }
  return made;
}

bool SocketGroupDirectory::Gone(const Peer& peer) {
  const std::shared_ptr<Link> link = LinkTo(peer);
  // Somebody talks to it: it will be told if it is gone.
  if (!link->mutex.TryLock()) return false;
  const bool gone = link->GoneLocked(peer);
  link->mutex.Unlock();
  return gone;
}

absl::StatusOr<SharedDescriptor> SocketGroupDirectory::Ask(
    const Peer& peer, const v1::PassRequest& request,
    const std::vector<int>& descriptors, absl::Duration timeout) {
  const std::shared_ptr<Link> link = LinkTo(peer);
  absl::StatusOr<Frame> frame;
  {
    MutexLock lock(link->mutex);
    SLUICE_RETURN_IF_ERROR(link->ConnectLocked(peer));
    frame =
        ExchangeFrames(link->socket.get(), request.SerializeAsString(),
                       descriptors, DescriptorSocket::kMaxReplyBytes, timeout);
    // What comes late would be taken for the next answer.
    if (!frame.ok()) {
      link->gone = absl::IsUnavailable(frame.status());
      link->socket.Reset();
    }
  }
  SLUICE_RETURN_IF_ERROR(frame.status());
  v1::PassReply reply;
  if (!reply.ParseFromString(frame->body)) {
    return absl::InternalError("reply of a peer: it is no PassReply");
  }
  if (reply.outcome().code() != 0) {
    return absl::Status(static_cast<absl::StatusCode>(reply.outcome().code()),
                        reply.outcome().message());
  }
  if (frame->descriptors.size() != 1 || reply.sizes_size() != 1) {
    return absl::InternalError(absl::StrCat(
        "reply of a peer: expected 1 descriptor, found ",
        frame->descriptors.size(), " and ", reply.sizes_size(), " sizes"));
  }
  return SharedDescriptor{std::move(frame->descriptors[0]), reply.sizes(0)};
}

absl::StatusOr<SharedDescriptor> SocketGroupDirectory::Join(
    const Peer& peer, const GroupMemberKey& key, int from, uint64_t life,
    SharedDescriptor board, absl::Duration timeout) {
  v1::PassRequest request;
  v1::JoinGroup& join = *request.mutable_join_group();
  join.set_group(key.group);
  join.set_member(key.member);
  join.set_from(from);
  join.set_life(life);
  join.set_board_bytes(board.bytes);
  return Ask(peer, request, {board.fd.get()}, timeout);
}

absl::StatusOr<SharedDescriptor> SocketGroupDirectory::OpenMemory(
    const Peer& peer, const GroupMemberKey& key, int slot, uint32_t generation,
    absl::Duration timeout) {
  v1::PassRequest request;
  v1::OpenGroupMemory& memory = *request.mutable_group_memory();
  memory.set_group(key.group);
  memory.set_member(key.member);
  memory.set_slot(slot);
  memory.set_generation(generation);
  return Ask(peer, request, {}, timeout);
}

}  // namespace sluice::agent
