#include "agent/cuda/box_list.h"

#include <algorithm>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "agent/cuda/kernel_math.h"
#include "common/status_macros.h"

namespace sluice::agent::cuda {
namespace {

constexpr size_t kMaxBoxes = size_t{1} << 24;
constexpr uint64_t kMaxTiles = uint64_t{1} << 31;
// Runs below this are not worth three boxes.
constexpr int64_t kSplitRunBytes = 128;
constexpr uint64_t kWidestAccess = 16;

bool IsElementSize(int64_t bytes) {
  return bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8;
}

int Log2(int64_t power) {
  int log2 = 0;
  while ((int64_t{1} << log2) < power) ++log2;
  return log2;
}

bool IsMultiple(int64_t value, int64_t of) { return value % of == 0; }
bool IsMultiple(uint64_t value, int64_t of) {
  return value % static_cast<uint64_t>(of) == 0;
}

}  // namespace

absl::Status BoxList::Check(const BoxPlace& place, int64_t src_element,
                            int64_t dst_element) const {
  const size_t rank = place.extents.size();
  const bool digests = work_ == Work::kDigest;
  const size_t partner =
      digests ? place.logical_strides.size() : place.dst_strides.size();
  if (place.src_strides.size() != rank || partner != rank) {
    return absl::InvalidArgumentError(
        absl::StrCat("box of ", rank, " dimensions with ",
                     place.src_strides.size(), " and ", partner, " strides"));
  }
  if (!IsElementSize(src_element) || !IsElementSize(dst_element) ||
      (work_ != Work::kElements && src_element != dst_element)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "box of elements of ", src_element, " and ", dst_element, " bytes"));
  }
  bool aligned = IsMultiple(place.src, src_element);
  aligned &= IsMultiple(digests ? place.logical : place.dst, dst_element);
  for (size_t d = 0; d < rank; ++d) {
    if (place.extents[d] < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("box with extent ", place.extents[d]));
    }
    aligned &= IsMultiple(place.src_strides[d], src_element);
    aligned &= IsMultiple(
        (digests ? place.logical_strides : place.dst_strides)[d], dst_element);
  }
  if (!aligned) {
    return absl::InvalidArgumentError(absl::StrCat(
        "box whose elements of ", src_element, " and ", dst_element,
        " bytes do not lie at multiples of their size"));
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> BoxList::DimsOf(const BoxPlace& place,
                                        std::vector<Dim>& dims) const {
  int64_t elements = 1;
  for (size_t d = 0; d < place.extents.size(); ++d) {
    const int64_t count = place.extents[d];
    if (count == 0) return 0;
    if (__builtin_mul_overflow(elements, count, &elements)) {
      return absl::InvalidArgumentError("box whose size overflows");
    }
    if (count == 1) continue;
    const bool digests = work_ == Work::kDigest;
    dims.push_back({count, place.src_strides[d],
                    digests ? 0 : place.dst_strides[d],
                    digests ? place.logical_strides[d] : 0});
  }
  // Any order gives the same bytes; neighbours in the source come together.
  std::stable_sort(dims.begin(), dims.end(), [](const Dim& a, const Dim& b) {
    return std::abs(a.src) > std::abs(b.src);
  });
  return elements;
}

void BoxList::Join(const std::vector<Dim>& dims, Draft& draft) const {
  for (auto dim = dims.rbegin(); dim != dims.rend(); ++dim) {
    const bool joins_run = draft.dims.empty() &&
                           dim->src == draft.run * draft.src_element &&
                           PartnerStride(*dim) == draft.run * draft.dst_element;
    if (joins_run) {
      draft.run *= dim->count;
      continue;
    }
    if (!draft.dims.empty()) {
      Dim& inner = draft.dims.back();
      if (dim->src == inner.src * inner.count &&
          PartnerStride(*dim) == PartnerStride(inner) * inner.count) {
        inner.count *= dim->count;
        continue;
      }
    }
    draft.dims.push_back(*dim);
  }
  std::reverse(draft.dims.begin(), draft.dims.end());
}

absl::Status BoxList::Add(const BoxPlace& place, int64_t src_element,
                          int64_t dst_element) {
  SLUICE_RETURN_IF_ERROR(Check(place, src_element, dst_element));
  std::vector<Dim> dims;
  SLUICE_ASSIGN_OR_RETURN(const int64_t elements, DimsOf(place, dims));
  if (elements == 0) return absl::OkStatus();
  // Digests are made of words.
  if (work_ == Work::kDigest && src_element == 8) {
    dims.push_back({2, 4, 0, 4});
    src_element = 4;
    dst_element = 4;
  }
  Draft draft{.src = place.src,
              .dst = place.dst,
              .logical = place.logical,
              .slot = place.slot,
              .src_element = src_element,
              .dst_element = dst_element,
              .run = 1,
              .dims = {}};
  Join(dims, draft);
  return AddDraft(draft);
}

uint64_t BoxList::Partner(const Draft& draft) const {
  return work_ == Work::kDigest ? draft.logical : draft.dst;
}

int64_t BoxList::PartnerStride(const Dim& dim) const {
  return work_ == Work::kDigest ? dim.logical : dim.dst;
}

int BoxList::UnitLog2(const Draft& draft) const {
  // Elements of an access; casts take 8 at most, in accesses of 16 bytes.
  int64_t most = 8;
  if (work_ != Work::kElements) {
    most = int64_t{kWidestAccess} / draft.src_element;
  }
  for (int64_t n = most; n > 1; n /= 2) {
    const int64_t src = std::min<int64_t>(kWidestAccess, n * draft.src_element);
    const int64_t dst = std::min<int64_t>(kWidestAccess, n * draft.dst_element);
    // Digests take words or four of them.
    if (work_ == Work::kDigest && src == 8) continue;
    bool fits = IsMultiple(draft.run, n) && IsMultiple(draft.src, src) &&
                IsMultiple(Partner(draft), dst);
    for (const Dim& dim : draft.dims) {
      fits = fits && IsMultiple(dim.src, src) &&
             IsMultiple(PartnerStride(dim), dst);
    }
    if (fits) return Log2(n);
  }
  return 0;
}

absl::Status BoxList::AddDraft(const Draft& draft) {
  absl::Status status;
  if (SplitEnds(draft, status)) return status;
  return AddCut(draft, UnitLog2(draft));
}

bool BoxList::SplitEnds(const Draft& draft, absl::Status& status) {
  const int64_t element = draft.src_element;
  if (work_ == Work::kElements || draft.run * element < kSplitRunBytes) {
    return false;
  }
  const int64_t unit = element << UnitLog2(draft);
  int64_t align = kWidestAccess;
  for (; align > unit; align /= 2) {
    if (work_ == Work::kDigest && align == 8) continue;
    bool fits = IsMultiple(draft.src - Partner(draft), align);
    for (const Dim& dim : draft.dims) {
      fits = fits && IsMultiple(dim.src, align) &&
             IsMultiple(PartnerStride(dim), align);
    }
    if (fits) break;
  }
  if (align <= unit) return false;
  const auto past = static_cast<int64_t>(draft.src % uint64_t(align));
  const int64_t head = past == 0 ? 0 : (align - past) / element;
  const int64_t width = align / element;
  const int64_t middle = (draft.run - head) / width * width;
  status = AddPart(draft, 0, head);
  if (status.ok()) status = AddPart(draft, head, head + middle);
  if (status.ok()) status = AddPart(draft, head + middle, draft.run);
  return true;
}

absl::Status BoxList::AddPart(const Draft& draft, int64_t lo, int64_t hi) {
  if (lo >= hi) return absl::OkStatus();
  Draft part = draft;
  part.run = hi - lo;
  part.src += static_cast<uint64_t>(lo * draft.src_element);
  part.dst += static_cast<uint64_t>(lo * draft.dst_element);
  part.logical += static_cast<uint64_t>(lo * draft.src_element);
  return AddCut(part, UnitLog2(part));
}

absl::Status BoxList::AddCut(const Draft& draft, int unit_log2) {
  int64_t units = draft.run >> unit_log2;
  for (const Dim& dim : draft.dims) units *= dim.count;
  const bool too_many_loops = draft.dims.size() > kMaxLoops;
  if (!too_many_loops && units <= kMaxBoxUnits) {
    return Append(draft, unit_log2);
  }
  if (boxes_.size() >= kMaxBoxes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("more than ", kMaxBoxes, " boxes for one launch"));
  }
  if (draft.dims.empty()) {
    const int64_t half = ((draft.run >> unit_log2) / 2) << unit_log2;
    SLUICE_RETURN_IF_ERROR(AddPart(draft, 0, half));
    return AddPart(draft, half, draft.run);
  }
  // Halves of the outermost loop, or each of its positions alone.
  const Dim& outer = draft.dims.front();
  Draft part = draft;
  const int64_t step = too_many_loops ? 1 : (outer.count + 1) / 2;
  for (int64_t at = 0; at < outer.count; at += step) {
    part.src = draft.src + static_cast<uint64_t>(at * outer.src);
    part.dst = draft.dst + static_cast<uint64_t>(at * outer.dst);
    part.logical = draft.logical + static_cast<uint64_t>(at * outer.logical);
    part.dims = draft.dims;
    part.dims.front().count = std::min(step, outer.count - at);
    if (part.dims.front().count == 1) part.dims.erase(part.dims.begin());
    SLUICE_RETURN_IF_ERROR(AddCut(part, unit_log2));
  }
  return absl::OkStatus();
}

absl::Status BoxList::Append(const Draft& draft, int unit_log2) {
  BoxDescriptor box;
  box.src = draft.src;
  box.dst = draft.dst;
  box.logical = draft.logical;
  box.slot = draft.slot;
  box.first_tile = tiles_;
  const int64_t run = draft.run >> unit_log2;
  int64_t units = run;
  box.run = MakeDivider(static_cast<uint32_t>(run));
  box.src_unit = static_cast<uint16_t>(draft.src_element << unit_log2);
  box.dst_unit = static_cast<uint16_t>(draft.dst_element << unit_log2);
  // Copies and digests count a unit in bytes, casts in elements.
  box.unit_log2 = static_cast<uint16_t>(
      unit_log2 + (work_ == Work::kElements ? 0 : Log2(draft.src_element)));
  box.num_loops = static_cast<uint16_t>(draft.dims.size());
  for (size_t l = 0; l < draft.dims.size(); ++l) {
    const Dim& dim = draft.dims[draft.dims.size() - 1 - l];
    box.loops[l] = {MakeDivider(static_cast<uint32_t>(dim.count)), dim.src,
                    dim.dst, dim.logical};
    units *= dim.count;
  }
  box.units = static_cast<uint32_t>(units);
  const uint32_t steps = work_ == Work::kDigest ? kDigestSteps : kCopySteps;
  const int64_t tile = int64_t{kBlockThreads} * steps;
  const uint64_t tiles =
      tiles_ + static_cast<uint64_t>((units + tile - 1) / tile);
  if (tiles > kMaxTiles || boxes_.size() >= kMaxBoxes) {
    return absl::ResourceExhaustedError(absl::StrCat("more than ", kMaxBoxes,
                                                     " boxes or ", kMaxTiles,
                                                     " tiles for one launch"));
  }
  tiles_ = static_cast<uint32_t>(tiles);
  boxes_.push_back(box);
  return absl::OkStatus();
}

}  // namespace sluice::agent::cuda
