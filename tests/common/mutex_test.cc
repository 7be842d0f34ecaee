#include "common/mutex.h"

#include <catch2/catch.hpp>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"

namespace sluice {
namespace {

// A mailbox of one number, as code with these types is written.
class Mailbox {
 public:
  void Put(int value) {
    MutexLock lock(mutex_);
    while (full_) changed_.Wait(mutex_);
    value_ = value;
    full_ = true;
    changed_.SignalAll();
  }

  int Take() {
    MutexLock lock(mutex_);
    while (!full_) changed_.Wait(mutex_);
    full_ = false;
    changed_.SignalAll();
    return value_;
  }

  // False when nothing came in time.
  bool TakeWithin(absl::Duration timeout, int* value) {
    MutexLock lock(mutex_);
    while (!full_) {
      if (!changed_.WaitFor(mutex_, timeout)) return false;
    }
    full_ = false;
    *value = value_;
    return true;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool full_ ABSL_GUARDED_BY(mutex_) = false;
  int value_ ABSL_GUARDED_BY(mutex_) = 0;
};

TEST_CASE("a mutex excludes", "[common]") {
  Mutex mutex;
  int count = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) {
        MutexLock lock(mutex);
        ++count;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(count == 4000);
}

// Whether another thread gets the mutex now.
bool FreeForOthers(Mutex& mutex) {
  bool taken = false;
  std::thread([&] {
    if (!mutex.TryLock()) return;
    taken = true;
    mutex.Unlock();
  }).join();
  return taken;
}

TEST_CASE("a held mutex cannot be tried", "[common]") {
  Mutex mutex;
  CHECK(FreeForOthers(mutex));
  {
    MutexLock lock(mutex);
    CHECK_FALSE(FreeForOthers(mutex));
  }
  CHECK(FreeForOthers(mutex));
}

TEST_CASE("a condition variable passes values between threads", "[common]") {
  Mailbox mailbox;
  std::thread producer([&] {
    for (int i = 1; i <= 100; ++i) mailbox.Put(i);
  });
  int sum = 0;
  for (int i = 0; i < 100; ++i) sum += mailbox.Take();
  producer.join();
  CHECK(sum == 5050);
}

TEST_CASE("waiting ends at its timeout", "[common]") {
  Mailbox mailbox;
  int value = 0;
  CHECK_FALSE(mailbox.TakeWithin(absl::Milliseconds(1), &value));
  CHECK_FALSE(mailbox.TakeWithin(-absl::Seconds(1), &value));
}

TEST_CASE("an infinite timeout is waiting without one", "[common]") {
  Mailbox mailbox;
  int value = 0;
  std::thread producer([&] { mailbox.Put(7); });
  CHECK(mailbox.TakeWithin(absl::InfiniteDuration(), &value));
  producer.join();
  CHECK(value == 7);
}

}  // namespace
}  // namespace sluice
