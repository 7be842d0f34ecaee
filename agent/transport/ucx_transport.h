#ifndef SLUICE_AGENT_TRANSPORT_UCX_TRANSPORT_H_
#define SLUICE_AGENT_TRANSPORT_UCX_TRANSPORT_H_

// Messages between hosts' memories over UCX: tagged sends and receives of bytes
// in place. Peers are known by a key of the caller's and by an opaque address
// that the caller carries to them.
//
// One thread owns the UCX worker; it sleeps in epoll while nothing happens, so
// that an idle transport costs nothing. Everything else only queues commands.
//
// UCX reports a dead peer at once but never a stopped one: progress floors are
// the caller's. What the transport gives is an end: CancelGroup and Disconnect
// force connections closed where needed, and when they report done, none of the
// ended operations touches memory any more.
//
// Thread rule: thread-safe. Callbacks run on the transport's thread, each once,
// never under a lock; they must not block and may call any method.

#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sluice::agent {

class UcxTransport {
 public:
  struct Options {
    // UCX transports to use, as in UCX_TLS; that variable, where set, wins.
    std::string transports = "tcp";
    // Network devices, as in UCX_NET_DEVICES ("lo" where all nodes are one
    // machine); empty: UCX chooses. The variable, where set, wins.
    std::string net_devices = {};
    // IPv4 address to listen on; empty: that of the first of net_devices, else
    // of the first device that is no loopback.
    std::string listen_host = {};
  };

  // A peer, by any number the caller likes.
  using PeerKey = uint64_t;
  // Operations that are cancelled together; never reused.
  using GroupId = uint64_t;
  using Done = absl::AnyInvocable<void(absl::Status) &&>;

  // Starts the transport and its thread.
  // Errors: UNAVAILABLE - UCX finds no usable transport or device.
  static absl::StatusOr<std::unique_ptr<UcxTransport>> Create(
      const Options& options);

  // Ends everything (callbacks come with CANCELLED) and joins the thread. Not
  // to be called from a callback.
  ~UcxTransport();
  UcxTransport(const UcxTransport&) = delete;
  UcxTransport& operator=(const UcxTransport&) = delete;

  // What peers need to Connect to this transport; opaque bytes.
  const std::string& LocalAddress() const;

  // Names the address of a peer. The connection is made by the first operation
  // with the peer, and made anew by the next one after a failure. A different
  // address first ends everything with the old one, as Disconnect does.
  // Errors: INVALID_ARGUMENT - not a LocalAddress() of a transport.
  absl::Status Connect(PeerKey peer, absl::string_view address);

  // Forgets a peer: its connections are closed by force, its operations end
  // with UNAVAILABLE, on both sides. `done` (may be null) runs when nothing
  // touches their memory. What the peer begins afterwards connects anew, and
  // waits as for anyone who has not yet come to the same operation: who was
  // forgotten is told by others (deadlines, the coordinator), as a peer may
  // also be the first to hear that both know each other again.
  void Disconnect(PeerKey peer, Done done);

  // Sends `bytes` bytes from `data`, which stay unchanged until `done`.
  // Status of `done`: OK - the memory may be reused. UNAVAILABLE - the peer is
  // unknown, dead or was disconnected. CANCELLED - by CancelGroup.
  void Send(GroupId group, PeerKey peer, uint64_t tag, const void* data,
            int64_t bytes, Done done);

  // Receives a message of exactly `bytes` bytes into `data`. Tags are one space
  // for all peers: they must tell senders apart.
  // Status of `done`: OK - the bytes are there. DATA_LOSS - a message of
  // another size came. UNAVAILABLE, CANCELLED - as Send.
  void Receive(GroupId group, PeerKey peer, uint64_t tag, void* data,
               int64_t bytes, Done done);

  // Ends all operations of a group that were queued before: posted receives are
  // withdrawn; connections of those that cannot be (a message in flight)
  // are closed by force, which ends other groups' messages on them
  // (UNAVAILABLE). `done` runs when nothing touches the group's memory.
  void CancelGroup(GroupId group, Done done);

 private:
  class Engine;

  explicit UcxTransport(std::unique_ptr<Engine> engine);

  std::unique_ptr<Engine> engine_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_TRANSPORT_UCX_TRANSPORT_H_
