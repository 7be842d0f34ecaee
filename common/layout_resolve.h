#ifndef SLUICE_COMMON_LAYOUT_RESOLVE_H_
#define SLUICE_COMMON_LAYOUT_RESOLVE_H_

// A layout's rules applied to a model and a mesh once, so that what each agent
// holds follows per class of equal tensors instead of per tensor. Internal to
// the layout library: see common/layout.h for what is computed.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/layout.h"
#include "common/layout_axes.h"
#include "common/layout_deal.h"
#include "common/layout_experts.h"
#include "common/layout_pattern.h"
#include "common/layout_stages.h"
#include "common/mesh.h"
#include "common/model.h"

namespace sluice {

// The position of each mesh index over some axes.
struct AxisPositions {
  int64_t count = 1;
  std::vector<int64_t> of_index;

  int64_t Of(int64_t mesh_index) const {
    return of_index[static_cast<size_t>(mesh_index)];
  }
};

// Tensors that are flattened and joined: where each begins.
struct FlatUnit {
  const AxisPositions* positions = nullptr;
  std::vector<int32_t> members;  // classes, as split
  // Agents differ by their positions over what the members are split over.
  std::vector<int32_t> variant_of_index;
  struct Variant {
    std::vector<int64_t> starts;  // one per member, and the end of the last
    int64_t range = 0;            // elements of each agent's range
  };
  std::vector<Variant> variants;

  const Variant& On(int64_t mesh_index) const {
    return variants[static_cast<size_t>(
        variant_of_index[static_cast<size_t>(mesh_index)])];
  }
};

// A part of a tensor on an agent.
struct LocalPiece {
  Box box;
  // Of its first element: coordinates among what the agent holds of the tensor,
  // or (flat) its place in the agent's range.
  std::vector<int64_t> at;
};

// Tensors of one rule, shape, element type and holders.
struct ResolvedClass {
  const LayoutRule* rule = nullptr;
  Shape shape;
  DType dtype = DType::kUnspecified;  // as agents hold it
  int64_t stage = -1;                 // -1: not by layer
  // Positions over the rule's expert axes, those that hold the class ascending.
  const AxisPositions* expert_positions = nullptr;
  std::vector<int64_t> homes;
  std::vector<TensorIndex> tensors;
  // Per logical dimension: how it is dealt; nullopt = replicated.
  std::vector<std::optional<DimDeal>> deals;
  // Positions of the dealt dimensions.
  std::vector<const AxisPositions*> positions;
  // Flat: its unit, and its place among the members.
  const FlatUnit* unit = nullptr;
  size_t member = 0;

  // Returns what the split of dimension d gives a mesh index: intervals that
  // lie side by side, some empty.
  absl::Span<const Interval> Held(int d, int64_t mesh_index) const;
  // Returns their extent with padding; the whole if it is not split.
  int64_t LocalExtent(int d, int64_t mesh_index) const;
  // Returns the extents of all dimensions.
  Shape LocalShape(int64_t mesh_index) const;
  // Returns what it holds of each tensor, if it is one of its agents.
  std::vector<LocalPiece> PiecesOn(int64_t mesh_index) const;
  // The same before flattening.
  std::vector<LocalPiece> SplitPieces(int64_t mesh_index) const;
};

// Local parameters of one cell that are built alike: the members of each are of
// the same classes, in order.
struct ParamPattern {
  std::vector<int32_t> classes;
  // Not 0: that many slices, each of equally many members.
  size_t slots = 0;
  std::vector<const AxisPositions*> depends_on;
  struct Instance {
    std::string name;
    std::vector<TensorIndex> members;  // one per class above
  };
  std::vector<Instance> instances;

  // Returns the positions that decide how it looks on a mesh index of its cell:
  // it looks alike where they are equal.
  std::vector<int64_t> LooksOn(int64_t mesh_index) const {
    std::vector<int64_t> out;
    for (const AxisPositions* at : depends_on)
      out.push_back(at->Of(mesh_index));
    return out;
  }
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
  // Returns the mesh indices whose stage and expert position hold the class,
  // ascending.
  std::vector<int64_t> HoldersOf(const ResolvedClass& c) const;
  // Returns the lists of parameter patterns of a mesh index.
  std::vector<const std::vector<ParamPattern>*> PatternsOf(
      int64_t mesh_index) const;

  // Returns how a pattern looks on a mesh index; nullopt if it holds no part.
  // Errors: INVALID_ARGUMENT - fused members that do not fit together.
  absl::StatusOr<std::optional<ParamShape>> ShapeOf(const ParamPattern& pattern,
                                                    int64_t mesh_index) const;
  absl::StatusOr<RankLayout> Expand(int64_t mesh_index) const;

 private:
  // Agents of one stage and one position over one list of expert axes hold the
  // same local parameters of rules with those axes.
  struct Cell {
    std::vector<int64_t> mesh_indices;
    struct Member {
      TensorIndex tensor;
      int64_t slot = 0;
    };
    struct Param {
      std::string name;
      std::vector<Member> members;
    };
    std::vector<Param> params;  // until patterns are made of them
    absl::flat_hash_map<std::string, size_t> param_of_name;
    std::vector<ParamPattern> patterns;
  };

  ResolvedLayout(const ModelSpec& model, const Layout& layout, const Mesh& mesh,
                 LayoutAxes axes)
      : model_(&model),
        layout_(&layout),
        mesh_(&mesh),
        axes_(std::move(axes)) {}

  absl::Status CheckAxes() const;
  absl::Status ParseRules();
  absl::Status MatchTensors();
  absl::Status DealLayers();
  absl::Status PlaceExperts();
  absl::Status MakeClasses();
  absl::StatusOr<ResolvedClass> MakeClass(const TensorSpec& tensor,
                                          const LayoutRule& rule,
                                          int64_t stage);
  void MakeCells();
  // layout_params.cc
  absl::Status NameParams();
  absl::Status NameTensor(const ResolvedClass& c, TensorIndex tensor,
                          int64_t stage);
  absl::Status SortAndCheckMembers();
  // layout_flat_units.cc
  absl::Status MakeFlatUnits();
  int32_t FindFlatUnit(const std::vector<int32_t>& members);
  void SplitClassesByUnit(
      const std::vector<std::pair<int32_t, size_t>>& place_of_tensor);
  void MakePatterns();
  absl::StatusOr<std::string> LocalName(TensorIndex tensor, int64_t stage,
                                        int64_t slot) const;
  absl::Status CheckMembers(const Cell::Param& param, int64_t stage) const;
  std::string FaultOfMember(const Cell::Param& param, size_t m,
                            size_t slice) const;
  std::string FaultOfFused(TensorIndex tensor, TensorIndex first) const;

  const LayoutRule& RuleOf(TensorIndex tensor) const {
    return layout_->rules[rule_of_[static_cast<size_t>(tensor.value())]];
  }
  // The element type in which agents hold a tensor.
  DType HeldDType(TensorIndex tensor) const {
    const DType asked = RuleOf(tensor).dtype;
    return asked == DType::kUnspecified ? model_->tensor(tensor).dtype : asked;
  }
  // Stages on which a rule's tensors live; `layer_stage` if it is by layer.
  std::vector<int64_t> StagesOf(const LayoutRule& rule,
                                int64_t layer_stage) const;
  size_t CellIndex(int64_t stage, const AxisPositions& at,
                   int64_t position) const {
    return static_cast<size_t>(stage * at.count + position);
  }
  const AxisPositions& PositionsOver(const std::vector<std::string>& axes);

  const ModelSpec* model_;
  const Layout* layout_;
  const Mesh* mesh_;
  LayoutAxes axes_;
  std::vector<NamePattern> patterns_;  // one per rule
  // Per tensor: its rule, its numbers, its class, where its expert is.
  std::vector<size_t> rule_of_;
  std::vector<NameMatch> match_of_;
  std::vector<int32_t> class_of_;
  std::vector<const std::vector<ExpertPlace>*> places_of_;
  StageDeal stages_;
  std::vector<int64_t> stage_of_index_;
  std::vector<ResolvedClass> classes_;
  // Per list of expert axes in use: [stage * positions + position].
  absl::flat_hash_map<const AxisPositions*, std::vector<Cell>> cells_;
  std::vector<const AxisPositions*> cell_lists_;  // in order of appearance
  // Node-stable: classes and tensors point into these.
  std::map<std::vector<std::string>, AxisPositions> positions_;
  std::map<std::pair<size_t, int64_t>, ExpertDeal> expert_deals_;
  // Per stage, where experts use several lists: the list of each name.
  std::vector<absl::flat_hash_map<std::string, const AxisPositions*>>
      list_of_name_;
  std::vector<std::unique_ptr<FlatUnit>> units_;
  std::map<std::vector<int32_t>, int32_t> unit_of_members_;
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
