#ifndef SLUICE_TESTS_FAKES_FAKE_COLLECTIVES_H_
#define SLUICE_TESTS_FAKES_FAKE_COLLECTIVES_H_

// Collective groups whose members all live in one process: real bytes move, as
// plainly as can be. Members meet when the last one of the same Id was made.

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "agent/collective/collective.h"
#include "common/dtype.h"
#include "common/mutex.h"
#include "common/serial_executor.h"

namespace sluice::testing {

// Thread-safe. Outlives its groups.
class FakeCollectives {
 public:
  using Call = agent::CollectiveCall;
  using Done = agent::CollectiveGroup::Done;

  std::unique_ptr<agent::CollectiveGroup> Make(
      agent::CollectiveMembers members) {
    MutexLock lock(mutex_);
    std::shared_ptr<Meeting>& meeting = meetings_[members.Id()];
    const auto self = static_cast<size_t>(members.self);
    if (meeting == nullptr || !meeting->ended.ok() || meeting->came[self]) {
      meeting = std::make_shared<Meeting>();
      meeting->members = members;
      meeting->came.resize(members.peers.size());
      meeting->queues.resize(members.peers.size());
    }
    meeting->came[self] = true;
    return std::make_unique<Group>(*this, meeting, self);
  }

  // Calls that carry data wait while held.
  void Hold(bool held) {
    MutexLock lock(mutex_);
    held_ = held;
    for (auto& [id, meeting] : meetings_) RunLocked(*meeting);
  }

  // The next call that all members have begun ends their group instead.
  void BreakNext() {
    MutexLock lock(mutex_);
    break_next_ = true;
  }

  // Reduce-scatters that moved data so far.
  int64_t num_reduced() const {
    MutexLock lock(mutex_);
    return num_reduced_;
  }

 private:
  struct Pending {
    Call call;
    Done done;
  };
  struct Meeting {
    agent::CollectiveMembers members;
    std::vector<bool> came;
    std::vector<std::deque<Pending>> queues;
    absl::Status ended;
  };

  class Group final : public agent::CollectiveGroup {
   public:
    Group(FakeCollectives& hub, std::shared_ptr<Meeting> meeting, size_t self)
        : hub_(hub), meeting_(std::move(meeting)), self_(self) {}
    ~Group() override {
      hub_.End(*meeting_, absl::CancelledError("the group was destroyed"));
      hub_.AwaitCallbacks();
    }
    void Run(Call call, Done done) override {
      hub_.Add(*meeting_, self_, {std::move(call), std::move(done)});
    }
    void Abort(absl::Status reason,
               absl::AnyInvocable<void() &&> ended) override {
      hub_.End(*meeting_, reason);
      hub_.thread_.Post(std::move(ended));
    }

   private:
    FakeCollectives& hub_;
    const std::shared_ptr<Meeting> meeting_;
    const size_t self_;
  };

  void Add(Meeting& meeting, size_t self, Pending pending) {
    MutexLock lock(mutex_);
    absl::Status status = meeting.ended;
    if (status.ok()) {
      status =
          agent::CheckCall(pending.call, static_cast<int>(meeting.came.size()),
                           static_cast<int>(self));
    }
    if (!status.ok()) {
      Answer(std::move(pending.done), status);
      return EndLocked(meeting, status);
    }
    meeting.queues[self].push_back(std::move(pending));
    RunLocked(meeting);
  }

  void End(Meeting& meeting, const absl::Status& reason) {
    MutexLock lock(mutex_);
    EndLocked(meeting, reason);
  }

  void EndLocked(Meeting& meeting, const absl::Status& reason)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!meeting.ended.ok()) return;
    meeting.ended = Own(reason);
    for (std::deque<Pending>& queue : meeting.queues) {
      for (Pending& pending : queue) {
        Answer(std::move(pending.done), meeting.ended);
      }
      queue.clear();
    }
  }

  // Nobody shares a status with another one, as members in processes of their
  // own do not. (How often one is shared is counted down in a library that
  // ThreadSanitizer does not see into.)
  static absl::Status Own(const absl::Status& status) {
    return absl::Status(status.code(), status.message());
  }

  void Answer(Done done, const absl::Status& status) {
    thread_.Post([done = std::move(done), own = Own(status)]() mutable {
      std::move(done)(std::move(own));
    });
  }

  void AwaitCallbacks() {
    Mutex mutex;
    CondVar changed;
    bool passed = false;
    thread_.Post([&] {
      MutexLock lock(mutex);
      passed = true;
      changed.SignalAll();
    });
    MutexLock lock(mutex);
    while (!passed) changed.Wait(mutex);
  }

  // Runs the first calls of all members while all have one.
  void RunLocked(Meeting& meeting) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (;;) {
      for (const std::deque<Pending>& queue : meeting.queues) {
        if (queue.empty()) return;
        const bool has_data =
            queue.front().call.kind == agent::CollectiveKind::kReduceScatter;
        if (held_ && has_data) return;
      }
      absl::Status status = Compare(meeting);
      if (std::exchange(break_next_, false)) {
        status = absl::UnavailableError("a connection broke");
      }
      if (!status.ok()) return EndLocked(meeting, status);
      if (meeting.queues[0].front().call.kind ==
          agent::CollectiveKind::kReduceScatter) {
        Reduce(meeting);
        ++num_reduced_;
      }
      for (std::deque<Pending>& queue : meeting.queues) {
        Answer(std::move(queue.front().done), absl::OkStatus());
        queue.pop_front();
      }
    }
  }

  static absl::Status Compare(const Meeting& meeting) {
    const Call& first = meeting.queues[0].front().call;
    for (size_t m = 1; m < meeting.queues.size(); ++m) {
      const Call& other = meeting.queues[m].front().call;
      if (other.kind == first.kind && other.dtype == first.dtype &&
          other.reduce == first.reduce &&
          other.fingerprint == first.fingerprint) {
        continue;
      }
      return absl::FailedPreconditionError(absl::StrCat(
          meeting.members.peers[0].name, ": ", first.description, "; ",
          meeting.members.peers[m].name, ": ", other.description));
    }
    return absl::OkStatus();
  }

  static void Reduce(Meeting& meeting) {
    switch (meeting.queues[0].front().call.dtype) {
      case DType::kF32:
        return ReduceAs<float>(meeting);
      case DType::kF64:
        return ReduceAs<double>(meeting);
      default:  // as wide as the others a test may use here
        return ReduceAs<int32_t>(meeting);
    }
  }

  template <typename T>
  static T* At(const agent::CollectiveRange& range) {
    return reinterpret_cast<T*>(range.memory->data() + range.offset_bytes);
  }

  // Sums of integers wrap.
  template <typename T>
  static T Plus(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
      using Unsigned = std::make_unsigned_t<T>;
      return static_cast<T>(static_cast<Unsigned>(a) +
                            static_cast<Unsigned>(b));
    } else {
      return a + b;
    }
  }

  template <typename T>
  static void ReduceAs(Meeting& meeting) {
    const size_t size = meeting.queues.size();
    std::vector<std::vector<T>> results(size);
    for (size_t m = 0; m < size; ++m) {
      const int64_t n = meeting.queues[m].front().call.outputs[0].elements;
      results[m].resize(static_cast<size_t>(n));
      for (size_t q = 0; q < size; ++q) {
        const T* from = At<T>(meeting.queues[q].front().call.inputs[m]);
        for (size_t e = 0; e < results[m].size(); ++e) {
          results[m][e] = Plus(results[m][e], from[e]);
        }
      }
    }
    for (size_t m = 0; m < size; ++m) {
      const Call& call = meeting.queues[m].front().call;
      T* to = At<T>(call.outputs[0]);
      for (size_t e = 0; e < results[m].size(); ++e) {
        to[e] = call.reduce == agent::ReduceOp::kAverage
                    ? results[m][e] / static_cast<T>(size)
                    : results[m][e];
      }
    }
  }

  mutable Mutex mutex_;
  bool break_next_ ABSL_GUARDED_BY(mutex_) = false;
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t num_reduced_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, std::shared_ptr<Meeting>> meetings_
      ABSL_GUARDED_BY(mutex_);
  SerialExecutor thread_{"fake-groups"};
};

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_FAKES_FAKE_COLLECTIVES_H_
