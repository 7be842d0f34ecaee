// An agent's host while memory is made and unmade, which may take long: it
// answers meanwhile, keeps the order and loses nothing.

#include <catch2/catch.hpp>
#include <chrono>
#include <future>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/buffer_registry.h"
#include "agent/device/host_device.h"
#include "agent/host.h"
#include "agent/peer_directory.h"
#include "agent/source_table.h"
#include "common/clock.h"
#include "common/command.h"
#include "common/ids.h"
#include "common/mutex.h"
#include "tests/agent/core/test_agent.h"
#include "tests/agent/fake_executor.h"
#include "tests/agent/gated_device.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using sluice::testing::IsOk;
using sluice::testing::StatusIs;
using testing::kCopyBytes;
using Code = absl::StatusCode;
using StatusFuture = std::future<absl::Status>;

// A status that never came reads as one.
absl::Status Await(StatusFuture& future) {
  if (future.wait_for(absl::ToChronoSeconds(kHang)) ==
      std::future_status::ready) {
    return future.get();
  }
  return absl::DeadlineExceededError("no answer");
}

bool Waits(StatusFuture& future) {
  return future.wait_for(std::chrono::seconds(0)) != std::future_status::ready;
}

// A coordinator's end that keeps what commands were answered.
class ResultSink final : public EventSink {
 public:
  void Send(const AgentEvent& event) override {
    const auto* result = std::get_if<CommandResult>(&event.body);
    if (result == nullptr) return;
    MutexLock lock(mutex_);
    results_[result->command] = result->outcome;
    changed_.SignalAll();
  }
  void Close(const absl::Status&) override {}

  std::optional<absl::Status> Find(CommandId id) {
    MutexLock lock(mutex_);
    const auto it = results_.find(id);
    if (it == results_.end()) return std::nullopt;
    return it->second;
  }
  absl::Status Await(CommandId id) {
    MutexLock lock(mutex_);
    while (!results_.contains(id)) {
      if (!changed_.WaitFor(mutex_, kHang)) {
        return absl::DeadlineExceededError("no answer");
      }
    }
    return results_.at(id);
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  absl::flat_hash_map<CommandId, absl::Status> results_ ABSL_GUARDED_BY(mutex_);
};

// A host whose placements lie on `device`, its samples beside them.
class Rig {
 public:
  explicit Rig(int64_t memory_bytes = 1 << 20,
               int64_t capacity = std::numeric_limits<int64_t>::max())
      : device(capacity),
        host(Options(memory_bytes), MakeDeps()),
        executor_(host.MakeExecutorCallbacks()) {
    host.Start(executor_);
    host.OpenStream(sink, {CommandId(1), Epoch(1),
                           WelcomeCommand{"cluster", Rank(0), Incarnation(7)}});
  }
  ~Rig() {
    device.making.Open();
    device.unmaking.Open();
    host.Stop();
  }

  CommandId Send(CommandBody body) {
    const CommandId id(++last_);
    host.CommandFrom(sink.get(), {id, Epoch(1), std::move(body)});
    return id;
  }
  CommandId Define(uint64_t generation) {
    return Send(DefinePlacementCommand{
        testing::Definition("p", Storage::kArena, generation)});
  }
  CommandId Remove(uint64_t generation) {
    return Send(RemovePlacementCommand{{"m", "p", generation}});
  }
  template <typename MakeRequest>
  StatusFuture Call(MakeRequest make) {
    auto answered = std::make_shared<std::promise<absl::Status>>();
    StatusFuture future = answered->get_future();
    host.Call([make](CallId call) -> Event { return make(call); },
              [answered](const absl::Status& status, const ReplyBody&) {
                answered->set_value(status);
              });
    return future;
  }
  StatusFuture GetPlacement() {
    return Call([](CallId call) {
      return GetPlacementRequest{call, "m", "p"};
    });
  }
  SessionId Attach() {
    std::promise<SessionId> attached;
    host.Call(
        [](CallId call) {
          return AttachRequest{call, "worker", 1};
        },
        [&](const absl::Status&, const ReplyBody& body) {
          attached.set_value(std::get<AttachReply>(body).session);
        });
    return attached.get_future().get();
  }
  StatusFuture Take(int64_t bytes) {
    return Call([bytes](CallId call) {
      return TakeMemoryRequest{call, bytes, "group"};
    });
  }

  GatedDevice device;
  BufferRegistry buffers;
  const std::shared_ptr<ResultSink> sink = std::make_shared<ResultSink>();

 private:
  static AgentHost::Options Options(int64_t memory_bytes) {
    AgentHost::Options options;
    options.core.name = "agent-0";
    options.core.incarnation = Incarnation(7);
    options.core.memory_bytes = memory_bytes;
    options.core.staging_bytes = 1 << 20;
    options.core.sample_segment_bytes = 4096;
    options.node = "node-0";
    return options;
  }
  AgentHost::Deps MakeDeps() {
    AgentHost::Deps deps{clock_, device, buffers, sources_, peers_};
    deps.host_memory = &samples_;
    return deps;
  }

  const SystemClock clock_;
  HostDevice samples_;
  SourceTable sources_;
  SocketPeerDirectory peers_{clock_};
  uint64_t last_ = 1;

 public:
  AgentHost host;

 private:
  FakeExecutor executor_;
};

TEST_CASE("the host answers while memory is made", "[agent]") {
  Rig rig;
  rig.device.making.Shut();
  const CommandId define = rig.Define(1);
  REQUIRE(rig.device.making.AwaitArrivals(1));
  StatusFuture asked = rig.GetPlacement();
  CHECK_THAT(Await(asked), IsOk());
  CHECK_FALSE(rig.sink->Find(define).has_value());
  rig.device.making.Open();
  CHECK_THAT(rig.sink->Await(define), IsOk());
  CHECK(rig.device.live_bytes() == 2 * kCopyBytes);
}

TEST_CASE("samples do not wait for a placement's memory", "[agent]") {
  Rig rig;
  const SessionId session = rig.Attach();
  rig.device.making.Shut();
  rig.Define(1);
  REQUIRE(rig.device.making.AwaitArrivals(1));
  StatusFuture reserved = rig.Call([session](CallId call) {
    return ReserveSamplesRequest{call, session, {testing::Entry("s", "k", 4)}};
  });
  CHECK_THAT(Await(reserved), IsOk());
}

TEST_CASE("a placement dropped while its memory is made leaves none",
          "[agent]") {
  Rig rig(/*memory_bytes=*/2 * kCopyBytes);
  rig.device.making.Shut();
  const CommandId define = rig.Define(1);
  REQUIRE(rig.device.making.AwaitArrivals(1));
  const CommandId remove = rig.Remove(1);
  CHECK_THAT(rig.sink->Await(remove), IsOk());
  CHECK_THAT(rig.sink->Await(define), StatusIs(Code::kAborted));
  // Nobody may have what is about to be made.
  StatusFuture early = rig.Take(1);
  CHECK_THAT(Await(early), StatusIs(Code::kResourceExhausted));

  rig.device.making.Open();
  REQUIRE(rig.device.making.AwaitArrivals(2));
  CHECK(rig.device.AwaitEmpty());
  CHECK(rig.buffers.total_bytes() == 0);
  CHECK_THAT(rig.sink->Await(rig.Define(2)), IsOk());
}

TEST_CASE("the host stops while memory is made, and leaves none", "[agent]") {
  Rig rig;
  rig.device.making.Shut();
  rig.Define(1);
  REQUIRE(rig.device.making.AwaitArrivals(1));
  auto stopped = std::async(std::launch::async, [&rig] { rig.host.Stop(); });
  // Callers do not wait for the memory.
  StatusFuture late = rig.GetPlacement();
  while (Await(late).ok()) late = rig.GetPlacement();
  rig.device.making.Open();
  REQUIRE(stopped.wait_for(absl::ToChronoSeconds(kHang)) ==
          std::future_status::ready);
  // The second copy was not begun.
  CHECK(rig.device.making.arrived() == 1);
  CHECK(rig.device.live_bytes() == 0);
  CHECK(rig.buffers.total_bytes() == 0);
}

TEST_CASE("the host answers while memory is given back", "[agent]") {
  Rig rig;
  REQUIRE_OK(rig.sink->Await(rig.Define(1)));
  rig.device.unmaking.Shut();
  CHECK_THAT(rig.sink->Await(rig.Remove(1)), IsOk());
  REQUIRE(rig.device.unmaking.AwaitArrivals(1));
  StatusFuture asked = rig.GetPlacement();
  CHECK_THAT(Await(asked), StatusIs(Code::kNotFound));
  rig.device.unmaking.Open();
  CHECK(rig.device.AwaitEmpty());
}

TEST_CASE("what is given back makes room for what is made next", "[agent]") {
  Rig rig(/*memory_bytes=*/2 * kCopyBytes, /*capacity=*/2 * kCopyBytes);
  REQUIRE_OK(rig.sink->Await(rig.Define(1)));
  rig.device.unmaking.Shut();
  REQUIRE_OK(rig.sink->Await(rig.Remove(1)));
  SECTION("of a placement") {
    const CommandId again = rig.Define(2);
    REQUIRE(rig.device.unmaking.AwaitArrivals(1));
    // The third is not begun; one that overtakes does not take so long.
    CHECK_FALSE(rig.device.making.AwaitArrivals(3, absl::Milliseconds(100)));
    rig.device.unmaking.Open();
    CHECK_THAT(rig.sink->Await(again), IsOk());
  }
  SECTION("by whoever makes memory for itself") {
    StatusFuture taken = rig.Take(2 * kCopyBytes);
    StatusFuture refused = rig.Take(1);  // answered after the core saw `taken`
    CHECK_THAT(Await(refused), StatusIs(Code::kResourceExhausted));
    CHECK(Waits(taken));
    rig.device.unmaking.Open();
    CHECK_THAT(Await(taken), IsOk());
    CHECK(rig.device.live_bytes() == 0);
  }
}

}  // namespace
}  // namespace sluice::agent
