#ifndef SLUICE_AGENT_COPY_BOX_LOOPS_H_
#define SLUICE_AGENT_COPY_BOX_LOOPS_H_

// A box as loops around contiguous runs of bytes, and walks over a range of its
// sequence (see box_copy.h) run by run.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace sluice::agent::copy_internal {

// A loop over `count` positions, and the byte distance of neighbours in each
// space.
struct LoopDim {
  int64_t count = 1;
  int64_t logical = 0;
  int64_t src = 0;
  int64_t dst = 0;
};

// Loops from the outermost to the innermost, around contiguous runs. Their
// product times run_bytes is the sequence's size.
struct Loops {
  std::vector<LoopDim> dims;
  int64_t run_bytes = 0;
};

// Which spaces must be contiguous (or equally strided) for loops to be joined.
struct Joint {
  bool logical = false;
  bool src = false;
  bool dst = false;
};

// Returns the fewest loops over `dims`, around runs of at least an element,
// whose size is that in the joint spaces.
Loops Collapse(const std::vector<LoopDim>& dims, int64_t element_bytes,
               Joint joint);

// Cuts a range of the sequence into batches of rows.
class LoopWalker {
 public:
  // `count` rows of `bytes`; offsets are of the first, from the box's first
  // element (`sequence`: from the sequence's first byte).
  struct Batch {
    int64_t sequence = 0;
    LoopDim offset;  // its count is unused
    LoopDim stride;
    int64_t count = 0;
    int64_t bytes = 0;
  };

  // Calls visit(Batch) for the bytes [lo, hi), in order.
  template <typename Visit>
  static void Walk(const Loops& loops, int64_t lo, int64_t hi, Visit visit) {
    LoopWalker walker(loops, lo);
    int64_t at = lo;
    const int64_t run = loops.run_bytes;
    while (at < hi) {
      Batch batch{.sequence = at,
                  .offset = walker.offset_,
                  .stride = loops.dims.back(),
                  .count = 1,
                  .bytes = 0};
      const int64_t inside = at % run;
      if (inside != 0 || hi - at < run) {  // a part of one run
        batch.bytes = std::min(run - inside, hi - at);
        batch.offset.logical += inside;
        batch.offset.src += inside;
        batch.offset.dst += inside;
        if (inside + batch.bytes == run) walker.Skip(1);
      } else {
        batch.count = std::min(walker.LeftInLine(), (hi - at) / run);
        batch.bytes = run;
        walker.Skip(batch.count);
      }
      visit(static_cast<const Batch&>(batch));
      at += batch.count * batch.bytes;
    }
  }

  // Offset of byte `lo` in one space, where [lo, hi) lies in one run.
  static std::optional<int64_t> RunOffset(const Loops& loops, int64_t lo,
                                          int64_t hi, int64_t LoopDim::*space) {
    if (loops.run_bytes == 0) return 0;
    if (lo / loops.run_bytes != (std::max(hi, lo + 1) - 1) / loops.run_bytes) {
      return std::nullopt;
    }
    return LoopWalker(loops, lo).offset_.*space + lo % loops.run_bytes;
  }

 private:
  LoopWalker(const Loops& loops, int64_t lo) : loops_(loops) {
    index_.resize(loops.dims.size());
    int64_t run = lo / loops.run_bytes;
    for (size_t d = loops.dims.size(); d-- > 0;) {
      const LoopDim& dim = loops.dims[d];
      index_[d] = run % dim.count;
      run /= dim.count;
      Move(dim, index_[d]);
    }
  }

  void Move(const LoopDim& dim, int64_t n) {
    offset_.logical += dim.logical * n;
    offset_.src += dim.src * n;
    offset_.dst += dim.dst * n;
  }

  int64_t LeftInLine() const {
    return loops_.dims.back().count - index_.back();
  }

  // Goes `n` <= LeftInLine() runs on.
  void Skip(int64_t n) {
    size_t d = loops_.dims.size() - 1;
    index_[d] += n;
    Move(loops_.dims[d], n);
    while (index_[d] == loops_.dims[d].count && d > 0) {
      Move(loops_.dims[d], -index_[d]);
      index_[d] = 0;
      --d;
      ++index_[d];
      Move(loops_.dims[d], 1);
    }
  }

  const Loops& loops_;
  std::vector<int64_t> index_;
  LoopDim offset_;  // of run `index_`, from the box's first element
};

}  // namespace sluice::agent::copy_internal

#endif  // SLUICE_AGENT_COPY_BOX_LOOPS_H_
