#ifndef SLUICE_AGENT_TRANSPORT_UCX_ENGINE_H_
#define SLUICE_AGENT_TRANSPORT_UCX_ENGINE_H_

// The inside of UcxTransport: UCX objects, all touched by one thread, and the
// queue of commands through which other threads reach it.
//
// Connections are one-way: this side connects to a peer's listener to send to
// it (an outbound endpoint) and accepts the peer's connection to receive from
// it (an inbound one). Each is a socket of its own, so that one closed by force
// and its successor never meet.
//
// A connection carries one large message at a time; a peer that is sent several
// at once has as many connections. Large messages are written by UCX to where
// the receiver said, which it acknowledges; UCX 1.13 ends the process when such
// an acknowledgement stands behind another message's answer and sending that
// one's bytes fails, as it does when the peer just died. With one message at a
// time nothing stands behind the answer. And no message waits for a connection
// whose message the receiver does not ask for yet.

#include <ucp/api/ucp.h>

#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/transport/ucx_address.h"
#include "agent/transport/ucx_transport.h"
#include "common/mutex.h"

namespace sluice::agent {

// From this size on a message goes by rendezvous: its bytes follow when the
// receiver has asked for them.
inline constexpr int64_t kLargeBytes = 4096;

class UcxTransport::Engine {
 public:
  using Command = absl::AnyInvocable<void() &&>;
  // Active message with nothing in it, see AwaitConnection.
  static constexpr unsigned kGreeting = 1;

  Engine() = default;
  ~Engine();

  // Makes the UCX objects; then StartThread() may be called.
  absl::Status Open(const Options& options);
  void StartThread();
  // Ends all operations and the thread.
  void Stop();

  // Queues a command for the engine's thread. Any thread.
  void Post(Command command);

  const std::string& address() const { return address_; }

  // The rest runs on the engine's thread.
  void Connect(PeerKey key, UcxAddress address);
  void Disconnect(PeerKey key, Done done);
  void Send(GroupId group, PeerKey key, uint64_t tag, const void* data,
            int64_t bytes, Done done);
  void Receive(GroupId group, PeerKey key, uint64_t tag, void* data,
               int64_t bytes, Done done);
  void CancelGroup(GroupId group, Done done);

 private:
  // One life of a connection.
  struct Endpoint {
    Engine* engine = nullptr;
    bool inbound = false;
    uint64_t client_id = 0;  // the other transport's
    ucp_ep_h handle = nullptr;
    absl::Status failure;  // why it ends; OK while it lives
    bool closed = false;   // UCX has let go of it
    // Whether the connection stands, or has failed. Until then sends wait here
    // (by id): UCX would choose their protocol by what it knows before, which
    // is eager for any size (see RNDV_THRESH in ucx_engine.cc). Nor is it
    // closed before: UCX's connection manager does not take that in the middle
    // of its handshake.
    bool settled = false;
    bool close_when_settled = false;
    bool greeted = false;  // our greeting is sent
    bool heard = false;    // the peer's has come
    std::vector<uint64_t> waiting;
    bool carries = false;  // a large message, queued or on its way
  };
  using EndpointPtr = std::shared_ptr<Endpoint>;

  struct Peer {
    UcxAddress address;
    // Opened when needed, gone after a failure; the first one also carries what
    // is small.
    std::vector<EndpointPtr> outbound;
  };

  struct Operation {
    Engine* engine = nullptr;
    uint64_t id = 0;
    GroupId group = 0;
    bool receive = false;
    uint64_t tag = 0;
    void* data = nullptr;  // not written by sends
    int64_t bytes = 0;
    uint64_t client_id = 0;     // the peer's
    EndpointPtr endpoint = {};  // of a send
    void* request = nullptr;    // UCX's; null while a send waits
    absl::Status reason = {};   // why we end it; OK while we do not
    Done done;
  };

  // Someone who waits for the end of operations and endpoints.
  struct Waiter {
    absl::flat_hash_set<uint64_t> operations;  // ids
    std::vector<EndpointPtr> endpoints;
    Done done;
  };

  // Opening (ucx_engine.cc).
  absl::Status OpenWorker(const Options& options);
  absl::Status OpenListener(const std::string& host);
  absl::Status OpenEvents();

  // The loop (ucx_engine.cc).
  void Run();
  // Runs queued commands; returns whether there were any.
  bool RunCommands();
  // Whether commands are queued; if not, the next one will wake the thread.
  bool CommandsQueued();
  // Sleeps until a command or an event of UCX comes.
  void Sleep();
  // Returns whether everything is closed.
  bool FinishStopping();
  bool AllClosed() const;

  // Connections (ucx_endpoints.cc).
  static void OnConnection(ucp_conn_request_h request, void* engine);
  static void OnEndpointError(void* arg, ucp_ep_h ep, ucs_status_t status);
  void Accept(ucp_conn_request_h request);
  // Returns a connection for a message: for a large one, one that
  // carries no other.
  absl::StatusOr<EndpointPtr> OutboundTo(PeerKey key, bool large);
  absl::Status OpenEndpoint(ucp_ep_params_t& params, const EndpointPtr& owner);
  // Asks to be told when it stands.
  void AwaitConnection(const EndpointPtr& endpoint);
  // Closes by force; its operations end with `reason`.
  void CloseEndpoint(const EndpointPtr& endpoint, const absl::Status& reason);
  // Returns whether there were any.
  bool CloseFailedEndpoints();
  void CollectClosedEndpoints();
  // Closes all connections with a peer, its operations end with `reason`.
  void ClosePeer(const Peer& peer, const absl::Status& reason,
                 std::vector<EndpointPtr>* closed);
  void WithdrawReceives(uint64_t client_id, const absl::Status& reason);
  void ForceClosed(const EndpointPtr& endpoint);
  void Forget(const EndpointPtr& endpoint);
  static void OnGreetingSent(void* request, ucs_status_t status,
                             void* user_data);
  void GreetingSent(const EndpointPtr& endpoint, ucs_status_t status);
  static ucs_status_t OnGreeting(void* arg, const void* header,
                                 size_t header_length, void* data,
                                 size_t length,
                                 const ucp_am_recv_param_t* param);
  void Settled(const EndpointPtr& endpoint);
  // Ends sends that were never handed to UCX.
  void DropWaiting(const EndpointPtr& endpoint);

  // Messages (ucx_operations.cc).
  static void OnSent(void* request, ucs_status_t status, void* user_data);
  static void OnReceived(void* request, ucs_status_t status,
                         const ucp_tag_recv_info_t* info, void* user_data);
  // Hands a registered operation to UCX.
  void SubmitSend(Operation& operation);
  void SubmitReceive(Operation& operation);
  // Notes what a UCX call returned, or ends the operation at once.
  void Submitted(Operation& operation, ucs_status_ptr_t result);
  void Finish(uint64_t id, ucs_status_t status, int64_t received);
  void AddWaiter(Waiter waiter);
  void CheckWaiters();

  ucp_context_h context_ = nullptr;
  ucp_worker_h worker_ = nullptr;
  ucp_listener_h listener_ = nullptr;
  int epoll_fd_ = -1;
  int wake_fd_ = -1;
  uint64_t client_id_ = 0;
  std::string address_;

  uint64_t next_operation_ = 1;
  absl::flat_hash_map<uint64_t, std::unique_ptr<Operation>> operations_;
  absl::flat_hash_map<PeerKey, Peer> peers_;
  // Accepted connections, by the other side's client id; oldest first.
  absl::flat_hash_map<uint64_t, std::vector<EndpointPtr>> inbound_;
  // All that have a handle: UCX knows them by a plain pointer.
  absl::flat_hash_map<Endpoint*, EndpointPtr> open_;
  // Those with a greeting under way, whose callback gets the entry's address.
  std::list<EndpointPtr> connecting_;
  // Reported by UCX inside its progress; closed outside it.
  std::vector<EndpointPtr> failed_;
  // Being closed, with UCX's request, to be polled.
  std::list<std::pair<EndpointPtr, void*>> closing_;
  std::list<Waiter> waiters_;
  bool stopping_ = false;
  std::chrono::steady_clock::time_point stop_deadline_;
  // When a connection last came, or stopping began.
  std::chrono::steady_clock::time_point last_request_;

  Mutex mutex_;
  std::vector<Command> commands_ ABSL_GUARDED_BY(mutex_);
  bool wake_needed_ ABSL_GUARDED_BY(mutex_) = false;

  std::thread thread_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_TRANSPORT_UCX_ENGINE_H_
