#ifndef SLUICE_AGENT_NCCL_COMMUNICATOR_H_
#define SLUICE_AGENT_NCCL_COMMUNICATOR_H_

// One communicator: NCCL's handle, its stream, and the rules by which several
// threads come near it. Made and ended by Communicators.

#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/collective/collective.h"
#include "agent/nccl/group_control.h"
#include "agent/nccl/nccl_library.h"
#include "agent/nccl/stream.h"
#include "common/clock.h"
#include "common/mutex.h"

namespace sluice::agent {

// Life:  connecting --1--> ready --2--> ending --3--> ended
//            \_____________________2______^
//   1 all members have made it and warmed it
//   2 it failed, was dropped, or a member is lost: nothing is begun any more
//   3 NCCL has let go of it: no memory is touched any more
//
// What NCCL says of a failure names nobody, and where a member died it says so
// before anybody else does. So its errors are symptoms: nothing is begun any
// more, but it ends with them only when no reason came within `reason_wait`.
//
// Thread-safe. Of calls into the library, one thread makes those that move
// data; asking for errors and ending may come from others. Of all these, only
// an abort is made while another thread is inside the library with the same
// communicator.
class Communicator {
 public:
  enum class State { kConnecting, kReady, kEnding, kEnded };
  // What it is for: what its first real call is to find connected.
  enum class Use { kReductions, kMessages };

  Communicator(CollectiveMembers members,
               std::shared_ptr<const NcclLibrary> library, NcclDevice& device,
               const Clock& clock, absl::Duration reason_wait);
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  const CollectiveMembers& members() const { return members_; }
  const NcclLibrary& library() const { return *library_; }
  State state() const;
  // Why it ends; OK while it does not.
  absl::Status status() const;
  // An error that NCCL has told of, which is why it ends soon; OK while there
  // is none.
  absl::Status symptom() const;

  // What is asked of the library at once, such as a group call.
  using Issue =
      absl::FunctionRef<NcclResult(const NcclApi&, NcclComm, NcclStream&)>;

  // Issues calls, waits until NCCL has accepted them and the stream has run
  // them. Not to be called by two threads at once. Who is given an error is to
  // end the communicator with it.
  // Errors: status() - it ends; DEADLINE_EXCEEDED; what NCCL says, and no
  // better reason came.
  absl::Status Run(Issue issue, absl::Time deadline);

  // Waits until `ready`, which is asked again after Wake and now and then.
  // Beyond `deadline` where NCCL has told of an error: its end is near. Errors:
  // status() - it ends; DEADLINE_EXCEEDED - naming `what`.
  absl::Status Await(absl::FunctionRef<bool()> ready, absl::Time deadline,
                     absl::string_view what);
  void Wake();

  // Waits until it has ended.
  void AwaitEnded();

  // The other members; null when it has ended.
  std::shared_ptr<GroupControl> control() const;

 private:
  friend class Communicators;

  // A call into the library under way: the handle stays until it is left.
  class Call {
   public:
    explicit Call(Communicator& communicator);
    ~Call();
    // False: it ends, nothing may be called.
    bool begun() const { return begun_; }
    NcclComm comm() const { return comm_; }

   private:
    Communicator& communicator_;
    bool begun_ = false;
    NcclComm comm_ = nullptr;
  };

  // For Communicators.
  // Returns false, and does not take it, when it ends already.
  bool SetControl(const std::shared_ptr<GroupControl>& control);
  absl::Status MakeStream();
  // Makes NCCL's communicator and waits for it.
  absl::Status Init(const NcclUniqueId& id, NcclConfig config,
                    absl::Time deadline);
  // Runs small calls of the kinds to come, so that the first real one finds
  // connections, and that making them counts among the making.
  absl::Status WarmUp(Use use, absl::Time deadline);
  // False when it ends already.
  bool SetReady();
  // Asks for the asynchronous error. Returns why it is to be ended now: an
  // error that is no symptom, or a symptom that was waited with for long
  // enough. OK where another thread is inside the library: that one learns of
  // it.
  absl::Status Poll();
  // Nothing is begun from now on; its end may take as long as `allowed`. False
  // when it was ending already.
  bool Mark(const absl::Status& reason, absl::Duration allowed);
  // Whether the caller is the one to connect it, which is the first to ask.
  bool Claim();
  // After Mark, on a thread of its own: lets go of everything. `graceful`: all
  // members do the same with nothing under way.
  void Close(bool graceful, absl::Duration grace,
             absl::Duration finalize_timeout);
  // Waits for calls under way, for at most `grace` once there is a handle to
  // abort them by; returns that.
  NcclComm AwaitCalls(absl::Duration grace);
  bool Finalized(NcclComm comm, absl::Duration timeout);
  // Whether its end takes longer than was allowed.
  bool Overdue() const;

  absl::Status AwaitAccepted(absl::Time deadline);
  // What came of an error that the caller is to end it with: the reason that
  // came while it was a symptom, or the error.
  absl::Status Diagnose(absl::Status error);
  // Takes note of a symptom, if it is the first; returns until when a reason
  // may come.
  absl::Time NoteSymptomLocked(const absl::Status& error)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Waits for its end, which is due; returns why.
  absl::Status AwaitReason();
  // Asks for the asynchronous state; nothing where another thread is inside the
  // library. Inside a Call.
  std::optional<NcclResult> Ask(NcclComm comm);

  const CollectiveMembers members_;
  const std::shared_ptr<const NcclLibrary> library_;
  NcclDevice& device_;
  const Clock& clock_;
  const absl::Duration reason_wait_;

  // Held by who is inside the library with this communicator, but for an abort.
  // Taken before mutex_.
  Mutex inside_mutex_;

  mutable Mutex mutex_;
  CondVar changed_;
  State state_ ABSL_GUARDED_BY(mutex_) = State::kConnecting;
  absl::Status reason_ ABSL_GUARDED_BY(mutex_);
  absl::Status symptom_ ABSL_GUARDED_BY(mutex_);
  absl::Time reason_by_ ABSL_GUARDED_BY(mutex_);
  // Who met the symptom ends the communicator; else the watchdog does.
  bool symptom_met_ ABSL_GUARDED_BY(mutex_) = false;
  bool claimed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time end_by_ ABSL_GUARDED_BY(mutex_);
  int calls_ ABSL_GUARDED_BY(mutex_) = 0;
  std::shared_ptr<GroupControl> control_ ABSL_GUARDED_BY(mutex_);
  NcclComm comm_ ABSL_GUARDED_BY(mutex_) = nullptr;
  // Where the library puts comm_; not on a stack, since threads of the library
  // may read it until the communicator has been made.
  NcclComm made_ ABSL_GUARDED_BY(inside_mutex_) = nullptr;
  // Made before the first call; used inside a Call, freed by Close after the
  // last one.
  std::unique_ptr<NcclStream> stream_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_NCCL_COMMUNICATOR_H_
