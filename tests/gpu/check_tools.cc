#include "tests/gpu/check_tools.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/copy/cast_kernels.h"
#include "agent/copy/copy_kernels.h"
#include "agent/cuda/element_types.h"
#include "common/dtype.h"
#include "common/status_macros.h"

namespace sluice::gpu_tests {

using agent::cuda::BoxBatch;
using agent::cuda::BoxDescriptor;
using agent::cuda::BoxList;
using agent::cuda::CudaStream;
using agent::cuda::DeviceBuffer;
using agent::cuda::DTypeOf;
using agent::cuda::Element;

absl::StatusOr<Bench> Bench::Create(const Settings& settings) {
  SLUICE_ASSIGN_OR_RETURN(const agent::cuda::DeviceInfo info,
                          settings.runtime->Describe(settings.device));
  SLUICE_ASSIGN_OR_RETURN(
      CudaStream stream,
      CudaStream::Create(*settings.runtime, settings.device));
  return Bench(settings, std::move(stream),
               static_cast<uint32_t>(8 * info.multiprocessors));
}

Bytes Bench::RandomBytes(int64_t size) {
  Bytes bytes(static_cast<size_t>(size));
  size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) {
    const uint64_t word = random_();
    std::memcpy(bytes.data() + at, &word, 8);
  }
  for (; at < bytes.size(); ++at) bytes[at] = static_cast<uint8_t>(random_());
  return bytes;
}

Bytes Bench::RandomElements(Element element, int64_t count) {
  const auto bytes = static_cast<size_t>(ByteSize(DTypeOf(element)));
  Bytes memory = RandomBytes(count * static_cast<int64_t>(bytes));
  for (size_t at = 0; at < memory.size(); at += bytes) {
    const uint64_t kind = random_() % 16;
    uint8_t& top = memory[at + bytes - 1];
    if (kind == 0) top = static_cast<uint8_t>(0x7f | (top & 0x80));
    if (kind == 1) top &= 0x80;
    if (kind == 2) std::fill_n(memory.begin() + ptrdiff_t(at), bytes, 0);
    if (kind > 7) {
      // An exponent near that of 0.05.
      const uint8_t exponent = element == Element::kF16   ? 0x2a
                               : element == Element::kF64 ? 0x3f
                                                          : 0x3d;
      top = static_cast<uint8_t>(exponent | (top & 0x80));
    }
  }
  return memory;
}

absl::StatusOr<Bytes> Bench::Download(const DeviceBuffer& buffer) {
  Bytes bytes(static_cast<size_t>(buffer.size()));
  SLUICE_RETURN_IF_ERROR(buffer.Download(bytes.data(), buffer.size(), stream_));
  return bytes;
}

BoxBatch BatchOf(const BoxList& list, const DeviceBuffer& boxes) {
  return list.Batch(reinterpret_cast<const BoxDescriptor*>(boxes.data()));
}

double ToDouble(Element element, const uint8_t* at) {
  double value;
  if (element == Element::kF64) {
    std::memcpy(&value, at, 8);
    return value;
  }
  const auto widen = agent::copy_internal::FindCast(
      agent::copy_internal::Isa::kPortable, DTypeOf(element), DType::kF64);
  widen(1, reinterpret_cast<const std::byte*>(at), 8,
        reinterpret_cast<std::byte*>(&value), 8);
  return value;
}

void FromDouble(Element element, double value, uint8_t* at) {
  if (element == Element::kF64) {
    std::memcpy(at, &value, 8);
    return;
  }
  const auto narrow = agent::copy_internal::FindCast(
      agent::copy_internal::Isa::kPortable, DType::kF64, DTypeOf(element));
  narrow(1, reinterpret_cast<const std::byte*>(&value), 8,
         reinterpret_cast<std::byte*>(at), 8);
}

absl::Status CheckEqual(const Bytes& expected, const Bytes& found,
                        absl::string_view what) {
  if (expected == found) return absl::OkStatus();
  if (expected.size() != found.size()) {
    return absl::DataLossError(absl::StrCat(
        what, ": expected ", expected.size(), " bytes, found ", found.size()));
  }
  size_t first = 0;
  while (expected[first] == found[first]) ++first;
  size_t differ = 0;
  for (size_t i = first; i < found.size(); ++i) {
    if (expected[i] != found[i]) ++differ;
  }
  return absl::DataLossError(absl::StrCat(
      what, ": ", differ, " of ", found.size(), " bytes differ, the first is ",
      first, ": expected ", static_cast<int>(expected[first]), ", found ",
      static_cast<int>(found[first])));
}

}  // namespace sluice::gpu_tests
