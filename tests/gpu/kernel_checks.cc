// Copies and digests of boxes, hand-over between streams.

#include <cstddef>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "agent/copy/digest.h"
#include "agent/cuda/box_list.h"
#include "agent/cuda/cuda_device.h"
#include "agent/cuda/descriptors.h"
#include "agent/cuda/device_buffer.h"
#include "agent/cuda/handles.h"
#include "common/digest_value.h"
#include "common/status_macros.h"
#include "tests/gpu/check_tools.h"
#include "tests/gpu/checks.h"

namespace sluice::gpu_tests {
namespace {

using agent::cuda::BoxList;
using agent::cuda::CudaDevice;
using agent::cuda::CudaEvent;
using agent::cuda::CudaStream;
using agent::cuda::DeviceBuffer;
using agent::cuda::DigestSlot;
using agent::cuda::EventKind;

constexpr int kBoxes = 60;

// A box of three dimensions in two memories; offsets and strides in bytes.
struct TestBox {
  std::vector<int64_t> extents;
  int64_t src = 0;
  std::vector<int64_t> src_strides;
  int64_t dst = 0;
  std::vector<int64_t> dst_strides;
};

// Strides with some padding; returns the bytes the box takes.
int64_t PlaceBox(Bench& bench, const std::vector<int64_t>& extents,
                 int64_t element, std::vector<int64_t>& strides) {
  strides.assign(3, element);
  int64_t bytes = element;
  for (size_t d = 3; d-- > 0;) {
    strides[d] = bytes;
    bytes *= extents[d];
    if (bench.Below(3) == 0) bytes += element * bench.Below(9);
    if (bench.Below(3) == 0) bytes = (bytes + 15) / 16 * 16;
  }
  // Sometimes the two outer dimensions change places.
  if (bench.Below(4) == 0) {
    strides = {extents[2] * element, extents[0] * extents[2] * element,
               element};
    bytes = extents[0] * extents[1] * extents[2] * element;
  }
  return bytes;
}

std::vector<TestBox> RandomBoxes(Bench& bench, int64_t elements,
                                 int64_t element, int64_t& src_bytes,
                                 int64_t& dst_bytes) {
  std::vector<TestBox> boxes;
  src_bytes = 0;
  dst_bytes = 0;
  for (int i = 0; i < kBoxes; ++i) {
    TestBox box;
    const int64_t width = 1 + bench.Below(1500);
    const int64_t rows = 1 + bench.Below(elements / kBoxes / width + 1);
    box.extents = {1 + bench.Below(4), rows, width};
    src_bytes += element * bench.Below(17);
    dst_bytes += element * bench.Below(17);
    box.src = src_bytes;
    box.dst = dst_bytes;
    src_bytes += PlaceBox(bench, box.extents, element, box.src_strides);
    dst_bytes += PlaceBox(bench, box.extents, element, box.dst_strides);
    src_bytes = (src_bytes + element - 1) / element * element;
    dst_bytes = (dst_bytes + element - 1) / element * element;
    boxes.push_back(std::move(box));
  }
  return boxes;
}

// Calls visit(src offset, dst offset, index of the row) for rows of a box.
template <typename Visit>
void ForRows(const TestBox& box, const Visit& visit) {
  for (int64_t i = 0; i < box.extents[0]; ++i) {
    for (int64_t j = 0; j < box.extents[1]; ++j) {
      visit(box.src + i * box.src_strides[0] + j * box.src_strides[1],
            box.dst + i * box.dst_strides[0] + j * box.dst_strides[1],
            i * box.extents[1] + j);
    }
  }
}

absl::Status CopyOnce(Bench& bench, int64_t elements, int64_t element) {
  int64_t src_bytes = 0;
  int64_t dst_bytes = 0;
  const std::vector<TestBox> boxes =
      RandomBoxes(bench, elements, element, src_bytes, dst_bytes);
  const Bytes source = bench.RandomBytes(src_bytes);
  Bytes expected = bench.RandomBytes(dst_bytes);  // poison
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer src, bench.Upload(source));
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer dst, bench.Upload(expected));
  BoxList list = BoxList::ForCopies();
  for (const TestBox& box : boxes) {
    SLUICE_RETURN_IF_ERROR(
        list.Add({.extents = box.extents,
                  .src = src.address() + static_cast<uint64_t>(box.src),
                  .src_strides = box.src_strides,
                  .dst = dst.address() + static_cast<uint64_t>(box.dst),
                  .dst_strides = box.dst_strides,
                  .logical = 0,
                  .logical_strides = {}},
                 element));
    ForRows(box, [&](int64_t from, int64_t to, int64_t) {
      std::memcpy(expected.data() + to, source.data() + from,
                  static_cast<size_t>(box.extents[2] * element));
    });
  }
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer descriptors, bench.Upload(list));
  SLUICE_RETURN_IF_ERROR(bench.runtime().CopyBoxes(
      BatchOf(list, descriptors), bench.max_blocks(), bench.stream().get()));
  SLUICE_ASSIGN_OR_RETURN(const Bytes found, bench.Download(dst));
  return CheckEqual(expected, found,
                    absl::StrCat("boxes of elements of ", element, " bytes"));
}

absl::Status DigestOnce(Bench& bench, int64_t elements, int64_t element) {
  int64_t src_bytes = 0;
  int64_t unused = 0;
  const std::vector<TestBox> boxes =
      RandomBoxes(bench, elements, element, src_bytes, unused);
  const Bytes source = bench.RandomBytes(src_bytes);
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer src, bench.Upload(source));
  std::vector<Digest> expected(kBoxes);
  BoxList list = BoxList::ForDigests();
  for (uint32_t i = 0; i < kBoxes; ++i) {
    const TestBox& box = boxes[i];
    // The box lies somewhere in a tensor of longer rows, beyond 4 GiB.
    const int64_t row = (box.extents[2] + bench.Below(100)) * element;
    const int64_t first = (bench.Below(int64_t{1} << 33)) * element;
    const std::vector<int64_t> logical = {row * box.extents[1], row, element};
    SLUICE_RETURN_IF_ERROR(
        list.Add({.extents = box.extents,
                  .src = src.address() + static_cast<uint64_t>(box.src),
                  .src_strides = box.src_strides,
                  .dst = 0,
                  .dst_strides = {},
                  .logical = static_cast<uint64_t>(first),
                  .logical_strides = logical,
                  .slot = i},
                 element));
    ForRows(box, [&](int64_t from, int64_t, int64_t index) {
      expected[i] += agent::DigestRun(source.data() + from, first + index * row,
                                      box.extents[2] * element);
    });
  }
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer descriptors, bench.Upload(list));
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer sums,
                          bench.Upload(Bytes(kBoxes * sizeof(DigestSlot), 0)));
  SLUICE_RETURN_IF_ERROR(bench.runtime().DigestBoxes(
      BatchOf(list, descriptors), reinterpret_cast<DigestSlot*>(sums.data()),
      bench.max_blocks(), bench.stream().get()));
  std::vector<DigestSlot> found(kBoxes);
  SLUICE_RETURN_IF_ERROR(
      sums.Download(found.data(), sums.size(), bench.stream()));
  for (size_t i = 0; i < kBoxes; ++i) {
    if (!(Digest{found[i].lane0, found[i].lane1} == expected[i])) {
      return absl::DataLossError(
          absl::StrCat("digest of box ", i, " of elements of ", element,
                       " bytes differs from the host's"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckDevice(const Settings& settings) {
  SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<CudaDevice> device,
                          CudaDevice::Open(settings.runtime, settings.device));
  SLUICE_ASSIGN_OR_RETURN(Bench bench, Bench::Create(settings));
  const Bytes data = bench.RandomBytes(settings.elements);
  SLUICE_ASSIGN_OR_RETURN(const auto arena,
                          device->AllocateArena(settings.elements, "check"));
  SLUICE_ASSIGN_OR_RETURN(const auto range, arena->Share());
  if (range.offset_bytes != 0 || range.size_bytes != settings.elements) {
    return absl::InternalError(absl::StrCat("an arena lies at byte ",
                                            range.offset_bytes,
                                            " of its own allocation"));
  }
  const absl::Status own = device->AdoptRange(range).status();
  if (!absl::IsInvalidArgument(own)) {
    return absl::InternalError(absl::StrCat(
        "a process that adopts its own memory: expected INVALID_ARGUMENT, "
        "found ",
        own.ToString()));
  }
  Bytes back(data.size());
  const auto stream = bench.stream().get();
  SLUICE_RETURN_IF_ERROR(bench.runtime().Copy(arena->data(), data.data(),
                                              settings.elements, stream));
  SLUICE_RETURN_IF_ERROR(bench.runtime().Copy(back.data(), arena->data(),
                                              settings.elements, stream));
  SLUICE_RETURN_IF_ERROR(bench.runtime().Synchronize(stream));
  return CheckEqual(data, back, "an arena");
}

absl::Status CheckCopies(const Settings& settings) {
  SLUICE_ASSIGN_OR_RETURN(Bench bench, Bench::Create(settings));
  for (int round = 0; round < 3; ++round) {
    for (const int64_t element : {1, 2, 4, 8}) {
      SLUICE_RETURN_IF_ERROR(CopyOnce(bench, settings.elements, element));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckDigests(const Settings& settings) {
  SLUICE_ASSIGN_OR_RETURN(Bench bench, Bench::Create(settings));
  for (int round = 0; round < 3; ++round) {
    for (const int64_t element : {1, 2, 4, 8}) {
      SLUICE_RETURN_IF_ERROR(DigestOnce(bench, settings.elements, element));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckHandOver(const Settings& settings) {
  SLUICE_ASSIGN_OR_RETURN(Bench bench, Bench::Create(settings));
  auto& runtime = bench.runtime();
  SLUICE_ASSIGN_OR_RETURN(CudaStream writer,
                          CudaStream::Create(runtime, settings.device));
  SLUICE_ASSIGN_OR_RETURN(
      const CudaEvent written,
      CudaEvent::Create(runtime, settings.device, EventKind::kPlain));
  const Bytes before = bench.RandomBytes(settings.elements);
  const Bytes after(before.size(), 0x5a);
  for (int round = 0; round < 3; ++round) {
    SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer shared, bench.Upload(before));
    SLUICE_RETURN_IF_ERROR(
        runtime.Delay(settings.delay_nanoseconds, writer.get()));
    SLUICE_RETURN_IF_ERROR(
        runtime.Fill(shared.data(), 0x5a, shared.size(), writer.get()));
    SLUICE_RETURN_IF_ERROR(written.Record(writer));
    SLUICE_RETURN_IF_ERROR(written.HoldBack(bench.stream()));
    SLUICE_ASSIGN_OR_RETURN(const Bytes read, bench.Download(shared));
    SLUICE_RETURN_IF_ERROR(CheckEqual(after, read, "memory handed over"));
  }
  return absl::OkStatus();
}

const std::vector<Check>& LocalChecks() {
  static const std::vector<Check>* const checks = new std::vector<Check>{
      {"device and arenas", &CheckDevice},
      {"copies of boxes", &CheckCopies, true},
      {"digests of boxes", &CheckDigests, true},
      {"casts", &CheckCasts, true},
      {"blends", &CheckBlends, true},
      {"fp8 with block scales", &CheckQuantised, true},
      {"pinned memory of the host", &CheckPinned, true},
      {"hand-over between streams", &CheckHandOver},
  };
  return *checks;
}

}  // namespace sluice::gpu_tests
