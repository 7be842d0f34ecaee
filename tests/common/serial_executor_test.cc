#include "common/serial_executor.h"

#include <catch2/catch.hpp>
#include <future>
#include <memory>
#include <thread>
#include <vector>

namespace sluice {
namespace {

TEST_CASE("tasks run in order, and Stop waits for them", "[common]") {
  SerialExecutor executor("test");
  std::vector<int> ran;
  for (int i = 0; i < 100; ++i) {
    REQUIRE(executor.Post([&ran, i] { ran.push_back(i); }));
  }
  executor.Stop();
  std::vector<int> expected(100);
  for (int i = 0; i < 100; ++i) expected[static_cast<size_t>(i)] = i;
  CHECK(ran == expected);
}

TEST_CASE("tasks of many threads never run two at a time", "[common]") {
  SerialExecutor executor("test");
  int count = 0;  // Not atomic: guarded by being touched only by tasks.
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 250; ++i) executor.Post([&count] { ++count; });
    });
  }
  for (std::thread& thread : threads) thread.join();
  executor.Stop();
  CHECK(count == 1000);
}

TEST_CASE("a task may post another", "[common]") {
  SerialExecutor executor("test");
  std::promise<void> second_ran;
  executor.Post([&] { executor.Post([&] { second_ran.set_value(); }); });
  second_ran.get_future().wait();
  executor.Stop();
}

TEST_CASE("a task is refused and destroyed after Stop", "[common]") {
  SerialExecutor executor("test");
  executor.Stop();
  auto owned = std::make_shared<int>(1);
  bool ran = false;
  CHECK_FALSE(executor.Post([&ran, owned] { ran = true; }));
  CHECK(owned.use_count() == 1);
  CHECK_FALSE(ran);
}

TEST_CASE("Stop may be called by several threads and twice", "[common]") {
  SerialExecutor executor("test");
  int ran = 0;
  executor.Post([&ran] { ++ran; });
  std::thread other([&] { executor.Stop(); });
  executor.Stop();
  CHECK(ran == 1);  // Whoever was first, both waited for the thread's end.
  other.join();
  executor.Stop();
}

TEST_CASE("a task knows its executor's thread", "[common]") {
  SerialExecutor executor("a name longer than fifteen characters");
  bool inside = false;
  executor.Post([&] { inside = executor.IsCurrentThread(); });
  executor.Stop();
  CHECK(inside);
  CHECK_FALSE(executor.IsCurrentThread());
}

}  // namespace
}  // namespace sluice
