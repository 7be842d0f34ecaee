#include "client/cpp/descriptors.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/device/descriptor_passing.h"
#include "agent/device/unique_fd.h"
#include "common/status_macros.h"
#include "proto/sluice/v1/descriptor_socket.pb.h"

namespace sluice {
namespace {

constexpr int64_t kMaxReplyBytes = 1 << 20;

class MappedBytes final : public SharedBytes {
 public:
  explicit MappedBytes(std::shared_ptr<agent::MappedMemory> memory)
      : memory_(std::move(memory)) {}
  std::byte* data() const override { return memory_->data(); }
  int64_t size() const override { return memory_->size(); }

 private:
  const std::shared_ptr<agent::MappedMemory> memory_;
};

// Sends one request and checks the outcome in its reply.
absl::StatusOr<agent::Frame> Exchange(const DescriptorSource& source,
                                      const v1::PassRequest& request,
                                      absl::Span<const int> descriptors) {
  SLUICE_ASSIGN_OR_RETURN(const agent::UniqueFd socket,
                          agent::ConnectUnixSocket(source.socket_path));
  SLUICE_ASSIGN_OR_RETURN(
      agent::Frame frame,
      agent::ExchangeFrames(socket.get(), request.SerializeAsString(),
                            descriptors, kMaxReplyBytes, source.timeout));
  v1::PassReply reply;
  if (!reply.ParseFromString(frame.body)) {
    return absl::InternalError("descriptor socket: no PassReply");
  }
  if (reply.outcome().code() != 0) {
    return absl::Status(static_cast<absl::StatusCode>(reply.outcome().code()),
                        reply.outcome().message());
  }
  return frame;
}

}  // namespace

std::shared_ptr<SharedBytes> AsSharedBytes(
    std::shared_ptr<agent::MappedMemory> memory) {
  return std::make_shared<MappedBytes>(std::move(memory));
}

absl::Status GiveDescriptor(const DescriptorSource& source, uint64_t token,
                            const agent::MappedMemory& memory) {
  v1::PassRequest request;
  request.mutable_give()->set_session(source.session);
  request.mutable_give()->set_token(token);
  return Exchange(source, request, {memory.descriptor()}).status();
}

absl::StatusOr<std::shared_ptr<agent::MappedMemory>> FetchMemory(
    const DescriptorSource& source, uint64_t token, agent::Access access) {
  v1::PassRequest request;
  request.mutable_fetch()->set_session(source.session);
  request.mutable_fetch()->set_token(token);
  SLUICE_ASSIGN_OR_RETURN(agent::Frame frame, Exchange(source, request, {}));
  if (frame.descriptors.size() != 1) {
    return absl::InternalError(absl::StrCat("descriptor of token ", token,
                                            ": expected one, found ",
                                            frame.descriptors.size()));
  }
  SLUICE_ASSIGN_OR_RETURN(const int64_t bytes,
                          agent::CheckMemoryFile(frame.descriptors[0].get()));
  return agent::MapMemoryFile(std::move(frame.descriptors[0]), bytes, access);
}

}  // namespace sluice
