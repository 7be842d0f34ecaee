#include "agent/cuda/cuda_device.h"

#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/cuda/cuda_runtime.h"
#include "agent/cuda/cuda_status.h"
#include "agent/cuda/handles.h"
#include "agent/cuda/load_cuda_runtime.h"
#include "agent/device/mapped_memory.h"
#include "agent/device/unique_fd.h"
#include "common/status_macros.h"
#include "tests/fakes/cuda/fake_cuda_runtime.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent::cuda {
namespace {

using testing::StatusIs;

constexpr int kWorker = 1;
constexpr int kAgent = 2;
const CudaHoldings kNothing;

struct TwoProcesses {
  FakeGpu gpu;
  FakeCudaRuntime worker{&gpu, kWorker};
  FakeCudaRuntime agent{&gpu, kAgent};
};

std::unique_ptr<CudaDevice> OpenDevice(CudaRuntime& runtime) {
  REQUIRE_OK_AND_ASSIGN(auto device, CudaDevice::Open(&runtime, 0));
  return device;
}

TEST_CASE("an arena is another process's memory once it was adopted",
          "[cuda]") {
  TwoProcesses p;
  {
    const auto lender = OpenDevice(p.worker);
    const auto borrower = OpenDevice(p.agent);
    REQUIRE_OK_AND_ASSIGN(auto arena, lender->AllocateArena(4096, "arena"));
    REQUIRE_OK_AND_ASSIGN(SharedRange range, arena->Share());
    CHECK(range.size_bytes == 4096);
    range.offset_bytes = 1024;
    range.size_bytes = 512;
    REQUIRE_OK_AND_ASSIGN(auto adopted, borrower->AdoptRange(range));
    CHECK(adopted->size() == 512);
    CHECK(adopted->data() == arena->data() + 1024);
    REQUIRE_OK_AND_ASSIGN(const SharedRange passed_on, adopted->Share());
    CHECK(passed_on.handle == range.handle);
    CHECK(passed_on.offset_bytes == 1024);
    // A second range of the same allocation takes no second mapping.
    REQUIRE_OK_AND_ASSIGN(auto second, borrower->AdoptRange(range));
    CHECK(p.gpu.holdings().imports == 1);
    adopted.reset();
    CHECK(p.gpu.holdings().imports == 1);
    second.reset();
    CHECK(p.gpu.holdings().imports == 0);
    // Nor is an ended one found again.
    REQUIRE_OK(borrower->AdoptRange(range));
  }
  CHECK(p.gpu.holdings() == kNothing);
  CHECK(p.gpu.early_unmappings() == 0);
}

TEST_CASE("what a worker lends is found inside its allocation", "[cuda]") {
  TwoProcesses p;
  REQUIRE_OK_AND_ASSIGN(void* base, p.worker.Allocate(1 << 20));
  auto* tensor = static_cast<std::byte*>(base) + 4096;
  REQUIRE_OK_AND_ASSIGN(const SharedRange range,
                        ShareRange(p.worker, tensor, 8192));
  CHECK(range.offset_bytes == 4096);
  CHECK(range.size_bytes == 8192);
  CHECK_THAT(ShareRange(p.worker, tensor, 1 << 20),
             StatusIs(absl::StatusCode::kInvalidArgument, "1048576"));
  CHECK_THAT(ShareRange(p.worker, tensor, 0),
             StatusIs(absl::StatusCode::kInvalidArgument));
  int on_the_stack = 0;
  CHECK_THAT(ShareRange(p.worker, &on_the_stack, 4),
             StatusIs(absl::StatusCode::kInvalidArgument));
  REQUIRE_OK(p.worker.Free(base));
}

TEST_CASE("memory that cannot be exported says what to set", "[cuda]") {
  TwoProcesses p;
  void* memory = p.gpu.AllocateVirtual(kWorker, 4096);
  CHECK_THAT(ShareRange(p.worker, memory, 4096),
             StatusIs(absl::StatusCode::kFailedPrecondition,
                      "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:False"));
}

TEST_CASE("bad handles and ranges are refused, and nothing stays mapped",
          "[cuda]") {
  TwoProcesses p;
  const auto lender = OpenDevice(p.worker);
  const auto borrower = OpenDevice(p.agent);
  REQUIRE_OK_AND_ASSIGN(auto arena, lender->AllocateArena(4096, "arena"));
  REQUIRE_OK_AND_ASSIGN(const SharedRange good, arena->Share());
  const auto invalid = StatusIs(absl::StatusCode::kInvalidArgument);
  const std::vector<std::pair<int64_t, int64_t>> ranges = {
      {-1, 16},  {0, 0},     {0, 4097},
      {4096, 1}, {4000, 97}, {int64_t{1} << 62, int64_t{1} << 62}};
  for (const auto& [offset, size] : ranges) {
    SharedRange bad = good;
    bad.offset_bytes = offset;
    bad.size_bytes = size;
    CAPTURE(offset, size);
    CHECK_THAT(borrower->AdoptRange(bad), invalid);
    CHECK(p.gpu.holdings().imports == 0);
  }
  CHECK_THAT(lender->AdoptRange(good), invalid);  // its own
  CHECK_THAT(borrower->AdoptRange(SharedRange{{}, 0, 16}), invalid);
  CHECK_THAT(borrower->Adopt(UniqueFd()), invalid);
  p.gpu.EndProcess(kWorker);
  CHECK_THAT(borrower->AdoptRange(good), invalid);
  CHECK(p.gpu.holdings().imports == 0);
}

TEST_CASE("what was lent stays until it is let go, when its owner has died",
          "[cuda]") {
  TwoProcesses p;
  const auto borrower = OpenDevice(p.agent);
  REQUIRE_OK_AND_ASSIGN(void* memory, p.worker.Allocate(4096));
  REQUIRE_OK_AND_ASSIGN(const SharedRange range,
                        ShareRange(p.worker, memory, 4096));
  REQUIRE_OK_AND_ASSIGN(auto adopted, borrower->AdoptRange(range));
  p.gpu.EndProcess(kWorker);
  REQUIRE_OK_AND_ASSIGN(auto stream, CudaStream::Create(p.agent, 0));
  REQUIRE_OK(p.agent.Fill(adopted->data(), 7, 4096, stream.get()));
  // Unmapped only when the queued work has ended.
  adopted.reset();
  CHECK(p.gpu.early_unmappings() == 0);
  CHECK(p.gpu.holdings().imports == 0);
}

TEST_CASE("no device, no such device, no room", "[cuda]") {
  TwoProcesses p;
  CHECK_THAT(CudaDevice::Open(&p.agent, 1),
             StatusIs(absl::StatusCode::kInvalidArgument, "GPU 1"));
  CHECK_THAT(CudaDevice::Open(&p.agent, -1),
             StatusIs(absl::StatusCode::kInvalidArgument));
  p.gpu.FailCall(0, kCudaInsufficientDriver);
  CHECK_THAT(CudaDevice::Open(&p.agent, 0),
             StatusIs(absl::StatusCode::kFailedPrecondition, "35"));
  const auto device = OpenDevice(p.agent);
  CHECK_THAT(device->Allocate(0, "arena"),
             StatusIs(absl::StatusCode::kInvalidArgument));
  p.gpu.LimitMemory(1 << 20);
  CHECK_THAT(device->Allocate(1 << 21, "weights"),
             StatusIs(absl::StatusCode::kResourceExhausted, "weights"));
  CHECK(p.gpu.holdings() == kNothing);
}

// Lends, adopts, hands over both ways and copies, as an agent and its worker.
absl::Status Scenario(TwoProcesses& p) {
  SLUICE_ASSIGN_OR_RETURN(auto lender, CudaDevice::Open(&p.worker, 0));
  SLUICE_ASSIGN_OR_RETURN(auto borrower, CudaDevice::Open(&p.agent, 0));
  SLUICE_ASSIGN_OR_RETURN(auto lent, lender->AllocateArena(4096, "lent"));
  SLUICE_ASSIGN_OR_RETURN(const SharedRange range, lent->Share());
  SLUICE_ASSIGN_OR_RETURN(auto adopted, borrower->AdoptRange(range));
  SLUICE_ASSIGN_OR_RETURN(auto own, borrower->AllocateArena(4096, "own"));
  SLUICE_ASSIGN_OR_RETURN(auto theirs, CudaStream::Create(p.worker, 0));
  SLUICE_ASSIGN_OR_RETURN(auto ours, CudaStream::Create(p.agent, 0));
  SLUICE_ASSIGN_OR_RETURN(
      auto written, CudaEvent::Create(p.worker, 0, EventKind::kInterprocess));
  SLUICE_ASSIGN_OR_RETURN(const IpcHandle handle, written.Export());
  SLUICE_ASSIGN_OR_RETURN(auto awaited, CudaEvent::Import(p.agent, 0, handle));
  SLUICE_RETURN_IF_ERROR(p.worker.Delay(200'000'000, theirs.get()));
  SLUICE_RETURN_IF_ERROR(p.worker.Fill(lent->data(), 9, 4096, theirs.get()));
  SLUICE_RETURN_IF_ERROR(written.Record(theirs));
  SLUICE_RETURN_IF_ERROR(awaited.HoldBack(ours));
  SLUICE_RETURN_IF_ERROR(
      p.agent.Copy(own->data(), adopted->data(), 4096, ours.get()));
  return p.agent.Synchronize(ours.get());
}

TEST_CASE("nothing leaks wherever a call fails", "[cuda]") {
  bool failed = true;
  int calls = 0;
  for (; failed; ++calls) {
    REQUIRE(calls < 200);
    TwoProcesses p;
    p.gpu.FailCall(calls, kCudaMemoryAllocation);
    const absl::Status status = Scenario(p);
    failed = p.gpu.Failed();
    CAPTURE(calls, status);
    CHECK(status.ok() == !failed);
    CHECK(p.gpu.holdings() == kNothing);
    CHECK(p.gpu.early_unmappings() == 0);
  }
  CHECK(calls > 20);
}

TEST_CASE("the other side's stream waits for what was handed over", "[cuda]") {
  TwoProcesses p;
  const auto lender = OpenDevice(p.worker);
  const auto borrower = OpenDevice(p.agent);
  REQUIRE_OK_AND_ASSIGN(auto lent, lender->AllocateArena(64, "lent"));
  REQUIRE_OK_AND_ASSIGN(const SharedRange range, lent->Share());
  REQUIRE_OK_AND_ASSIGN(auto adopted, borrower->AdoptRange(range));
  REQUIRE_OK_AND_ASSIGN(auto theirs, CudaStream::Create(p.worker, 0));
  REQUIRE_OK_AND_ASSIGN(auto ours, CudaStream::Create(p.agent, 0));
  REQUIRE_OK_AND_ASSIGN(
      auto written, CudaEvent::Create(p.worker, 0, EventKind::kInterprocess));
  REQUIRE_OK_AND_ASSIGN(const IpcHandle handle, written.Export());
  REQUIRE_OK_AND_ASSIGN(auto awaited, CudaEvent::Import(p.agent, 0, handle));
  for (const bool waits : {false, true}) {
    std::memset(lent->data(), 0, 64);
    char read[64];
    REQUIRE_OK(p.worker.Delay(200'000'000, theirs.get()));
    REQUIRE_OK(p.worker.Fill(lent->data(), 5, 64, theirs.get()));
    REQUIRE_OK(written.Record(theirs));
    if (waits) REQUIRE_OK(awaited.HoldBack(ours));
    REQUIRE_OK_AND_ASSIGN(const bool early, written.IsDone());
    CHECK_FALSE(early);
    REQUIRE_OK(p.agent.Copy(read, adopted->data(), 64, ours.get()));
    REQUIRE_OK(p.agent.Synchronize(ours.get()));
    CHECK(read[63] == (waits ? 5 : 0));
    REQUIRE_OK_AND_ASSIGN(const bool done, written.IsDone());
    CHECK(done == waits);
    REQUIRE_OK(p.worker.Synchronize(theirs.get()));
  }
  // An event that was not made for it does not travel.
  REQUIRE_OK_AND_ASSIGN(auto plain,
                        CudaEvent::Create(p.worker, 0, EventKind::kPlain));
  CHECK_THAT(plain.Export(), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_CASE("a lost context is told of once, and nothing works after it",
          "[cuda]") {
  TwoProcesses p;
  std::vector<std::string> told;
  p.agent.OnContextLost(
      [&](const absl::Status& status) { told.emplace_back(status.message()); });
  const auto device = OpenDevice(p.agent);
  p.gpu.FailCall(0, kCudaMemoryAllocation);
  CHECK_FALSE(device->Allocate(64, "weights").ok());
  CHECK(told.empty());
  REQUIRE_OK(device->Allocate(64, "weights"));
  p.gpu.FailCall(0, kCudaIllegalAddress);
  for (int call = 0; call < 3; ++call) {
    CHECK_THAT(device->Allocate(64, "weights"),
               StatusIs(absl::StatusCode::kInternal));
  }
  REQUIRE(told.size() == 1);
  CHECK(told[0].find("700") != std::string::npos);
  p.gpu.FailCall(-1, 0);
}

TEST_CASE("memory is handed over when what was queued on it has ended",
          "[cuda]") {
  TwoProcesses p;
  const auto lender = OpenDevice(p.worker);
  const auto borrower = OpenDevice(p.agent);
  REQUIRE_OK_AND_ASSIGN(auto lent, lender->AllocateArena(64, "lent"));
  REQUIRE_OK_AND_ASSIGN(const SharedRange range, lent->Share());
  REQUIRE_OK_AND_ASSIGN(auto theirs, CudaStream::Create(p.worker, 0));
  const auto new_event = [&] {
    return CudaEvent::Create(p.worker, 0, EventKind::kInterprocess).value();
  };
  const auto name = [](const CudaEvent& event) {
    const IpcHandle handle = event.Export().value();
    return std::string(handle.begin(), handle.end());
  };
  const CudaEvent written = new_event();
  REQUIRE_OK_AND_ASSIGN(auto adopted,
                        borrower->AdoptRange(range, name(written)));
  const auto handed_over = [&] { return adopted->IsHandedOver().value(); };
  const int events = p.gpu.holdings().events;
  auto reader = std::make_shared<int>();
  CHECK(handed_over());  // nothing was ever recorded
  for (int round = 0; round < 3; ++round) {
    REQUIRE_OK(p.worker.Delay(200'000'000, theirs.get()));
    REQUIRE_OK(p.worker.Fill(lent->data(), 5, 64, theirs.get()));
    REQUIRE_OK(written.Record(theirs));
    CHECK_FALSE(handed_over());
    REQUIRE_OK(p.worker.Synchronize(theirs.get()));
    CHECK(handed_over());
  }

  // A reader's event; those of many readings are not kept.
  for (int reading = 0; reading < 50; ++reading) {
    const CudaEvent read = new_event();
    REQUIRE_OK(read.Record(theirs));
    REQUIRE_OK(adopted->HoldBackFor(name(read), reader));
    CHECK_FALSE(handed_over());
    REQUIRE_OK(p.worker.Synchronize(theirs.get()));
  }
  CHECK(p.gpu.holdings().events <= events + 1);
  CHECK(handed_over());
  CHECK(p.gpu.holdings().events == events);

  // A reader that is gone is not waited for, though its event never comes.
  const CudaEvent never = new_event();
  REQUIRE_OK(never.Record(theirs));
  REQUIRE_OK(adopted->HoldBackFor(name(never), reader));
  CHECK_FALSE(handed_over());
  reader.reset();
  CHECK(handed_over());
}

TEST_CASE("the machine's own runtime answers, or says what is missing",
          "[cuda]") {
  const auto runtime = LoadCudaRuntime();
  if (runtime.ok()) {
    REQUIRE_OK_AND_ASSIGN(const int count, (*runtime)->DeviceCount());
    CHECK(count > 0);
    return;
  }
  CHECK((absl::IsFailedPrecondition(runtime.status()) ||
         absl::IsUnimplemented(runtime.status())));
  if (absl::IsFailedPrecondition(runtime.status())) {
    CHECK_THAT(runtime.status(),
               StatusIs(absl::StatusCode::kFailedPrecondition, "driver"));
  }
}

}  // namespace
}  // namespace sluice::agent::cuda
