#include "agent/content_worker.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "agent/checkpoint/checkpoint.h"
#include "agent/checkpoint/view_loader.h"
#include "agent/copy/box_copy.h"
#include "agent/copy/strided_place.h"
#include "agent/device/memory_file.h"
#include "common/dtype.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// What is touched at once: some milliseconds' work.
constexpr int64_t kTouchBytes = int64_t{8} << 20;

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

absl::StatusOr<Digest> DigestOfView(const ReadDigests& order, const View& view,
                                    const std::byte* buffer) {
  const TensorSpec& tensor = order.placement.spec->tensor(view.tensor);
  const LocalParam& param =
      order.placement.layout->params[static_cast<size_t>(view.param)];
  const DType dtype =
      order.dtypes.empty()
          ? param.dtype
          : order.dtypes[static_cast<size_t>(view.tensor.value())];
  SLUICE_ASSIGN_OR_RETURN(const StridedPlace place,
                          PlaceInView(tensor, view.box, view, param));
  SLUICE_ASSIGN_OR_RETURN(
      const BoxCopy copy,
      BoxCopy::ForSource(param.dtype, dtype, tensor.shape, view.box, place));
  Digest digest;
  DigestSourceRange(copy, 0, copy.num_bytes(), buffer, digest);
  return digest;
}

}  // namespace

ContentWorker::ContentWorker(const Clock& clock, Callbacks callbacks)
    : clock_(clock), callbacks_(std::move(callbacks)), thread_("content") {}

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
  thread_.Post(
      [this, order = std::move(order), memory = std::move(memory),
       abort = std::move(abort)] { RunLoad(order, memory.get(), *abort); });
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

void ContentWorker::RunLoad(const StartLoad& order, const MappedMemory* memory,
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
    SLUICE_RETURN_IF_ERROR(CheckFits(order.placement, memory));
    SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> checkpoint,
                            Checkpoint::Open(order.directory));
    absl::Span<uint8_t> buffer;
    if (order.placement.layout->buffer_bytes > 0) {
      buffer = absl::MakeSpan(
          reinterpret_cast<uint8_t*>(memory->data()) +
              order.placement.offset_bytes,
          static_cast<size_t>(order.placement.layout->buffer_bytes));
    }
    return LoadViews(*checkpoint, *order.placement.spec,
                     *order.placement.layout, buffer, options);
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
    RunDigests(order, memory.get());
  });
}

void ContentWorker::RunDigests(const agent::ReadDigests& order,
                               const MappedMemory* memory) {
  DigestsReadEvent done{order.operation, absl::OkStatus(), {}};
  const auto read = [&]() -> absl::Status {
    SLUICE_RETURN_IF_ERROR(CheckFits(order.placement, memory));
    SLUICE_RETURN_IF_ERROR(CheckTypes(order));
    for (const View& view : order.placement.layout->views) {
      if (stopping_) return absl::UnavailableError("the agent stops");
      SLUICE_ASSIGN_OR_RETURN(
          const Digest digest,
          DigestOfView(order, view,
                       memory->data() + order.placement.offset_bytes));
      done.digests.push_back({view.tensor, view.box, digest});
    }
    return absl::OkStatus();
  };
  done.status = read();
  if (!done.status.ok()) done.digests.clear();
  callbacks_.on_digests(std::move(done));
}

}  // namespace sluice::agent
