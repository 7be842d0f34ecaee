// Memory that the host keeps by itself counts with everything else.

#include <catch2/catch.hpp>
#include <string>

#include "tests/agent/core/test_agent.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using sluice::testing::StatusIs;
using testing::kCopyBytes;
using testing::TestAgent;

using Code = absl::StatusCode;

AgentOptions WithMemory(int64_t bytes) {
  AgentOptions options = testing::TestOptions();
  options.memory_bytes = bytes;
  return options;
}

absl::Status Take(TestAgent& agent, int64_t bytes) {
  const CallId call = agent.NewCall();
  return *agent.Do(TakeMemoryRequest{call, bytes, "reduce g"}).StatusOf(call);
}

TEST_CASE("memory is taken until there is none, and returned",
          "[agent][core]") {
  TestAgent agent(WithMemory(1000));
  REQUIRE_OK(Take(agent, 600));
  CHECK_THAT(Take(agent, 401), StatusIs(Code::kResourceExhausted,
                                        "reduce g needs 401 bytes on agent"));
  CHECK_THAT(Take(agent, 401),
             StatusIs(Code::kResourceExhausted, "400 of 1000 are free"));
  REQUIRE_OK(Take(agent, 400));
  agent.Do(MemoryReturnedEvent{600});
  CHECK_THAT(Take(agent, 601), StatusIs(Code::kResourceExhausted, "600 of"));
  CHECK_OK(Take(agent, 600));
}

TEST_CASE("what was taken is no placement's, and the other way round",
          "[agent][core]") {
  TestAgent agent(WithMemory(3 * kCopyBytes));
  REQUIRE_OK(Take(agent, kCopyBytes + 1));
  const DefinePlacementCommand define{
      testing::Definition("p", Storage::kArena, 1)};
  CHECK_THAT(agent.Ask(define),
             StatusIs(Code::kResourceExhausted, "511 of 768 are free"));
  agent.Do(MemoryReturnedEvent{kCopyBytes + 1});
  CHECK_OK(agent.Ask(define));
  CHECK_THAT(Take(agent, kCopyBytes + 1),
             StatusIs(Code::kResourceExhausted, "256 of 768 are free"));
  CHECK_OK(Take(agent, kCopyBytes));
}

TEST_CASE("what was taken is no sample's", "[agent][core]") {
  TestAgent agent(WithMemory(1000));
  const SessionId session = agent.Attach("producer");
  REQUIRE_OK(Take(agent, 990));
  const auto reserve = [&] {
    const CallId call = agent.NewCall();
    return *agent
                .Do(ReserveSamplesRequest{
                    call, session, {testing::Entry("s", "a", 3)}})
                .StatusOf(call);
  };
  CHECK_THAT(reserve(), StatusIs(Code::kResourceExhausted, "10 of 1000"));
  agent.Do(MemoryReturnedEvent{990});
  CHECK_OK(reserve());
}

}  // namespace
}  // namespace sluice::agent
