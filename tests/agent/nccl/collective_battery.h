#ifndef SLUICE_TESTS_AGENT_NCCL_COLLECTIVE_BATTERY_H_
#define SLUICE_TESTS_AGENT_NCCL_COLLECTIVE_BATTERY_H_

// Many collectives of all kinds, types and sizes on one group, compared with
// what they should give.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "agent/collective/collective.h"
#include "agent/device/mapped_memory.h"

namespace sluice::testing {

// Memory of this process alone.
class HeapMemory final : public agent::MappedMemory {
 public:
  explicit HeapMemory(int64_t bytes) : bytes_(static_cast<size_t>(bytes)) {}
  std::byte* data() const override { return bytes_.data(); }
  int64_t size() const override { return static_cast<int64_t>(bytes_.size()); }

 private:
  mutable std::vector<std::byte> bytes_;
};

// Runs the same calls on every member that has the same seed, all queued at
// once. OK, or what failed first: the status of a call, DATA_LOSS for a wrong
// element or one written outside.
absl::Status RunBattery(agent::CollectiveGroup& group, int members, int self,
                        uint64_t seed);

// A reduce-scatter or all-gather of even pieces of `elements`; waits for it.
// Members differ where their arguments do.
absl::Status RunOne(agent::CollectiveGroup& group, int members, int self,
                    agent::CollectiveKind kind, DType dtype, int64_t elements,
                    uint64_t fingerprint, const std::string& description);

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_AGENT_NCCL_COLLECTIVE_BATTERY_H_
