#include "bench/gpu_rig.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <utility>

#include "common/status_macros.h"

namespace sluice::bench {
namespace {

using agent::cuda::BoxBatch;
using agent::cuda::BoxDescriptor;
using agent::cuda::CudaEvent;
using agent::cuda::CudaStream;
using agent::cuda::DeviceBuffer;
using agent::cuda::EventKind;

// Of 256 threads; more find no room on a multiprocessor.
constexpr int64_t kMostBlocks = 8;

HostBytes RandomBytes(int64_t size) {
  HostBytes bytes(static_cast<size_t>(size));
  std::mt19937_64 random(1);
  for (size_t at = 0; at + 8 <= bytes.size(); at += 8) {
    const uint64_t word = random();
    std::memcpy(bytes.data() + at, &word, 8);
  }
  return bytes;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

GpuRig::GpuRig(const GpuBenchOptions& options, int64_t multiprocessors,
               CudaStream stream, CudaEvent start, CudaEvent end,
               DeviceBuffer source, DeviceBuffer target, HostBytes source_bytes)
    : options_(options),
      multiprocessors_(multiprocessors),
      stream_(std::move(stream)),
      start_(std::move(start)),
      end_(std::move(end)),
      source_(std::move(source)),
      target_(std::move(target)),
      source_bytes_(std::move(source_bytes)) {}

absl::StatusOr<std::unique_ptr<GpuRig>> GpuRig::Create(
    const GpuBenchOptions& options) {
  auto& runtime = *options.runtime;
  SLUICE_ASSIGN_OR_RETURN(const auto info, runtime.Describe(options.device));
  SLUICE_ASSIGN_OR_RETURN(CudaStream stream,
                          CudaStream::Create(runtime, options.device));
  SLUICE_ASSIGN_OR_RETURN(
      CudaEvent start,
      CudaEvent::Create(runtime, options.device, EventKind::kTimed));
  SLUICE_ASSIGN_OR_RETURN(
      CudaEvent end,
      CudaEvent::Create(runtime, options.device, EventKind::kTimed));
  HostBytes bytes = RandomBytes(options.bytes);
  SLUICE_ASSIGN_OR_RETURN(
      DeviceBuffer source,
      agent::cuda::UploadAll(runtime, options.device, bytes, stream));
  SLUICE_ASSIGN_OR_RETURN(
      DeviceBuffer target,
      DeviceBuffer::Create(runtime, options.device, 2 * options.bytes));
  return std::unique_ptr<GpuRig>(new GpuRig(
      options, info.multiprocessors, std::move(stream), std::move(start),
      std::move(end), std::move(source), std::move(target), std::move(bytes)));
}

uint32_t GpuRig::most_blocks() const {
  return static_cast<uint32_t>(kMostBlocks * multiprocessors_);
}

void GpuRig::UseBlocks(int64_t for_each_multiprocessor) {
  max_blocks_ =
      static_cast<uint32_t>(for_each_multiprocessor * multiprocessors_);
}

absl::StatusOr<HostBytes> GpuRig::Download(int64_t bytes) const {
  HostBytes found(static_cast<size_t>(bytes));
  SLUICE_RETURN_IF_ERROR(target_.Download(found.data(), bytes, stream_));
  return found;
}

absl::Status GpuRig::Poison() const {
  return runtime().Fill(target_.data(), kPoison, target_.size(), stream());
}

absl::Status GpuRig::Works() const {
  SLUICE_RETURN_IF_ERROR(Poison());
  return runtime().Synchronize(stream());
}

absl::StatusOr<double> GpuRig::Time(
    const std::function<absl::Status()>& launch) const {
  SLUICE_RETURN_IF_ERROR(start_.Record(stream_));
  for (int64_t i = 0; i < options_.launches; ++i) {
    SLUICE_RETURN_IF_ERROR(launch());
  }
  SLUICE_RETURN_IF_ERROR(end_.Record(stream_));
  SLUICE_RETURN_IF_ERROR(runtime().Synchronize(stream()));
  SLUICE_ASSIGN_OR_RETURN(const double seconds,
                          runtime().ElapsedSeconds(start_.get(), end_.get()));
  return seconds / static_cast<double>(options_.launches);
}

absl::StatusOr<BoxBatch> GpuRig::Keep(const agent::cuda::BoxList& list) {
  SLUICE_ASSIGN_OR_RETURN(DeviceBuffer buffer,
                          agent::cuda::UploadAll(runtime(), options_.device,
                                                 list.boxes(), stream_));
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer* kept, Keep(std::move(buffer)));
  return list.Batch(reinterpret_cast<const BoxDescriptor*>(kept->data()));
}

absl::StatusOr<const DeviceBuffer*> GpuRig::Keep(DeviceBuffer buffer) {
  kept_.push_back(std::make_unique<DeviceBuffer>(std::move(buffer)));
  return kept_.back().get();
}

namespace {

// What a case is compared with, by GpuCase::beside_read.
struct Beside {
  const char* name;
  int64_t bytes;
  std::function<absl::Status()> launch;
};

// Rounds until the case has kept the GPU busy for long enough: clocks rise with
// work.
absl::Status WarmUp(const GpuRig& rig, const GpuCase& test,
                    const Beside& beside) {
  constexpr int kMostRounds = 1000;
  double spent = 0;
  for (int round = 0; round < kMostRounds; ++round) {
    SLUICE_ASSIGN_OR_RETURN(const double reference, rig.Time(beside.launch));
    SLUICE_ASSIGN_OR_RETURN(const double seconds, rig.Time(test.launch));
    spent +=
        (reference + seconds) * static_cast<double>(rig.options().launches);
    if (spent >= rig.options().warm_up_seconds) break;
  }
  return absl::OkStatus();
}

// One case in turns with what it is compared with.
absl::Status Measure(const GpuRig& rig, const GpuCase& test,
                     const Beside& beside, GpuMeasurement& result) {
  std::vector<double> rates;
  std::vector<double> besides;
  std::vector<double> ratios;
  SLUICE_RETURN_IF_ERROR(rig.Poison());
  SLUICE_RETURN_IF_ERROR(WarmUp(rig, test, beside));
  for (int64_t round = 0; round < rig.options().repeats; ++round) {
    SLUICE_ASSIGN_OR_RETURN(const double reference, rig.Time(beside.launch));
    SLUICE_ASSIGN_OR_RETURN(const double seconds, rig.Time(test.launch));
    rates.push_back(static_cast<double>(test.bytes) / seconds / 1e9);
    besides.push_back(static_cast<double>(beside.bytes) / reference / 1e9);
    ratios.push_back(rates.back() / besides.back());
  }
  // The copy beside it writes where the case does.
  SLUICE_RETURN_IF_ERROR(rig.Poison());
  SLUICE_RETURN_IF_ERROR(test.launch());
  SLUICE_RETURN_IF_ERROR(test.verify());
  result.bytes = test.bytes;
  result.gb_per_s = Median(rates);
  result.beside_gb_per_s = Median(besides);
  result.ratio = Median(ratios);
  return absl::OkStatus();
}

absl::Status RunCase(GpuRig& rig, const GpuCaseMaker& maker,
                     const Beside (&besides)[2], GpuMeasurement& result) {
  const auto& blocks = rig.options().blocks;
  rig.UseBlocks(maker.kernel ? result.blocks : blocks.front());
  SLUICE_ASSIGN_OR_RETURN(const GpuCase test, maker.make());
  const Beside& beside = besides[test.beside_read ? 1 : 0];
  result.beside = beside.name;
  const bool first = !maker.kernel || result.blocks == blocks.front();
  result.goal = first ? test.goal : 0;
  return Measure(rig, test, beside, result);
}

}  // namespace

absl::Status RunGpuCases(
    const GpuBenchOptions& options,
    const std::function<void(const GpuMeasurement&)>& each) {
  SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<GpuRig> rig,
                          GpuRig::Create(options));
  SLUICE_ASSIGN_OR_RETURN(
      const DeviceBuffer sum,
      DeviceBuffer::Create(*options.runtime, options.device, 8));
  const Beside besides[] = {
      {"copy", 2 * options.bytes,
       [&] {
         return rig->runtime().Copy(rig->target().data(), rig->source().data(),
                                    options.bytes, rig->stream());
       }},
      {"read pass", options.bytes, [&] {
         return rig->runtime().ReadPass(
             rig->source().data(), options.bytes,
             reinterpret_cast<unsigned long long*>(sum.data()),
             rig->most_blocks(), rig->stream());
       }}};
  std::vector<GpuCaseMaker> makers;
  AddBoxCases(*rig, makers);
  AddValueCases(*rig, makers);
  for (const GpuCaseMaker& maker : makers) {
    const std::vector<int64_t> once = {0};
    for (const int64_t blocks : maker.kernel ? options.blocks : once) {
      GpuMeasurement result;
      result.name = maker.name;
      result.blocks = blocks;
      result.status = RunCase(*rig, maker, besides, result);
      each(result);
      if (result.status.ok()) continue;
      SLUICE_RETURN_IF_ERROR(
          Annotate(rig->Works(), "the GPU takes no more work"));
    }
  }
  return absl::OkStatus();
}

}  // namespace sluice::bench
