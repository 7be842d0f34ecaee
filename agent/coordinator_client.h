#ifndef SLUICE_AGENT_COORDINATOR_CLIENT_H_
#define SLUICE_AGENT_COORDINATOR_CLIENT_H_

// The seam between an agent and the coordinator's MembershipService.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/core/events.h"
#include "common/ids.h"
#include "common/nccl_report.h"
#include "common/reduce_report.h"

namespace sluice::agent {

// What an agent tells of itself: RegisterRequest of
// proto/sluice/v1/membership_service.proto, whose comments hold.
struct Registration {
  std::string name;
  std::string node;
  Incarnation incarnation;
  std::string address;
  std::string socket_path;
  std::string network_address;
  int64_t memory_bytes = 0;
  int64_t staging_bytes = 0;
  std::string device;
  std::string device_description;
  std::string boot_id;
  int64_t pid = 0;
  int32_t nccl_version = 0;
  std::string nccl_device;
};

// What it tells with each beat: HeartbeatRequest.
struct BeatReport {
  std::vector<ReduceGroupReport> reduce_groups;
  NcclReport nccl;
};

// Thread-safe.
class CoordinatorClient {
 public:
  virtual ~CoordinatorClient() = default;

  // Registers, and keeps the lease, until Stop: an unreachable or refusing
  // coordinator is asked again for ever. `on_registered` comes after each
  // registration, on a thread of the client, and must not block.
  // `report`, asked before each beat on that thread, may be empty.
  virtual void Start(Registration self,
                     std::function<void(const RegisteredEvent&)> on_registered,
                     std::function<BeatReport()> report) = 0;
  // Announces that this agent leaves. Errors: as the RPC; DEADLINE_EXCEEDED.
  virtual absl::Status Drain(absl::Duration timeout) = 0;
  virtual void Stop() = 0;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_COORDINATOR_CLIENT_H_
