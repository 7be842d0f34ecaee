#ifndef SLUICE_TESTS_FAKES_NCCL_HOST_STREAM_H_
#define SLUICE_TESTS_FAKES_NCCL_HOST_STREAM_H_

// A device that is host memory, with streams that are threads: what the fake
// NCCL library runs on.

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/nccl/stream.h"

namespace sluice::testing {

class HostNcclDevice final : public agent::NcclDevice {
 public:
  explicit HostNcclDevice(std::string bus_id) : bus_id_(std::move(bus_id)) {}

  absl::Status Use() override { return absl::OkStatus(); }
  std::string BusId() const override { return bus_id_; }
  absl::StatusOr<std::unique_ptr<agent::NcclStream>> NewStream() override;

 private:
  const std::string bus_id_;
};

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_FAKES_NCCL_HOST_STREAM_H_
