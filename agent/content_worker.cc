#include "agent/content_worker.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "agent/checkpoint/checkpoint.h"
#include "agent/copy/strided_place.h"
#include "agent/device/host_device.h"
#include "agent/device/memory_file.h"
#include "agent/executor_interface.h"
#include "common/box.h"
#include "common/dtype.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// What is touched at once: some milliseconds' work.
constexpr int64_t kTouchBytes = int64_t{8} << 20;
// What is moved or digested at once.
constexpr int64_t kMovedBytes = int64_t{16} << 20;

absl::Status CheckFits(const BoundPlacement& placement,
                       const MappedMemory* memory) {
  const int64_t needed = placement.layout->buffer_bytes;
  if (needed == 0) return absl::OkStatus();
  const int64_t size = memory == nullptr ? 0 : memory->size();
  if (placement.offset_bytes >= 0 && needed <= size - placement.offset_bytes) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "placement \"", placement.ref.model, "/", placement.ref.placement,
      "\" needs ", needed, " bytes from byte ", placement.offset_bytes,
      " on: its memory has ", size));
}

absl::Status CheckTypes(const ReadDigests& order) {
  const size_t tensors = order.placement.spec->tensors.size();
  if (order.dtypes.empty() || order.dtypes.size() == tensors) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "operation ", order.operation.value(), ": ", order.dtypes.size(),
      " types to digest ", tensors, " tensors in"));
}

// A placement's buffer of the device is filled from one of the host, so much at
// a time.
absl::Status Upload(PieceMover& mover, const std::byte* from,
                    const std::shared_ptr<MappedMemory>& to, int64_t offset,
                    int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += kMovedBytes) {
    const int64_t size = std::min(bytes - at, kMovedBytes);
    BoundPiece piece;
    piece.dtype = DType::kU8;
    piece.shape = {size};
    piece.box = Box::Whole(piece.shape);
    const BoundPlace place{to, offset + at, {1}, DType::kU8};
    const PieceRange range{.piece = &piece,
                           .source = nullptr,
                           .destinations = {&place, 1},
                           .lo = 0,
                           .hi = size,
                           .packed = 0,
                           .digest = nullptr};
    SLUICE_RETURN_IF_ERROR(mover.Unpack({&range, 1}, from + at));
  }
  return absl::OkStatus();
}

}  // namespace

ContentWorker::ContentWorker(const Clock& clock, PieceMover& mover,
                             Callbacks callbacks)
    : clock_(clock),
      mover_(mover),
      callbacks_(std::move(callbacks)),
      thread_("content") {}

ContentWorker::~ContentWorker() {
  stopping_ = true;
  thread_.Stop();
}

void ContentWorker::Touch(std::weak_ptr<MappedMemory> arena) {
  TouchFrom(arena, 0);
}

void ContentWorker::TouchFrom(const std::weak_ptr<MappedMemory>& arena,
                              int64_t offset) {
  thread_.Post([this, arena, offset] {
    const std::shared_ptr<MappedMemory> memory = arena.lock();
    if (memory == nullptr || stopping_) return;
    const int64_t end = std::min(memory->size(), offset + kTouchBytes);
    if (MakePages(*memory, offset, end) && end < memory->size()) {
      TouchFrom(arena, end);
    }
  });
}

void ContentWorker::Load(StartLoad order,
                         std::shared_ptr<MappedMemory> memory) {
  auto abort = std::make_shared<Abort>();
  {
    MutexLock lock(mutex_);
    loads_[order.operation] = abort;
  }
  thread_.Post([this, order = std::move(order), memory = std::move(memory),
                abort = std::move(abort)] { RunLoad(order, memory, *abort); });
}

void ContentWorker::AbortLoad(OperationId operation, absl::Status reason) {
  std::shared_ptr<Abort> abort;
  {
    MutexLock lock(mutex_);
    const auto it = loads_.find(operation);
    if (it == loads_.end()) return;
    abort = it->second;
  }
  MutexLock lock(abort->mutex);
  if (abort->wanted) return;
  abort->reason = std::move(reason);
  abort->wanted = true;
}

absl::StatusOr<int64_t> ContentWorker::ReadFiles(
    const StartLoad& order, const std::shared_ptr<MappedMemory>& memory,
    const LoadOptions& options) {
  SLUICE_RETURN_IF_ERROR(CheckFits(order.placement, memory.get()));
  SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> checkpoint,
                          Checkpoint::Open(order.directory));
  const int64_t bytes = order.placement.layout->buffer_bytes;
  const bool on_device = bytes > 0 && memory->space() == MemorySpace::kDevice;
  std::shared_ptr<MappedMemory> staged;
  absl::Span<uint8_t> buffer;
  if (on_device) {
    SLUICE_ASSIGN_OR_RETURN(staged, HostDevice().Allocate(bytes, "load"));
    buffer = absl::MakeSpan(reinterpret_cast<uint8_t*>(staged->data()),
                            static_cast<size_t>(bytes));
  } else if (bytes > 0) {
    buffer = absl::MakeSpan(reinterpret_cast<uint8_t*>(memory->data()) +
                                order.placement.offset_bytes,
                            static_cast<size_t>(bytes));
  }
  SLUICE_ASSIGN_OR_RETURN(const int64_t read,
                          LoadViews(*checkpoint, *order.placement.spec,
                                    *order.placement.layout, buffer, options));
  if (on_device) {
    SLUICE_RETURN_IF_ERROR(Upload(mover_, staged->data(), memory,
                                  order.placement.offset_bytes, bytes));
  }
  return read;
}

void ContentWorker::RunLoad(const StartLoad& order,
                            const std::shared_ptr<MappedMemory>& memory,
                            Abort& abort) {
  const absl::Time start = clock_.Now();
  absl::Time told = start;
  LoadOptions options;
  options.progress = [&](int64_t done, int64_t) {
    if (clock_.Now() - told > absl::Milliseconds(100)) {
      told = clock_.Now();
      callbacks_.on_progress(order.operation, done);
    }
    return !abort.wanted && !stopping_;
  };
  const auto load = [&]() -> absl::StatusOr<int64_t> {
    if (abort.wanted || stopping_) return absl::CancelledError("ended");
    return ReadFiles(order, memory, options);
  };
  const absl::StatusOr<int64_t> read = load();
  LoadDoneEvent done{order.operation, read.status(), {}};
  {
    MutexLock lock(mutex_);
    loads_.erase(order.operation);
  }
  if (absl::IsCancelled(done.status)) {
    MutexLock lock(abort.mutex);
    done.status =
        abort.wanted ? abort.reason : absl::UnavailableError("the agent stops");
  }
  constexpr auto kLink = static_cast<size_t>(LinkClass::kSameDevice);
  done.stats.bytes[kLink] = read.value_or(0);
  done.stats.seconds[kLink] = absl::ToDoubleSeconds(clock_.Now() - start);
  LogInfo("load ended", {{"operation", order.operation},
                         {"directory", order.directory},
                         {"bytes", read.value_or(0)},
                         {"seconds", done.stats.seconds[kLink]},
                         {"status", done.status}});
  callbacks_.on_loaded(std::move(done));
}

void ContentWorker::ReadDigests(agent::ReadDigests order,
                                std::shared_ptr<MappedMemory> memory) {
  thread_.Post([this, order = std::move(order), memory = std::move(memory)] {
    RunDigests(order, memory);
  });
}

absl::StatusOr<Digest> ContentWorker::DigestOfView(
    const agent::ReadDigests& order, const View& view,
    const std::shared_ptr<MappedMemory>& memory) {
  const TensorSpec& tensor = order.placement.spec->tensor(view.tensor);
  const LocalParam& param =
      order.placement.layout->params[static_cast<size_t>(view.param)];
  SLUICE_ASSIGN_OR_RETURN(StridedPlace place,
                          PlaceInView(tensor, view.box, view, param));
  BoundPiece piece;
  piece.tensor = tensor.name;
  piece.dtype = order.dtypes.empty()
                    ? param.dtype
                    : order.dtypes[static_cast<size_t>(view.tensor.value())];
  piece.shape = tensor.shape;
  piece.box = view.box;
  piece.source =
      BoundPlace{memory, order.placement.offset_bytes + place.offset_bytes,
                 std::move(place.strides_bytes), param.dtype};
  Digest digest;
  const int64_t bytes = piece.box.num_elements() * ByteSize(piece.dtype);
  for (int64_t lo = 0; lo < bytes; lo += kMovedBytes) {
    const PieceRange range{.piece = &piece,
                           .source = &*piece.source,
                           .destinations = {},
                           .lo = lo,
                           .hi = std::min(bytes, lo + kMovedBytes),
                           .packed = 0,
                           .digest = &digest};
    SLUICE_RETURN_IF_ERROR(mover_.DigestOf({&range, 1}));
  }
  return digest;
}

void ContentWorker::RunDigests(const agent::ReadDigests& order,
                               const std::shared_ptr<MappedMemory>& memory) {
  DigestsReadEvent done{order.operation, absl::OkStatus(), {}};
  const auto read = [&]() -> absl::Status {
    SLUICE_RETURN_IF_ERROR(CheckFits(order.placement, memory.get()));
    SLUICE_RETURN_IF_ERROR(CheckTypes(order));
    for (const View& view : order.placement.layout->views) {
      if (stopping_) return absl::UnavailableError("the agent stops");
      SLUICE_ASSIGN_OR_RETURN(const Digest digest,
                              DigestOfView(order, view, memory));
      done.digests.push_back({view.tensor, view.box, digest});
    }
    return absl::OkStatus();
  };
  done.status = read();
  if (!done.status.ok()) done.digests.clear();
  callbacks_.on_digests(std::move(done));
}

}  // namespace sluice::agent
