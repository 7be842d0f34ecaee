#include "agent/copy/box_loops.h"

namespace sluice::agent::copy_internal {

Loops Collapse(const std::vector<LoopDim>& dims, int64_t element_bytes,
               Joint joint) {
  // Whether `outer` continues what `n` positions of `inner`'s strides cover.
  const auto continues = [&joint](const LoopDim& outer, const LoopDim& inner,
                                  int64_t n) {
    return (!joint.logical || outer.logical == inner.logical * n) &&
           (!joint.src || outer.src == inner.src * n) &&
           (!joint.dst || outer.dst == inner.dst * n);
  };
  const LoopDim byte{.count = 1, .logical = 1, .src = 1, .dst = 1};
  Loops loops{.dims = {}, .run_bytes = element_bytes};
  std::vector<LoopDim> reversed;
  for (auto dim = dims.rbegin(); dim != dims.rend(); ++dim) {
    if (dim->count == 1) continue;
    if (reversed.empty() && continues(*dim, byte, loops.run_bytes)) {
      loops.run_bytes *= dim->count;
    } else if (!reversed.empty() &&
               continues(*dim, reversed.back(), reversed.back().count)) {
      reversed.back().count *= dim->count;
    } else {
      reversed.push_back(*dim);
    }
  }
  if (reversed.empty()) reversed.push_back(LoopDim{});
  loops.dims.assign(reversed.rbegin(), reversed.rend());
  return loops;
}

}  // namespace sluice::agent::copy_internal
