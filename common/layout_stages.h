#ifndef SLUICE_COMMON_LAYOUT_STAGES_H_
#define SLUICE_COMMON_LAYOUT_STAGES_H_

// How layers are dealt over pipeline stages: even, listed, or in chunks that go
// round the stages. Internal to the layout library.

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "common/box.h"
#include "common/layout.h"

namespace sluice {

// Where a layer is.
struct LayerPlace {
  int64_t stage = 0;
  int64_t layer = 0;        // among the stage's
  int64_t chunk = 0;        // among the stage's chunks
  int64_t chunk_layer = 0;  // in the chunk
};

class StageDeal {
 public:
  StageDeal() = default;
  // Deals layers [0, num_layers) over `num_stages` by the layout's
  // stage_layers or chunk_layers.
  // Errors: INVALID_ARGUMENT - layers per stage that do not sum up, or with
  // chunk_layers, or too many chunks.
  static absl::StatusOr<StageDeal> Create(const Layout& layout,
                                          int64_t num_layers,
                                          int64_t num_stages);

  int64_t num_stages() const { return num_stages_; }
  // `layer` is one of those dealt.
  LayerPlace PlaceOf(int64_t layer) const;

 private:
  int64_t num_stages_ = 1;
  std::vector<Interval> chunks_;        // chunk c is on stage c % num_stages
  std::vector<int64_t> layers_before_;  // on its stage, per chunk
};

}  // namespace sluice

#endif  // SLUICE_COMMON_LAYOUT_STAGES_H_
