#include "tests/fakes/cuda/process_gpu.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "agent/cuda/cuda_device.h"
#include "agent/cuda/cuda_runtime.h"
#include "agent/cuda/handles.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent::cuda {
namespace {

constexpr int64_t kBytes = 1 << 20;
constexpr int64_t kDelay = 200'000'000;  // nanoseconds

struct Message {
  SharedRange range;
  IpcHandle event;
};

// Another process that answers one byte to one message.
class Process {
 public:
  explicit Process(const std::function<char(const Message&)>& answer) {
    REQUIRE(pipe(to_) == 0);
    REQUIRE(pipe(from_) == 0);
    pid_ = fork();
    REQUIRE(pid_ >= 0);
    if (pid_ > 0) return;
    Message message;
    if (read(to_[0], &message, sizeof(message)) != sizeof(message)) _exit(2);
    const char result = answer(message);
    _exit(write(from_[1], &result, 1) == 1 ? 0 : 3);
  }
  char Ask(const Message& message) {
    REQUIRE(write(to_[1], &message, sizeof(message)) == sizeof(message));
    char result = 0;
    REQUIRE(read(from_[0], &result, 1) == 1);
    return result;
  }
  ~Process() {
    for (const int fd : {to_[0], to_[1], from_[0], from_[1]}) close(fd);
    waitpid(pid_, nullptr, 0);
  }

 private:
  int to_[2] = {-1, -1};
  int from_[2] = {-1, -1};
  pid_t pid_ = -1;
};

// What another process reads of a range behind an event (or without it): '=' if
// all bytes are 7, '!' if not, 'x' if it cannot.
char ReadBehind(const Message& message, bool wait) {
  ProcessGpuRuntime runtime;
  auto device = CudaDevice::Open(&runtime, 0);
  if (!device.ok()) return 'x';
  auto memory = (*device)->AdoptRange(message.range);
  auto stream = CudaStream::Create(runtime, 0);
  auto event = CudaEvent::Import(runtime, 0, message.event);
  if (!memory.ok() || !stream.ok() || !event.ok()) return 'x';
  std::vector<char> seen(static_cast<size_t>((*memory)->size()));
  if (wait && !event->HoldBack(*stream).ok()) return 'x';
  if (!runtime.Copy(seen.data(), (*memory)->data(), kBytes, stream->get()).ok())
    return 'x';
  return std::all_of(seen.begin(), seen.end(), [](char c) { return c == 7; })
             ? '='
             : '!';
}

char HandOver(bool wait) {
  Process reader([wait](const Message& m) { return ReadBehind(m, wait); });
  ProcessGpuRuntime runtime;
  auto device = std::move(CudaDevice::Open(&runtime, 0)).value();
  auto memory = std::move(device->AllocateArena(kBytes, "arena")).value();
  auto stream = std::move(CudaStream::Create(runtime, 0)).value();
  auto event =
      std::move(CudaEvent::Create(runtime, 0, EventKind::kInterprocess))
          .value();
  REQUIRE_OK(runtime.Delay(kDelay, stream.get()));
  REQUIRE_OK(runtime.Fill(memory->data(), 7, kBytes, stream.get()));
  REQUIRE_OK(event.Record(stream));
  return reader.Ask({memory->Share().value(), event.Export().value()});
}

TEST_CASE("What is written behind a slow kernel is right only behind its event",
          "[process_gpu]") {
  CHECK(HandOver(/*wait=*/true) == '=');
  CHECK(HandOver(/*wait=*/false) == '!');
}

// A driver answers only threads that have a context; what maps an allocation
// the first time gets one by that.
TEST_CASE("What is mapped already is adopted by any thread", "[process_gpu]") {
  Process other([](const Message& m) {
    ProcessGpuRuntime runtime;
    auto device = CudaDevice::Open(&runtime, 0);
    if (!device.ok()) return 'x';
    const auto first = (*device)->AdoptRange(m.range);
    absl::Status second;
    std::thread([&] {
      second = (*device)->AdoptRange(m.range).status();
    }).join();
    return first.ok() && second.ok() ? '=' : '!';
  });
  ProcessGpuRuntime runtime;
  auto device = std::move(CudaDevice::Open(&runtime, 0)).value();
  auto memory = std::move(device->AllocateArena(kBytes, "arena")).value();
  CHECK(other.Ask({memory->Share().value(), {}}) == '=');
}

TEST_CASE("Handles of this process, of freed memory and of none are refused",
          "[process_gpu]") {
  ProcessGpuRuntime runtime;
  REQUIRE_OK(runtime.Use(0));
  void* memory = runtime.Allocate(kBytes).value();
  const IpcHandle handle = runtime.ExportMemory(memory).value();
  CHECK_FALSE(runtime.ImportMemory(handle).ok());
  Process other([](const Message& m) {
    ProcessGpuRuntime there;
    return absl::IsInvalidArgument(there.ImportMemory(m.range.handle).status())
               ? 'i'
               : '?';
  });
  REQUIRE_OK(runtime.Free(memory));
  CHECK(other.Ask({{handle, 0, kBytes}, {}}) == 'i');
  CHECK(absl::IsInvalidArgument(runtime.ImportMemory({}).status()));
  CHECK(runtime.holdings() == ProcessGpuHoldings{});
}

TEST_CASE("The handle of a process that has ended is refused",
          "[process_gpu]") {
  int pipes[2];
  REQUIRE(pipe(pipes) == 0);
  const pid_t child = fork();
  if (child == 0) {
    ProcessGpuRuntime there;
    const IpcHandle handle =
        there.ExportMemory(there.Allocate(kBytes).value()).value();
    _exit(write(pipes[1], handle.data(), handle.size()) > 0 ? 0 : 1);
  }
  IpcHandle handle;
  REQUIRE(read(pipes[0], handle.data(), handle.size()) ==
          static_cast<ssize_t>(handle.size()));
  waitpid(child, nullptr, 0);
  close(pipes[0]);
  close(pipes[1]);
  ProcessGpuRuntime runtime;
  CHECK(absl::IsInvalidArgument(runtime.ImportMemory(handle).status()));
}

}  // namespace
}  // namespace sluice::agent::cuda
