#include "agent/descriptor_socket.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "agent/descriptor_loop.h"
#include "agent/device_memory_proto.h"
#include "common/convert_tensor.h"
#include "common/dtype.h"
#include "common/status_macros.h"
#include "proto/sluice/v1/descriptor_socket.pb.h"

namespace sluice::agent {
namespace {

absl::Status Failed(absl::string_view what, absl::string_view path) {
  return absl::UnavailableError(
      absl::StrCat(what, " socket \"", path, "\": ", std::strerror(errno)));
}

// Descriptors of a reply: each memory once.
class Attachments {
 public:
  Attachments(v1::PassReply& reply, std::vector<UniqueFd>& out)
      : reply_(reply), out_(out) {}

  void Add(UniqueFd descriptor, int64_t bytes) {
    out_.push_back(std::move(descriptor));
    reply_.add_sizes(bytes);
  }

  // Returns the index of the memory's descriptor.
  absl::StatusOr<int32_t> IndexOf(const MappedMemory& memory) {
    const auto [it, inserted] =
        index_.try_emplace(&memory, static_cast<int32_t>(out_.size()));
    if (!inserted) return it->second;
    if (out_.size() >= kMaxFrameDescriptors) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the operation reads more than ", kMaxFrameDescriptors,
                       " buffers of this agent"));
    }
    SLUICE_ASSIGN_OR_RETURN(UniqueFd fd, ReopenReadOnly(memory.descriptor()));
    Add(std::move(fd), memory.size());
    return it->second;
  }

  // Returns the index of a GPU's memory.
  absl::StatusOr<int32_t> DeviceIndexOf(const MappedMemory& memory) {
    const auto [it, inserted] =
        device_index_.try_emplace(&memory, reply_.devices_size() + 1);
    if (inserted) {
      SLUICE_ASSIGN_OR_RETURN(DeviceRange range, memory.ToRange());
      // Of peers only this agent's board decides what may be read when.
      range.event.clear();
      FillRange(range, *reply_.add_devices());
    }
    return it->second;
  }

 private:
  v1::PassReply& reply_;
  std::vector<UniqueFd>& out_;
  absl::flat_hash_map<const MappedMemory*, int32_t> index_, device_index_;
};

}  // namespace

DescriptorSocket::DescriptorSocket(std::string path, Deps deps)
    : path_(std::move(path)), deps_(deps) {}

absl::StatusOr<std::unique_ptr<DescriptorSocket>> DescriptorSocket::Start(
    std::string path, Deps deps) {
  if (path.empty() || path.size() > kMaxSocketPathBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("socket path \"", path, "\" has ", path.size(),
                     " bytes: expected 1 to ", kMaxSocketPathBytes));
  }
  std::unique_ptr<DescriptorSocket> out(
      new DescriptorSocket(std::move(path), deps));
  SLUICE_RETURN_IF_ERROR(out->Listen());
  DescriptorSocket* self = out.get();
  SLUICE_ASSIGN_OR_RETURN(
      auto loop,
      DescriptorLoop::Create(
          {kMaxRequestBytes, kMaxConnections}, out->listener_.get(),
          out->stop_.get(),
          [self](absl::string_view body, std::vector<UniqueFd> given) {
            Frame reply;
            v1::PassRequest request;
            v1::PassReply answer;
            if (request.ParseFromArray(body.data(),
                                       static_cast<int>(body.size()))) {
              answer =
                  self->Answer(request, std::move(given), reply.descriptors);
            } else {
              answer.mutable_outcome()->set_code(
                  static_cast<int>(absl::StatusCode::kInvalidArgument));
              answer.mutable_outcome()->set_message("no PassRequest");
            }
            reply.body = answer.SerializeAsString();
            return reply;
          }));
  out->thread_ =
      std::thread([loop = std::shared_ptr<DescriptorLoop>(std::move(loop))] {
        loop->Run();
      });
  return out;
}

absl::Status DescriptorSocket::Listen() {
  stop_.Reset(eventfd(0, EFD_CLOEXEC));
  listener_.Reset(
      socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!stop_.valid() || !listener_.valid()) return Failed("making", path_);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path_.data(), path_.size());
  unlink(path_.c_str());  // of a predecessor that was killed
  if (bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address),
           sizeof(address)) != 0) {
    return Failed("binding", path_);
  }
  if (listen(listener_.get(), SOMAXCONN) != 0) {
    return Failed("listening on", path_);
  }
  return absl::OkStatus();
}

DescriptorSocket::~DescriptorSocket() {
  if (!thread_.joinable()) return;
  const uint64_t one = 1;
  while (write(stop_.get(), &one, sizeof(one)) < 0 && errno == EINTR) {
  }
  thread_.join();
  unlink(path_.c_str());
}

v1::PassReply DescriptorSocket::Answer(const v1::PassRequest& request,
                                       std::vector<UniqueFd> given,
                                       std::vector<UniqueFd>& out) {
  v1::PassReply reply;
  absl::Status outcome;
  switch (request.body_case()) {
    case v1::PassRequest::kGive:
      outcome = Give(request, std::move(given));
      break;
    case v1::PassRequest::kFetch:
      outcome = Fetch(request, reply, out);
      break;
    case v1::PassRequest::kOpen:
      outcome = OpenSource(request, reply, out);
      break;
    case v1::PassRequest::kJoinGroup:
    case v1::PassRequest::kGroupMemory:
      outcome = AskGroup(request, std::move(given), reply, out);
      break;
    case v1::PassRequest::BODY_NOT_SET:
      outcome = absl::InvalidArgumentError("an empty PassRequest");
      break;
  }
  if (!outcome.ok()) {
    reply.Clear();
    out.clear();
    reply.mutable_outcome()->set_message(std::string(outcome.message()));
  }
  reply.mutable_outcome()->set_code(static_cast<int>(outcome.code()));
  return reply;
}

absl::Status DescriptorSocket::Give(const v1::PassRequest& request,
                                    std::vector<UniqueFd> given) {
  if (given.size() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("give: expected 1 descriptor, found ", given.size()));
  }
  return deps_.table.Give(SessionId(request.give().session()),
                          request.give().token(), std::move(given[0]));
}

absl::Status DescriptorSocket::Fetch(const v1::PassRequest& request,
                                     v1::PassReply& reply,
                                     std::vector<UniqueFd>& out) {
  SLUICE_ASSIGN_OR_RETURN(
      DescriptorTable::Fetched fetched,
      deps_.table.Fetch(SessionId(request.fetch().session()),
                        request.fetch().token()));
  Attachments(reply, out)
      .Add(std::move(fetched.descriptor), fetched.size_bytes);
  return absl::OkStatus();
}

absl::Status DescriptorSocket::OpenSource(const v1::PassRequest& request,
                                          v1::PassReply& reply,
                                          std::vector<UniqueFd>& out) {
  const OperationId operation(request.open().operation());
  SLUICE_ASSIGN_OR_RETURN(
      const auto sources,
      deps_.sources.Find(operation, Rank(request.open().rank())));
  SLUICE_ASSIGN_OR_RETURN(const TransferExecutor::BoardHandle board,
                          deps_.executor.Board(operation));
  Attachments attachments(reply, out);
  SLUICE_ASSIGN_OR_RETURN(UniqueFd board_fd, Duplicate(board.fd));
  attachments.Add(std::move(board_fd), board.size);
  for (const SourceTable::Source& source : *sources) {
    v1::SourceTransfer* transfer = reply.add_transfers();
    transfer->set_id(source.id);
    for (size_t i = 0; i < source.pieces.pieces.size(); ++i) {
      const BoundPlace& place = source.pieces.pieces[i];
      v1::SourcePiece* piece = transfer->add_pieces();
      if (place.memory->space() == MemorySpace::kDevice) {
        SLUICE_ASSIGN_OR_RETURN(const int32_t index,
                                attachments.DeviceIndexOf(*place.memory));
        piece->set_device_index(index);
      } else {
        SLUICE_ASSIGN_OR_RETURN(const int32_t index,
                                attachments.IndexOf(*place.memory));
        piece->set_descriptor_index(index);
      }
      piece->set_offset_bytes(place.offset_bytes);
      for (const int64_t stride : place.strides_bytes) {
        piece->add_strides_bytes(stride);
      }
      if (place.dtype != DType::kUnspecified) {
        piece->set_dtype(ToProto(place.dtype));
      }
      *piece->mutable_box() = ToProto(source.pieces.boxes[i]);
    }
  }
  return absl::OkStatus();
}

absl::Status DescriptorSocket::AskGroup(const v1::PassRequest& request,
                                        std::vector<UniqueFd> given,
                                        v1::PassReply& reply,
                                        std::vector<UniqueFd>& out) {
  const bool joins = request.has_join_group();
  const v1::JoinGroup& join = request.join_group();
  const v1::OpenGroupMemory& memory = request.group_memory();
  const GroupMemberKey key{joins ? join.group() : memory.group(),
                           joins ? join.member() : memory.member()};
  const std::shared_ptr<GroupMember> member =
      deps_.groups == nullptr ? nullptr : deps_.groups->Find(key);
  if (member == nullptr) {
    return absl::NotFoundError("the group is not made here");
  }
  if (given.size() != (joins ? 1u : 0u)) {
    return absl::InvalidArgumentError(
        absl::StrCat("group: expected ", joins ? 1 : 0, " descriptors, found ",
                     given.size()));
  }
  absl::StatusOr<SharedDescriptor> answer =
      joins ? member->Join(join.from(), join.life(),
                           {std::move(given[0]), join.board_bytes()})
            : member->OpenMemory(memory.slot(), memory.generation());
  if (!answer.ok()) return answer.status();
  Attachments(reply, out).Add(std::move(answer->fd), answer->bytes);
  return absl::OkStatus();
}

}  // namespace sluice::agent
