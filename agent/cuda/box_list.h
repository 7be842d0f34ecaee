#ifndef SLUICE_AGENT_CUDA_BOX_LIST_H_
#define SLUICE_AGENT_CUDA_BOX_LIST_H_

// Lists of boxes for one kernel launch, made from strided places: dimensions
// that continue each other are joined, the widest access that alignment allows
// is chosen (16 bytes at most), unaligned ends of long rows become boxes of
// their own, and what is too large for a descriptor is cut.
//
// Not thread-safe.

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "agent/cuda/descriptors.h"

namespace sluice::agent::cuda {

// A box between two memories. Strides are in bytes, one for each dimension, and
// may be negative; addresses are those of its first element.
struct BoxPlace {
  absl::Span<const int64_t> extents;
  uint64_t src = 0;
  absl::Span<const int64_t> src_strides;
  uint64_t dst = 0;  // copies, casts, blends
  absl::Span<const int64_t> dst_strides;
  uint64_t logical = 0;  // digests: the first element's offset in its tensor
  absl::Span<const int64_t> logical_strides;
  uint32_t slot = 0;  // digests: where the sum goes
};

class BoxList {
 public:
  // Boxes of elements of 1, 2, 4 or 8 bytes that are copied.
  static BoxList ForCopies() { return BoxList(Work::kCopy); }
  // Boxes that are cast or blended.
  static BoxList ForElements() { return BoxList(Work::kElements); }
  // Boxes whose digest is made; nothing is written.
  static BoxList ForDigests() { return BoxList(Work::kDigest); }

  // Adds a box of elements of these sizes; an empty box adds nothing.
  // Errors: INVALID_ARGUMENT - the numbers of dimensions disagree, an extent is
  // negative, an element's size is not 1, 2, 4 or 8 (of copies and digests:
  // the two differ), or an address is not a multiple of its element's size;
  // RESOURCE_EXHAUSTED - more boxes or tiles than a launch can have.
  absl::Status Add(const BoxPlace& place, int64_t src_element,
                   int64_t dst_element);
  absl::Status Add(const BoxPlace& place, int64_t element) {
    return Add(place, element, element);
  }

  const std::vector<BoxDescriptor>& boxes() const { return boxes_; }
  uint32_t tiles() const { return tiles_; }
  // The list with its boxes at `boxes`: a copy of them the kernel can read.
  BoxBatch Batch(const BoxDescriptor* boxes) const {
    return {boxes, static_cast<uint32_t>(boxes_.size()), tiles_};
  }

 private:
  enum class Work { kCopy, kElements, kDigest };
  struct Dim {
    int64_t count = 1;
    int64_t src = 0;
    int64_t dst = 0;
    int64_t logical = 0;
  };
  // A box on its way to a descriptor: loops, outermost first, around runs.
  struct Draft {
    uint64_t src = 0;
    uint64_t dst = 0;
    uint64_t logical = 0;
    uint32_t slot = 0;
    int64_t src_element = 1;
    int64_t dst_element = 1;
    int64_t run = 1;  // elements
    std::vector<Dim> dims;
  };

  explicit BoxList(Work work) : work_(work) {}

  absl::Status Check(const BoxPlace& place, int64_t src_element,
                     int64_t dst_element) const;
  // The second address that must be aligned together with the source's.
  uint64_t Partner(const Draft& draft) const;
  int64_t PartnerStride(const Dim& dim) const;
  // Appends the box's loops, without those of one step, outermost first;
  // returns its number of elements: of 0 nothing is appended that counts.
  absl::StatusOr<int64_t> DimsOf(const BoxPlace& place,
                                 std::vector<Dim>& dims) const;
  // Makes one run of what lies together, and one loop of two where that is the
  // same.
  void Join(const std::vector<Dim>& dims, Draft& draft) const;
  // log2 of the elements that one access can take.
  int UnitLog2(const Draft& draft) const;
  absl::Status AddDraft(const Draft& draft);
  // Adds the unaligned ends of the runs apart from their middle; false if that
  // would gain nothing.
  bool SplitEnds(const Draft& draft, absl::Status& status);
  absl::Status AddPart(const Draft& draft, int64_t lo, int64_t hi);
  absl::Status AddCut(const Draft& draft, int unit_log2);
  absl::Status Append(const Draft& draft, int unit_log2);

  const Work work_;
  std::vector<BoxDescriptor> boxes_;
  uint32_t tiles_ = 0;
};

}  // namespace sluice::agent::cuda

#endif  // SLUICE_AGENT_CUDA_BOX_LIST_H_
