#include "common/layout_stages.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/layout_deal.h"
#include "common/status_macros.h"

namespace sluice {
namespace {

constexpr int64_t kMaxChunks = int64_t{1} << 20;

absl::StatusOr<std::vector<Interval>> DealChunks(const Layout& layout,
                                                 int64_t num_layers,
                                                 int64_t num_stages) {
  if (layout.chunk_layers != 0) {
    const int64_t chunk = layout.chunk_layers;
    if (chunk < 0 || !layout.stage_layers.empty() ||
        num_layers / std::max<int64_t>(chunk, 1) > kMaxChunks) {
      return absl::InvalidArgumentError(
          absl::StrCat("chunk_layers ", chunk,
                       ": expected above 0, without stage_layers, for at most ",
                       kMaxChunks, " chunks of ", num_layers, " layers"));
    }
    std::vector<Interval> chunks;
    for (int64_t lo = 0; lo < num_layers; lo += chunk) {
      chunks.push_back({lo, std::min(num_layers, lo + chunk)});
    }
    return chunks;
  }
  DimSplit split;
  split.sizes = layout.stage_layers;
  const auto listed = static_cast<int64_t>(split.sizes.size());
  const bool rounds = listed > 0 && listed % num_stages == 0;
  SLUICE_ASSIGN_OR_RETURN(
      DimDeal deal, DealDim(split, num_layers, rounds ? listed : num_stages));
  return std::move(deal.held);
}

}  // namespace

absl::StatusOr<StageDeal> StageDeal::Create(const Layout& layout,
                                            int64_t num_layers,
                                            int64_t num_stages) {
  StageDeal out;
  out.num_stages_ = num_stages;
  absl::StatusOr<std::vector<Interval>> chunks =
      DealChunks(layout, num_layers, num_stages);
  if (!chunks.ok()) {
    return Annotate(chunks.status(),
                    absl::StrCat("layout \"", layout.name,
                                 "\", layers over stages (as dimension 0)"));
  }
  out.chunks_ = *std::move(chunks);
  const auto stages = static_cast<size_t>(num_stages);
  for (size_t c = 0; c < out.chunks_.size(); ++c) {
    out.layers_before_.push_back(c < stages
                                     ? 0
                                     : out.layers_before_[c - stages] +
                                           out.chunks_[c - stages].size());
  }
  return out;
}

LayerPlace StageDeal::PlaceOf(int64_t layer) const {
  const auto it = std::partition_point(
      chunks_.begin(), chunks_.end(),
      [layer](const Interval& chunk) { return chunk.hi <= layer; });
  if (it == chunks_.end()) return {};
  const auto c = it - chunks_.begin();
  LayerPlace place;
  place.stage = c % num_stages_;
  place.chunk = c / num_stages_;
  place.chunk_layer = layer - it->lo;
  place.layer = layers_before_[static_cast<size_t>(c)] + place.chunk_layer;
  return place;
}

}  // namespace sluice
