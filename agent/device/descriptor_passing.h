#ifndef SLUICE_AGENT_DEVICE_DESCRIPTOR_PASSING_H_
#define SLUICE_AGENT_DEVICE_DESCRIPTOR_PASSING_H_

// Frames with file descriptors over a Unix stream socket: a 4-byte
// little-endian length, whose bytes carry the descriptors (SCM_RIGHTS), then as
// many bytes of body. See proto/sluice/v1/descriptor_socket.proto. This is the
// blocking side, for clients of that socket.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "agent/device/unique_fd.h"

namespace sluice::agent {

// Most descriptors of one frame (the kernel's limit is 253).
inline constexpr int kMaxFrameDescriptors = 250;
// Longest path of a Unix socket, without its final zero.
inline constexpr int kMaxSocketPathBytes = 107;

struct Frame {
  std::string body;
  std::vector<UniqueFd> descriptors;
};

// Connects to a Unix stream socket.
// Errors: INVALID_ARGUMENT - the path is empty or longer than 107 bytes;
// UNAVAILABLE - nobody listens there.
absl::StatusOr<UniqueFd> ConnectUnixSocket(absl::string_view path);

// Sends a frame and waits for one in return, until `timeout` has passed or
// `interrupt` (a descriptor; -1 for none) is readable.
// Errors: UNAVAILABLE - the peer is gone; DEADLINE_EXCEEDED; CANCELLED - it was
// interrupted; INVALID_ARGUMENT - too many descriptors; RESOURCE_EXHAUSTED - a
// reply above `max_reply_bytes`.
absl::StatusOr<Frame> ExchangeFrames(int socket, absl::string_view body,
                                     absl::Span<const int> descriptors,
                                     int64_t max_reply_bytes,
                                     absl::Duration timeout,
                                     int interrupt = -1);

// What the server's side shares with it: sends the 4 length bytes with their
// descriptors; receives bytes with descriptors. As send and recv: the number of
// bytes, or -1 and errno.
int64_t SendLength(int socket, uint32_t length,
                   absl::Span<const int> descriptors);
int64_t ReceiveBytes(int socket, void* bytes, size_t size,
                     std::vector<UniqueFd>& descriptors);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_DEVICE_DESCRIPTOR_PASSING_H_
