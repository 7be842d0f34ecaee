#ifndef SLUICE_COMMON_LAYOUT_RESOLVE_H_
#define SLUICE_COMMON_LAYOUT_RESOLVE_H_

// A layout's rules applied to a model and a mesh once, so that what each agent
// holds follows per class of equal tensors instead of per tensor. Internal to
// the layout library: see common/layout.h for what is computed.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/layout.h"
#include "common/layout_deal.h"
#include "common/layout_pattern.h"
#include "common/mesh.h"
#include "common/model.h"

namespace sluice {

// Tensors of one rule, shape, dtype and (by layer) stage.
struct ResolvedClass {
  const LayoutRule* rule = nullptr;
  Shape shape;
  DType dtype = DType::kUnspecified;
  int64_t stage = -1;  // -1: not by layer
  std::vector<TensorIndex> tensors;
  // Per logical dimension: how it is dealt; nullopt = replicated.
  std::vector<std::optional<DimDeal>> deals;
  // positions[dim][mesh_index] of the dealt dimensions; shared by all classes.
  std::vector<const std::vector<int64_t>*> positions;

  // Returns what a mesh index holds of dimension d, and its local extent.
  Interval Held(int d, int64_t mesh_index) const;
  int64_t LocalExtent(int d, int64_t mesh_index) const;
  // Returns the box; nullopt if it holds nothing (stages not considered).
  std::optional<Box> BoxOn(int64_t mesh_index) const;
};

// Local parameters of one stage that are built alike: the members of each are
// of the same classes, in fuse order.
struct ParamPattern {
  std::vector<int32_t> classes;
  struct Instance {
    std::string name;
    std::vector<TensorIndex> members;  // one per class above
  };
  std::vector<Instance> instances;
};

// How a pattern looks on one mesh index.
struct ParamShape {
  struct MemberView {
    size_t member = 0;
    Box box;
    int64_t offset = 0;
    std::vector<int64_t> strides;
  };
  DType dtype = DType::kUnspecified;
  Shape shape;
  std::vector<MemberView> views;
};

class ResolvedLayout {
 public:
  // `model`, `layout` and `mesh` must outlive the result; `layout` has no
  // explicit ranks. Errors: as ExpandLayout.
  static absl::StatusOr<ResolvedLayout> Create(const ModelSpec& model,
                                               const Layout& layout,
                                               const Mesh& mesh);

  const std::vector<ResolvedClass>& classes() const { return classes_; }
  // Whether the stage of this mesh index holds the class.
  bool OnStage(const ResolvedClass& c, int64_t mesh_index) const;
  // Parameter patterns of the stage of this mesh index.
  const std::vector<ParamPattern>& PatternsOf(int64_t mesh_index) const;

  // Returns how a pattern looks on a mesh index; nullopt if it holds no part.
  // Errors: INVALID_ARGUMENT - fused members that do not fit together.
  absl::StatusOr<std::optional<ParamShape>> ShapeOf(const ParamPattern& pattern,
                                                    int64_t mesh_index) const;
  absl::StatusOr<RankLayout> Expand(int64_t mesh_index) const;

 private:
  ResolvedLayout(const ModelSpec& model, const Layout& layout, const Mesh& mesh)
      : model_(&model), layout_(&layout), mesh_(&mesh) {}

  absl::Status CheckAxes() const;
  absl::Status ParseRules();
  absl::Status MatchTensors();
  absl::Status DealLayers();
  absl::Status MakeClasses();
  absl::StatusOr<ResolvedClass> MakeClass(const TensorSpec& tensor,
                                          const LayoutRule& rule,
                                          int64_t stage);
  absl::Status MakePatterns();
  absl::Status MakePatternsOfStage(int64_t stage);
  absl::StatusOr<std::string> LocalName(TensorIndex tensor,
                                        int64_t stage) const;
  absl::Status CheckFused(const std::string& name, int64_t stage,
                          const std::vector<TensorIndex>& members) const;
  bool StageHolds(const LayoutRule& rule, int64_t layer_stage,
                  int64_t stage) const;
  int64_t StageOfLayer(int64_t layer) const;
  const std::vector<int64_t>& PositionsOver(
      const std::vector<std::string>& axes);

  const ModelSpec* model_;
  const Layout* layout_;
  const Mesh* mesh_;
  std::vector<NamePattern> patterns_;  // one per rule
  // Per tensor: its rule, its numbers, its class.
  std::vector<size_t> rule_of_;
  std::vector<NameMatch> match_of_;
  std::vector<int32_t> class_of_;
  int64_t num_stages_ = 1;
  std::vector<int64_t> stage_of_index_;
  std::vector<Interval> layers_;  // per stage
  std::vector<ResolvedClass> classes_;
  std::vector<std::vector<ParamPattern>> stage_patterns_;
  // Node-stable: classes point into it.
  std::map<std::vector<std::string>, std::vector<int64_t>> positions_;
};

// Checks and normalises one entry of Layout::explicit_ranks: parameters by
// name and packed, views sorted, each inside its tensor and its parameter.
// `where` begins its messages.
absl::StatusOr<RankLayout> NormalizeExplicit(const ModelSpec& model,
                                             const RankLayout& given,
                                             absl::string_view where);

// Sorts parameters by name and views by (tensor, box), and packs.
void SortRankLayout(RankLayout& layout);

}  // namespace sluice

#endif  // SLUICE_COMMON_LAYOUT_RESOLVE_H_
