// Memory of the host that the GPU reaches: an agent's arenas, and what workers
// lend.

#include <cstddef>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "agent/cuda/box_list.h"
#include "agent/cuda/device_buffer.h"
#include "agent/cuda/pinned_host_device.h"
#include "agent/device/mapped_memory.h"
#include "agent/device/memory_file.h"
#include "agent/device/unique_fd.h"
#include "common/status_macros.h"
#include "tests/gpu/check_tools.h"
#include "tests/gpu/checks.h"

namespace sluice::gpu_tests {
namespace {

using agent::MappedMemory;
using agent::UniqueFd;
using agent::cuda::BoxList;
using agent::cuda::DeviceBuffer;

// Of each row of the memory, too short for a copy engine to be worth it.
constexpr int64_t kRow = 128;
constexpr int64_t kCut = 100;

Bytes Found(const MappedMemory& memory) {
  Bytes out(static_cast<size_t>(memory.size()));
  std::memcpy(out.data(), memory.data(), out.size());
  return out;
}

// A kernel reads rows where they lie on the host; a copy engine writes there.
absl::Status CopyBothWays(Bench& bench, const MappedMemory& memory,
                          absl::string_view what) {
  if (memory.space() != agent::MemorySpace::kPinned) {
    return absl::InternalError(absl::StrCat(what, " is not pinned"));
  }
  const Bytes source = bench.RandomBytes(memory.size());
  std::memcpy(memory.data(), source.data(), source.size());
  const int64_t rows = memory.size() / kRow;
  Bytes packed = bench.RandomBytes(rows * kCut);
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer buffer, bench.Upload(packed));
  const std::vector<int64_t> extents = {rows, kCut};
  const std::vector<int64_t> apart = {kRow, 1};
  const std::vector<int64_t> close = {kCut, 1};
  BoxList list = BoxList::ForCopies();
  SLUICE_RETURN_IF_ERROR(
      list.Add({.extents = extents,
                .src = reinterpret_cast<uintptr_t>(memory.data()),
                .src_strides = apart,
                .dst = buffer.address(),
                .dst_strides = close,
                .logical = 0,
                .logical_strides = {}},
               1));
  for (int64_t i = 0; i < rows; ++i) {
    std::memcpy(packed.data() + i * kCut, source.data() + i * kRow,
                static_cast<size_t>(kCut));
  }
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer descriptors, bench.Upload(list));
  SLUICE_RETURN_IF_ERROR(bench.runtime().CopyBoxes(
      BatchOf(list, descriptors), bench.max_blocks(), bench.stream().get()));
  SLUICE_ASSIGN_OR_RETURN(const Bytes read, bench.Download(buffer));
  SLUICE_RETURN_IF_ERROR(
      CheckEqual(packed, read, absl::StrCat("rows of ", what)));
  const Bytes next = bench.RandomBytes(memory.size());
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer from, bench.Upload(next));
  SLUICE_RETURN_IF_ERROR(bench.runtime().Copy(
      memory.data(), from.data(), memory.size(), bench.stream().get()));
  SLUICE_RETURN_IF_ERROR(bench.runtime().Synchronize(bench.stream().get()));
  return CheckEqual(next, Found(memory), what);
}

}  // namespace

absl::Status CheckPinned(const Settings& settings) {
  SLUICE_ASSIGN_OR_RETURN(Bench bench, Bench::Create(settings));
  agent::cuda::PinnedHostDevice device(settings.runtime, settings.device);
  SLUICE_ASSIGN_OR_RETURN(const auto arena,
                          device.Allocate(settings.elements, "check"));
  SLUICE_RETURN_IF_ERROR(CopyBothWays(bench, *arena, "a pinned arena"));
  SLUICE_ASSIGN_OR_RETURN(UniqueFd file,
                          agent::CreateMemoryFile(settings.elements, "lent"));
  SLUICE_ASSIGN_OR_RETURN(UniqueFd handed, agent::Duplicate(file.get()));
  SLUICE_ASSIGN_OR_RETURN(
      const auto worker,
      agent::MapMemoryFile(std::move(file), settings.elements,
                           agent::Access::kReadWrite));
  SLUICE_ASSIGN_OR_RETURN(const auto lent, device.Adopt(std::move(handed)));
  SLUICE_RETURN_IF_ERROR(CopyBothWays(bench, *lent, "memory that is lent"));
  return CheckEqual(Found(*lent), Found(*worker), "what the lender sees");
}

}  // namespace sluice::gpu_tests
