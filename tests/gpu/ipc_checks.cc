// Two processes that lend, adopt and hand over memory of a GPU, both ways.

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "agent/cuda/cuda_device.h"
#include "agent/cuda/cuda_runtime.h"
#include "agent/cuda/handles.h"
#include "common/status_macros.h"
#include "tests/gpu/check_tools.h"
#include "tests/gpu/checks.h"

namespace sluice::gpu_tests {
namespace {

using agent::cuda::CudaDevice;
using agent::cuda::CudaEvent;
using agent::cuda::CudaMemory;
using agent::cuda::CudaStream;
using agent::cuda::EventKind;
using agent::cuda::IpcHandle;
using agent::cuda::SharedRange;

constexpr int kRounds = 3;

// One message each way; both processes are the same program.
struct Message {
  enum Kind { kLend, kVerify, kDone, kFailed };
  Kind kind = kDone;
  uint8_t value = 0;
  SharedRange range;
  IpcHandle event{};
};

absl::Status Send(int socket, const Message& message) {
  char bytes[sizeof(Message)];
  std::memcpy(bytes, &message, sizeof(bytes));
  if (send(socket, bytes, sizeof(bytes), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(sizeof(bytes))) {
    return absl::UnavailableError(
        absl::StrCat("sending to the other process: ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

// NOT_FOUND once the other side has closed.
absl::StatusOr<Message> Receive(int socket) {
  char bytes[sizeof(Message)];
  const ssize_t got = recv(socket, bytes, sizeof(bytes), MSG_WAITALL);
  if (got == 0) return absl::NotFoundError("the other process has ended");
  if (got != static_cast<ssize_t>(sizeof(bytes))) {
    return absl::UnavailableError(absl::StrCat(
        "receiving from the other process: ", std::strerror(errno)));
  }
  Message message;
  std::memcpy(&message, bytes, sizeof(bytes));
  return message;
}

// Queues a late write of `value` over the memory, and the event behind it.
absl::Status WriteLate(Bench& bench, const Settings& settings, std::byte* at,
                       int64_t bytes, uint8_t value, const CudaEvent& event) {
  const auto stream = bench.stream().get();
  SLUICE_RETURN_IF_ERROR(
      bench.runtime().Delay(settings.delay_nanoseconds, stream));
  SLUICE_RETURN_IF_ERROR(bench.runtime().Fill(at, value, bytes, stream));
  return event.Record(bench.stream());
}

// Waits, on a stream, for the other process's event; then reads and compares.
absl::Status ReadBehind(Bench& bench, const std::byte* at, int64_t bytes,
                        uint8_t value, const IpcHandle& handle) {
  SLUICE_ASSIGN_OR_RETURN(
      const CudaEvent event,
      CudaEvent::Import(bench.runtime(), bench.device(), handle));
  SLUICE_ASSIGN_OR_RETURN(const CudaStream reader,
                          CudaStream::Create(bench.runtime(), bench.device()));
  SLUICE_RETURN_IF_ERROR(event.HoldBack(reader));
  Bytes found(static_cast<size_t>(bytes));
  SLUICE_RETURN_IF_ERROR(
      bench.runtime().Copy(found.data(), at, bytes, reader.get()));
  SLUICE_RETURN_IF_ERROR(bench.runtime().Synchronize(reader.get()));
  return CheckEqual(Bytes(found.size(), value), found,
                    "memory of another process");
}

}  // namespace

absl::Status RunLender(const Settings& settings, int socket) {
  SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<CudaDevice> device,
                          CudaDevice::Open(settings.runtime, settings.device));
  SLUICE_ASSIGN_OR_RETURN(Bench bench, Bench::Create(settings));
  SLUICE_ASSIGN_OR_RETURN(const auto arena,
                          device->AllocateArena(settings.elements, "lent"));
  SLUICE_ASSIGN_OR_RETURN(const CudaEvent written,
                          CudaEvent::Create(bench.runtime(), settings.device,
                                            EventKind::kInterprocess));
  while (true) {
    absl::StatusOr<Message> asked = Receive(socket);
    if (absl::IsNotFound(asked.status())) return absl::OkStatus();
    SLUICE_RETURN_IF_ERROR(asked.status());
    Message answer;
    if (asked->kind == Message::kLend) {
      SLUICE_ASSIGN_OR_RETURN(answer.range, arena->Share());
      SLUICE_ASSIGN_OR_RETURN(answer.event, written.Export());
      SLUICE_RETURN_IF_ERROR(WriteLate(bench, settings, arena->data(),
                                       arena->size(), asked->value, written));
    } else {
      const absl::Status read = ReadBehind(bench, arena->data(), arena->size(),
                                           asked->value, asked->event);
      answer.kind = read.ok() ? Message::kDone : Message::kFailed;
    }
    SLUICE_RETURN_IF_ERROR(Send(socket, answer));
  }
}

absl::StatusOr<SharedRange> BorrowFilled(const Settings& settings, int socket,
                                         uint8_t value) {
  SLUICE_RETURN_IF_ERROR(Send(socket, {Message::kLend, value, {}, {}}));
  SLUICE_ASSIGN_OR_RETURN(const Message lent, Receive(socket));
  SLUICE_ASSIGN_OR_RETURN(Bench bench, Bench::Create(settings));
  SLUICE_ASSIGN_OR_RETURN(
      const CudaEvent event,
      CudaEvent::Import(bench.runtime(), settings.device, lent.event));
  SLUICE_RETURN_IF_ERROR(event.HoldBack(bench.stream()));
  SLUICE_RETURN_IF_ERROR(bench.runtime().Synchronize(bench.stream().get()));
  return lent.range;
}

absl::Status RunBorrower(const Settings& settings, int socket) {
  SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<CudaDevice> device,
                          CudaDevice::Open(settings.runtime, settings.device));
  SLUICE_ASSIGN_OR_RETURN(Bench bench, Bench::Create(settings));
  SLUICE_ASSIGN_OR_RETURN(const CudaEvent written,
                          CudaEvent::Create(bench.runtime(), settings.device,
                                            EventKind::kInterprocess));
  SLUICE_ASSIGN_OR_RETURN(const IpcHandle written_handle, written.Export());
  for (int round = 0; round < kRounds; ++round) {
    const auto value = static_cast<uint8_t>(0x21 + round);
    SLUICE_RETURN_IF_ERROR(Send(socket, {Message::kLend, value, {}, {}}));
    SLUICE_ASSIGN_OR_RETURN(const Message lent, Receive(socket));
    SLUICE_ASSIGN_OR_RETURN(const auto memory, device->AdoptRange(lent.range));
    SLUICE_RETURN_IF_ERROR(
        ReadBehind(bench, memory->data(), memory->size(), value, lent.event));
    SharedRange beyond = lent.range;
    beyond.offset_bytes = int64_t{1} << 50;
    if (device->AdoptRange(beyond).ok()) {
      return absl::InternalError("adopted a range beyond its allocation");
    }
    const auto other = static_cast<uint8_t>(0x81 + round);
    SLUICE_RETURN_IF_ERROR(WriteLate(bench, settings, memory->data(),
                                     memory->size(), other, written));
    SLUICE_RETURN_IF_ERROR(
        Send(socket, {Message::kVerify, other, {}, written_handle}));
    SLUICE_ASSIGN_OR_RETURN(const Message verified, Receive(socket));
    if (verified.kind != Message::kDone) {
      return absl::DataLossError(
          "the lender did not find what was written into its memory");
    }
  }
  return absl::OkStatus();
}

}  // namespace sluice::gpu_tests
