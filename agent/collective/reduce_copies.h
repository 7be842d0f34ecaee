#ifndef SLUICE_AGENT_COLLECTIVE_REDUCE_COPIES_H_
#define SLUICE_AGENT_COLLECTIVE_REDUCE_COPIES_H_

// How the bytes of small requests get into a lane's buckets and out of them.
// Implementations: host memory (here), a GPU (agent/nccl/gpu_copies.h).

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "agent/device/device.h"
#include "agent/device/mapped_memory.h"

namespace sluice::agent {

// One lane's; used on its thread alone. Copies may run late: in the order in
// which they were asked for, each at the latest by the next SendOff or Deliver.
class ReduceCopies {
 public:
  virtual ~ReduceCopies() = default;

  // Where buckets lie. `space` is "host memory" or "GPU memory", for people.
  virtual Device& device() = 0;
  virtual absl::string_view space() const = 0;

  // What workers wait by before they look at results (a CUDA event's IPC
  // handle); empty where answers come when the results are there.
  virtual std::string ready_handle() const { return ""; }

  // Neither memory goes before Drain, SendOff's event, or Deliver's.
  virtual absl::Status Copy(std::byte* to, const std::byte* from,
                            int64_t bytes) = 0;

  // Returns what a collective has to come behind: CollectiveCall::after.
  virtual absl::StatusOr<std::shared_ptr<void>> SendOff() = 0;
  // Lets workers that wait by ready_handle() go on behind all copies.
  virtual absl::Status Deliver() = 0;
  // Returns when no copy touches memory any more.
  virtual absl::Status Drain() = 0;
};

// Copies at once; workers have written before they ask.
class HostReduceCopies final : public ReduceCopies {
 public:
  // `device` outlives it.
  explicit HostReduceCopies(Device& device) : device_(device) {}

  Device& device() override { return device_; }
  absl::string_view space() const override { return "host memory"; }
  absl::Status Copy(std::byte* to, const std::byte* from,
                    int64_t bytes) override;
  absl::StatusOr<std::shared_ptr<void>> SendOff() override {
    return std::shared_ptr<void>();
  }
  absl::Status Deliver() override { return absl::OkStatus(); }
  absl::Status Drain() override { return absl::OkStatus(); }

 private:
  Device& device_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_COLLECTIVE_REDUCE_COPIES_H_
