#include "agent/grpc_coordinator_client.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/mutex.h"
#include "common/nccl_report.h"
#include "tests/agent/fake_membership.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using sluice::testing::FakeMembership;

Registration Self() {
  Registration self;
  self.name = "agent-1";
  self.node = "node-1";
  self.incarnation = Incarnation(77);
  self.address = "127.0.0.1:1";
  self.socket_path = "/tmp/agent-1.grpc.sock";
  self.network_address = std::string("\x00\xff", 2);
  self.memory_bytes = 1000;
  self.device = "host";
  return self;
}

GrpcCoordinatorClient::Options Fast(const std::string& address) {
  GrpcCoordinatorClient::Options options;
  options.address = address;
  options.first_backoff = absl::Milliseconds(5);
  options.max_backoff = absl::Milliseconds(20);
  return options;
}

// Collects registrations as the agent hears of them.
struct Heard {
  std::function<void(const RegisteredEvent&)> Callback() {
    return [this](const RegisteredEvent& event) {
      MutexLock lock(mutex);
      events.push_back(event);
    };
  }
  std::vector<RegisteredEvent> Take() {
    MutexLock lock(mutex);
    return events;
  }
  Mutex mutex;
  std::vector<RegisteredEvent> events;
};

TEST_CASE("an agent registers with all it is, and beats", "[agent][grpc]") {
  FakeMembership coordinator(/*epoch=*/5);
  Heard heard;
  GrpcCoordinatorClient client(Fast(coordinator.address()));
  client.Start(Self(), heard.Callback(), {});
  REQUIRE(coordinator.AwaitBeats(3));
  client.Stop();
  const auto registrations = coordinator.registrations();
  REQUIRE(registrations.size() == 1);
  CHECK(registrations[0].name() == "agent-1");
  CHECK(registrations[0].incarnation() == 77);
  CHECK(registrations[0].network_address() == std::string("\x00\xff", 2));
  CHECK(registrations[0].cluster_id().empty());
  const auto events = heard.Take();
  REQUIRE(events.size() == 1);
  CHECK(events[0].rank == Rank(3));
  CHECK(events[0].epoch == Epoch(5));
  CHECK(events[0].cluster_id == "cluster");
}

TEST_CASE("a beat tells of the workers' reduce groups and of NCCL",
          "[agent][grpc]") {
  FakeMembership coordinator;
  GrpcCoordinatorClient client(Fast(coordinator.address()));
  client.Start(
      Self(), [](const RegisteredEvent&) {},
      [] {
        BeatReport report;
        report.reduce_groups.resize(2);
        report.reduce_groups[0].name = "g";
        report.reduce_groups[1].name = "h";
        report.reduce_groups[1].bucket_bytes = 7;
        report.nccl.communicators = {{"c", 2, CommunicatorState::kReady, ""}};
        report.nccl.num_communicators = 5;
        return report;
      });
  REQUIRE(coordinator.AwaitBeats(1));
  const v1::HeartbeatRequest beat = coordinator.last_beat();
  client.Stop();
  CHECK(beat.name() == "agent-1");
  REQUIRE(beat.reduce_groups_size() == 2);
  CHECK(beat.reduce_groups(0).name() == "g");
  CHECK(beat.reduce_groups(1).bucket_bytes() == 7);
  REQUIRE(beat.nccl().communicators_size() == 1);
  CHECK(beat.nccl().communicators(0).name() == "c");
  CHECK(beat.nccl().num_communicators() == 5);
}

TEST_CASE("an agent registers again when its lease is gone", "[agent][grpc]") {
  const auto code =
      GENERATE(absl::StatusCode::kNotFound, absl::StatusCode::kAborted);
  FakeMembership coordinator;
  Heard heard;
  GrpcCoordinatorClient client(Fast(coordinator.address()));
  client.Start(Self(), heard.Callback(), {});
  REQUIRE(coordinator.AwaitBeats(1));
  coordinator.AnswerBeats(absl::Status(code, "gone"));
  REQUIRE(coordinator.AwaitRegistrations(2));
  // It says to which cluster it belongs now.
  CHECK(coordinator.registrations()[1].cluster_id() == "cluster");
  CHECK(coordinator.registrations()[1].incarnation() == 77);
}

TEST_CASE("an agent registers again with a coordinator of another epoch",
          "[agent][grpc]") {
  FakeMembership coordinator(/*epoch=*/1);
  Heard heard;
  GrpcCoordinatorClient client(Fast(coordinator.address()));
  client.Start(Self(), heard.Callback(), {});
  REQUIRE(coordinator.AwaitBeats(1));
  coordinator.set_epoch(2);
  REQUIRE(coordinator.AwaitRegistrations(2));
  client.Stop();
  CHECK(heard.Take().back().epoch == Epoch(2));
}

TEST_CASE("an agent finds a coordinator that comes, goes and comes back",
          "[agent][grpc]") {
  int port = 0;
  {
    const FakeMembership probe;
    port = probe.port();
  }
  Heard heard;
  GrpcCoordinatorClient client(Fast(absl::StrCat("127.0.0.1:", port)));
  client.Start(Self(), heard.Callback(), {});
  {
    FakeMembership first(/*epoch=*/1, port);
    REQUIRE(first.serving());
    REQUIRE(first.AwaitBeats(1));
  }
  FakeMembership second(/*epoch=*/2, port);
  REQUIRE(second.serving());
  REQUIRE(second.AwaitRegistrations(1));
  REQUIRE(second.AwaitBeats(1));
  client.Stop();
  CHECK(heard.Take().size() == 2);
}

TEST_CASE("draining reaches the coordinator, or fails by its deadline",
          "[agent][grpc]") {
  auto coordinator = std::make_unique<FakeMembership>();
  GrpcCoordinatorClient client(Fast(coordinator->address()));
  client.Start(Self(), [](const RegisteredEvent&) {}, {});
  REQUIRE(coordinator->AwaitBeats(1));
  CHECK_OK(client.Drain(absl::Seconds(10)));
  CHECK(coordinator->drains() == 1);
  coordinator.reset();
  CHECK_FALSE(client.Drain(absl::Milliseconds(200)).ok());
}

}  // namespace
}  // namespace sluice::agent
