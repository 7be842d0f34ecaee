#include "tools/quickstart/placement_check.h"

#include <atomic>
#include <cstddef>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "common/format.h"
#include "common/mutex.h"
#include "common/status_macros.h"
#include "tools/checker/checker.h"
#include "tools/checker/checkpoint_bytes.h"
#include "tools/checker/expectation.h"
#include "tools/console/progress.h"
#include "tools/quickstart/gpu_memory.h"

namespace sluice::quickstart {
namespace {

// Where a mesh index stands, by arithmetic of its own: the last axis varies
// fastest.
checker::Position PositionOf(const Mesh& mesh, int64_t index) {
  checker::Position at;
  for (auto axis = mesh.axes.rbegin(); axis != mesh.axes.rend(); ++axis) {
    const int64_t coordinate = index % axis->size;
    index /= axis->size;
    if (axis->name == "pipe") {
      at.stage = coordinate;
      at.stages = axis->size;
    } else if (axis->name == "tensor") {
      at.tensor = coordinate;
      at.tensors = axis->size;
    }
  }
  return at;
}

// The bytes one agent holds are compared while they are pinned.
absl::StatusOr<int64_t> CheckAgent(Session& session, Worker& reader,
                                   const Placed& placed, int64_t index,
                                   uint64_t version,
                                   const checker::CheckpointBytes& checkpoint,
                                   int sign_flips) {
  SLUICE_ASSIGN_OR_RETURN(const v1::GetPlacementResponse held,
                          reader.GetPlacement(kModel, placed.name));
  std::vector<checker::HeldParam> params;
  for (const v1::LocalParam& param : held.layout().params()) {
    params.push_back({param.name(),
                      {param.shape().begin(), param.shape().end()},
                      param.offset_bytes()});
  }
  const checker::Position at = PositionOf(placed.mesh, index);
  const checker::Expectation expected =
      placed.layout.name == "megatron" ? checker::ExpectMegatron(checkpoint, at)
                                       : checker::ExpectVllm(checkpoint, at);
  SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<PinnedVersion> pin,
                          reader.Pin(kModel, placed.name, version));
  const std::optional<int> gpu =
      session.options.GpuOf(static_cast<int>(index), session.gpus);
  if (pin->device().has_value() != gpu.has_value()) {
    return absl::InternalError(absl::StrCat(
        placed.name, " lies on ",
        pin->device().has_value() ? "a GPU" : "the host", ", expected on ",
        session.DeviceOf(static_cast<int>(index))));
  }
  if (!gpu.has_value()) {
    return checker::CheckMemory(checkpoint, expected, params, pin->data(),
                                pin->size(), sign_flips);
  }
  SLUICE_ASSIGN_OR_RETURN(const std::vector<std::byte> copy,
                          ReadGpu(*session.cuda, *gpu, *pin->device()));
  return checker::CheckMemory(checkpoint, expected, params, copy.data(),
                              static_cast<int64_t>(copy.size()), sign_flips);
}

// Agents are taken one by one by as many threads as there are cores.
class ParallelCheck {
 public:
  ParallelCheck(int64_t agents,
                std::function<absl::StatusOr<int64_t>(int64_t)> check)
      : agents_(agents), check_(std::move(check)) {}

  absl::StatusOr<int64_t> Run(console::Progress& progress) {
    std::vector<std::thread> threads;
    const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
    for (unsigned i = 0; i < cores; ++i) {
      threads.emplace_back([&] { Work(progress); });
    }
    for (std::thread& thread : threads) thread.join();
    MutexLock lock(mutex_);
    if (!status_.ok()) return status_;
    return bytes_;
  }

 private:
  void Work(console::Progress& progress) {
    for (int64_t agent = next_++; agent < agents_; agent = next_++) {
      const absl::StatusOr<int64_t> checked = check_(agent);
      MutexLock lock(mutex_);
      status_.Update(checked.status());
      if (!status_.ok()) return;
      bytes_ += *checked;
      progress.Update(0, 0,
                      absl::StrCat(HumanBytes(bytes_), " compared, ", ++done_,
                                   " of ", agents_, " agents"));
    }
  }

  const int64_t agents_;
  const std::function<absl::StatusOr<int64_t>(int64_t)> check_;
  std::atomic<int64_t> next_ = 0;
  Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  int64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t done_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

absl::Status CheckPlacement(Session& session, const Placed& placed,
                            int sign_flips, OperationReport& report) {
  console::Progress progress(
      absl::StrCat("check of ", placed.name, " version ", report.version),
      session.options.quiet);
  SLUICE_ASSIGN_OR_RETURN(const checker::CheckpointBytes checkpoint,
                          checker::CheckpointBytes::Open(session.checkpoint));
  std::vector<Worker*> readers;
  for (int64_t i = 0; i < placed.mesh.size(); ++i) {
    SLUICE_ASSIGN_OR_RETURN(Worker * reader,
                            session.Reader(static_cast<int>(i)));
    readers.push_back(reader);
  }
  ParallelCheck check(placed.mesh.size(), [&](int64_t i) {
    absl::StatusOr<int64_t> checked =
        CheckAgent(session, *readers[static_cast<size_t>(i)], placed, i,
                   report.version, checkpoint, sign_flips);
    if (checked.ok()) return checked;
    return absl::StatusOr<int64_t>(
        Annotate(checked.status(), session.AgentName(static_cast<int>(i))));
  });
  SLUICE_ASSIGN_OR_RETURN(report.verified_bytes, check.Run(progress));
  report.verified = true;
  progress.Finish(absl::StrCat("all ", HumanBytes(report.verified_bytes),
                               " of ", placed.mesh.size(),
                               " agents are as they must be"));
  return absl::OkStatus();
}

}  // namespace sluice::quickstart
