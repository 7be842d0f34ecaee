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

constexpr uint8_t kPoison = 0xa5;
constexpr uint32_t kBlocksPerMultiprocessor = 8;

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

GpuRig::GpuRig(const GpuBenchOptions& options, uint32_t max_blocks,
               CudaStream stream, CudaEvent start, CudaEvent end,
               DeviceBuffer source, DeviceBuffer target, HostBytes source_bytes)
    : options_(options),
      max_blocks_(max_blocks),
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
      options,
      kBlocksPerMultiprocessor * static_cast<uint32_t>(info.multiprocessors),
      std::move(stream), std::move(start), std::move(end), std::move(source),
      std::move(target), std::move(bytes)));
}

absl::StatusOr<HostBytes> GpuRig::Download(int64_t bytes) const {
  HostBytes found(static_cast<size_t>(bytes));
  SLUICE_RETURN_IF_ERROR(target_.Download(found.data(), bytes, stream_));
  return found;
}

absl::Status GpuRig::Poison() const {
  return runtime().Fill(target_.data(), kPoison, target_.size(), stream());
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

// One case in turns with what it is compared with.
absl::StatusOr<GpuMeasurement> Measure(
    const GpuRig& rig, const GpuCase& test,
    const std::function<absl::Status()>& beside, int64_t beside_bytes) {
  GpuMeasurement result{.name = test.name,
                        .beside = test.beside_read ? "read pass" : "copy",
                        .goal = test.goal,
                        .bytes = test.bytes};
  std::vector<double> rates;
  std::vector<double> besides;
  std::vector<double> ratios;
  SLUICE_RETURN_IF_ERROR(rig.Poison());
  for (int64_t round = -1; round < rig.options().repeats; ++round) {
    SLUICE_ASSIGN_OR_RETURN(const double reference, rig.Time(beside));
    SLUICE_ASSIGN_OR_RETURN(const double seconds, rig.Time(test.launch));
    if (round < 0) continue;  // warms up
    rates.push_back(static_cast<double>(test.bytes) / seconds / 1e9);
    besides.push_back(static_cast<double>(beside_bytes) / reference / 1e9);
    ratios.push_back(rates.back() / besides.back());
  }
  // The copy beside it writes where the case does.
  SLUICE_RETURN_IF_ERROR(rig.Poison());
  SLUICE_RETURN_IF_ERROR(test.launch());
  SLUICE_RETURN_IF_ERROR(Annotate(test.verify(), test.name));
  result.gb_per_s = Median(rates);
  result.beside_gb_per_s = Median(besides);
  result.ratio = Median(ratios);
  return result;
}

}  // namespace

absl::StatusOr<std::vector<GpuMeasurement>> RunGpuCases(
    const GpuBenchOptions& options) {
  SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<GpuRig> rig,
                          GpuRig::Create(options));
  SLUICE_ASSIGN_OR_RETURN(
      const DeviceBuffer sum,
      DeviceBuffer::Create(*options.runtime, options.device, 8));
  const auto copy = [&] {
    return rig->runtime().Copy(rig->target().data(), rig->source().data(),
                               options.bytes, rig->stream());
  };
  const auto read = [&] {
    return rig->runtime().ReadPass(
        rig->source().data(), options.bytes,
        reinterpret_cast<unsigned long long*>(sum.data()), rig->max_blocks(),
        rig->stream());
  };
  std::vector<GpuCase> cases;
  SLUICE_RETURN_IF_ERROR(AddBoxCases(*rig, cases));
  SLUICE_RETURN_IF_ERROR(AddValueCases(*rig, cases));
  std::vector<GpuMeasurement> results;
  for (const GpuCase& test : cases) {
    SLUICE_ASSIGN_OR_RETURN(results.emplace_back(),
                            test.beside_read
                                ? Measure(*rig, test, read, options.bytes)
                                : Measure(*rig, test, copy, 2 * options.bytes));
  }
  return results;
}

}  // namespace sluice::bench
