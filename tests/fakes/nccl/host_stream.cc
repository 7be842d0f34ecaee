#include "tests/fakes/nccl/host_stream.h"

#include <atomic>
#include <cstdint>

#include "common/serial_executor.h"
#include "tests/fakes/nccl/stream_abi.h"

namespace sluice::testing {
namespace {

class HostNcclStream final : public agent::NcclStream, private CUstream_st {
 public:
  HostNcclStream() : thread_("host-stream") {
    enqueue = [](CUstream_st* stream, void (*work)(void*), void* argument) {
      static_cast<HostNcclStream*>(stream)->thread_.Post(
          [work, argument] { work(argument); });
    };
  }

  agent::NcclStreamHandle handle() const override {
    return const_cast<HostNcclStream*>(this);
  }

  void* scratch() const override { return scratch_.get(); }

  // Whoever has this device writes before it calls.
  absl::Status HoldBack(void*) override { return absl::OkStatus(); }

  absl::Status Record() override {
    const uint64_t mark = ++recorded_;
    thread_.Post([this, mark] { reached_.store(mark); });
    return absl::OkStatus();
  }

  absl::StatusOr<bool> Reached() override { return reached_ == recorded_; }

 private:
  const std::unique_ptr<std::byte[]> scratch_ =
      std::make_unique<std::byte[]>(kScratchBytes);
  uint64_t recorded_ = 0;
  std::atomic<uint64_t> reached_ = 0;
  // Last: its tasks use the members above.
  SerialExecutor thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<agent::NcclStream>> HostNcclDevice::NewStream() {
  return std::make_unique<HostNcclStream>();
}

}  // namespace sluice::testing
