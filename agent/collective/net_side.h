#ifndef SLUICE_AGENT_COLLECTIVE_NET_SIDE_H_
#define SLUICE_AGENT_COLLECTIVE_NET_SIDE_H_

// A member of a group towards those on other nodes: messages over UCX.
//
// Each life of a group on a member has a port of its own, which no other group
// of its process ever has; whoever sends to it puts that into the tag, so that
// messages of different groups, or of a group's former life, never meet. Ports
// are told at the meeting: a hello (found by the group's id) tells ours, an
// acknowledgement to it, addressed by it, tells the other's.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "agent/collective/collective.h"
#include "agent/collective/net_tags.h"
#include "agent/transport/ucx_transport.h"
#include "common/mutex.h"

namespace sluice::agent {

// Thread-safe. The transport's callbacks hold it.
class NetSide final : public std::enable_shared_from_this<NetSide> {
 public:
  using Done = UcxTransport::Done;

  // `far`: the members on other nodes. `changed` is called, on any thread, when
  // anything came; it must not block. `transport` outlives Close's end.
  NetSide(const CollectiveMembers& members, std::vector<int> far,
          UcxTransport& transport, std::function<void()> changed);

  const std::vector<int>& far() const { return far_; }

  // Says hello to those who were not met yet. To be called again from time to
  // time until NotMet() is empty.
  void Ask();
  std::vector<int> NotMet() const;

  // Sends the header of a call to all, and expects theirs, of the same size.
  void ExchangeHeaders(uint64_t ordinal, std::string header);
  // Their header of that call; null until it came.
  const void* header(int member) const;

  // Tells all that our part of a call is done; how far a member is.
  void SendFinished(uint64_t ordinal);
  uint64_t finished(int member) const;
  // Greatest call that a member knows to be done everywhere.
  uint64_t completed(int member) const;

  // Tells all that this member waits and nothing moves; how often a member has
  // told that.
  void SendStall();
  uint64_t stalls(int member) const;

  // Bytes to and from a member; both ends name them in the same order.
  void Send(int member, const void* data, int64_t bytes, Done done);
  void Receive(int member, void* data, int64_t bytes, Done done);

  // Why a member ended, or is gone; OK while none is. The first one counts.
  absl::Status failure() const;

  // Tells all that this member ends.
  void SendFailure(const absl::Status& reason, uint64_t completed);
  // Whether what this side says has left it, and each member that may still
  // send or receive data has told its end or is gone: then withdrawing breaks
  // nothing that somebody waits for.
  bool Quiet() const;

  // Withdraws everything. Over() once nothing is under way any more.
  void Close();
  bool Over() const;

 private:
  struct Hello;
  struct Ending;

  struct Member {
    int index = 0;
    uint32_t port = 0;  // of the other; 0: not met
    // As its last hello had it: it may have met us though we have not met it.
    uint32_t greeting_port = 0;
    bool hello_expected = false;
    bool answer_expected = false;
    bool ending_expected = false;  // with what it tells of its waits
    std::string header;
    bool header_here = false;
    uint64_t finished = 0;
    uint64_t completed = 0;
    uint64_t stalls = 0;
    bool ended = false;
    uint64_t sent = 0, received = 0;  // data messages
  };

  UcxTransport::PeerKey KeyOf(int member) const;
  Member& member(int index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  const Member& member(int index) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // What is counted; Over() waits for all.
  enum Counter { kControlSend, kControlReceive, kDataMessage, kNumCounters };

  // Queues an operation with the transport, unless this is closed: then `done`
  // comes at once.
  struct Message {
    bool receive = false;
    Counter counter = kControlSend;
    int member = 0;
    uint64_t tag = 0;
    void* data = nullptr;  // not written by sends
    int64_t bytes = 0;
  };
  void Queue(const Message& message, Done done);
  void CountedSend(int to, uint64_t tag, std::string bytes, Done done);
  void CountedReceive(int from, uint64_t tag,
                      const std::shared_ptr<std::string>& into, Done done);
  void Counted(Counter counter, Done done, absl::Status status);

  void SayHello(int to);
  void ExpectHello(int from);
  void ExpectAnswer(int from);
  void OnHello(int from, const Hello& hello);
  void OnAnswer(int from, const Hello& answer);
  void ExpectEnding(int from);
  void SendEnding(int to, uint32_t port);
  void ExpectFinished(int from, uint64_t ordinal);
  void ExpectStall(int from, uint64_t number);
  // Sends one number to all.
  void TellAll(NetKind kind, uint64_t number);
  void Lost(int index, const absl::Status& status);
  void Fail(int index, absl::Status status);

  const CollectiveMembers members_;
  const uint64_t group_;
  const std::vector<int> far_;
  UcxTransport& transport_;
  const std::function<void()> changed_;
  const uint32_t port_;
  const UcxTransport::GroupId operations_;
  std::atomic<uint64_t> told_stalls_{0};

  mutable Mutex mutex_;
  std::vector<Member> state_ ABSL_GUARDED_BY(mutex_);  // as far_
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  // What SendFailure told, as it crosses; empty before.
  std::string ending_ ABSL_GUARDED_BY(mutex_);
  int active_[kNumCounters] ABSL_GUARDED_BY(mutex_) = {};
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool withdrawn_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_COLLECTIVE_NET_SIDE_H_
