// Waits for memory that others hand over.

#include "agent/hand_over_watch.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <future>
#include <memory>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

class Handed final : public MappedMemory {
 public:
  std::byte* data() const override { return nullptr; }
  int64_t size() const override { return 0; }
  absl::StatusOr<bool> IsHandedOver() override {
    ++asked;
    if (broken) return absl::InternalError("device gone");
    return there.load();
  }

  std::atomic<bool> there = false;
  std::atomic<bool> broken = false;
  std::atomic<int> asked = 0;
};

// An answer, and a way to see that there is none.
struct Answer {
  std::promise<absl::Status> promise;
  std::future<absl::Status> future = promise.get_future();

  HandOverWatch::Done Done() {
    return
        [this](absl::Status status) { promise.set_value(std::move(status)); };
  }
  bool Came() {
    return future.wait_for(std::chrono::seconds(0)) ==
           std::future_status::ready;
  }
};

void AwaitQuestions(const Handed& memory, int more) {
  const int until = memory.asked + more;
  while (memory.asked < until) std::this_thread::yield();
}

TEST_CASE("an operation goes on when all its memory is there", "[hand_over]") {
  const auto first = std::make_shared<Handed>();
  const auto second = std::make_shared<Handed>();
  Answer one, both;
  HandOverWatch watch;
  watch.Await(OperationId(1), {first}, one.Done());
  watch.Await(OperationId(2), {first, second}, both.Done());
  AwaitQuestions(*first, 3);
  CHECK_FALSE(one.Came());
  first->there = true;
  CHECK_OK(one.future.get());
  AwaitQuestions(*second, 3);
  CHECK_FALSE(both.Came());
  second->there = true;
  CHECK_OK(both.future.get());
}

TEST_CASE("what a device says ends the wait", "[hand_over]") {
  const auto memory = std::make_shared<Handed>();
  Answer answer;
  HandOverWatch watch;
  watch.Await(OperationId(1), {memory}, answer.Done());
  AwaitQuestions(*memory, 1);
  memory->broken = true;
  CHECK_THAT(answer.future.get(),
             testing::StatusIs(absl::StatusCode::kInternal, "device gone"));
}

TEST_CASE("what is forgotten gets no answer, and lets go of its memory",
          "[hand_over]") {
  const auto memory = std::make_shared<Handed>();
  const auto other = std::make_shared<Handed>();
  Answer forgotten, answered;
  HandOverWatch watch;
  watch.Await(OperationId(1), {memory}, forgotten.Done());
  watch.Await(OperationId(2), {other}, answered.Done());
  watch.Forget(OperationId(1));
  watch.Forget(OperationId(3));
  CHECK(memory.use_count() == 1);
  memory->there = true;
  other->there = true;
  CHECK_OK(answered.future.get());
  CHECK_FALSE(forgotten.Came());

  Answer late;
  watch.Await(OperationId(4), {std::make_shared<Handed>()}, late.Done());
  watch.Stop();
  CHECK_FALSE(late.Came());
}

TEST_CASE("host memory is always there", "[hand_over]") {
  class Host final : public MappedMemory {
   public:
    std::byte* data() const override { return nullptr; }
    int64_t size() const override { return 0; }
  };
  Memories memories = {std::make_shared<Host>(), std::make_shared<Host>()};
  REQUIRE_OK_AND_ASSIGN(const bool there, AreHandedOver(memories));
  CHECK(there);
  CHECK(memories.empty());
  memories = {std::make_shared<Handed>(), std::make_shared<Host>()};
  REQUIRE_OK_AND_ASSIGN(const bool all, AreHandedOver(memories));
  CHECK_FALSE(all);
  CHECK(memories.size() == 1);
}

}  // namespace
}  // namespace sluice::agent
