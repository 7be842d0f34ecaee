#ifndef SLUICE_COMMON_LAYOUT_H_
#define SLUICE_COMMON_LAYOUT_H_

// The layout language: rules from which every agent's views of a model follow.
// A layout is data (see presets/layouts); nothing here knows a framework.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/box.h"
#include "common/dtype.h"
#include "common/mesh.h"
#include "common/model.h"

namespace sluice {

// How one dimension is dealt over mesh axes. Units of `unit` elements are dealt
// in blocks of ceil(n/p) over the p positions of `axes` (last fastest); the
// last positions are shorter or empty.
struct DimSplit {
  int dim = 0;
  std::vector<std::string> axes;
  int64_t unit = 1;  // elements per unit (head_dim for heads); divides the size
  // Not 0: this dimension's units follow another count that is dealt instead
  // (KV heads follow `driver_units` query heads): a position that gets drivers
  // [a,b) of D holds units [floor(a*n/D), ceil(b*n/D)). Replicates where p > n.
  int64_t driver_units = 0;
  // Not 0: the number of units is rounded up to a multiple of pad_units * p
  // before dealing; the local parameter is padded to the full block (its fill
  // is zero), the view covers only real elements.
  int64_t pad_units = 0;
  // Not empty: units per position, instead of blocks; their sum is n.
  std::vector<int64_t> sizes;
  // Not empty: the dimension is these parts (elements, of which `unit` divides
  // each) one after the other, and each part is dealt by itself: a position
  // holds its share of every part, side by side (a stored gate-up or q-k-v).
  std::vector<int64_t> parts;

  friend bool operator==(const DimSplit&, const DimSplit&) = default;
};

// Which agents hold which {expert} of a rule, and where on them.
struct ExpertRule {
  // The layer's experts, or their slots (ExpertMap), are dealt over these axes
  // in blocks of ceil(n/p). Empty = each agent has them all.
  std::vector<std::string> axes;
  std::vector<int64_t> sizes;  // not empty: slots per position, instead
  // The experts of one local name on one agent are slices of one parameter,
  // along a new leading dimension, by slot; each slice may be fused.
  bool stacked = false;

  friend bool operator==(const ExpertRule&, const ExpertRule&) = default;
};

// A flat shard: what the splits leave of a tensor is flattened; tensors of one
// local name are joined, in order of (fuse_index, place in the model); the
// whole is dealt over `axes` in equal ranges, the last ones shorter or empty
// and padded. Each agent's parameter is its range, one-dimensional. In use
// where `axes` is not empty.
struct FlatRule {
  std::vector<std::string> axes;
  int64_t unit = 1;  // the length of a range is rounded up to a multiple

  friend bool operator==(const FlatRule&, const FlatRule&) = default;
};

// On which pipeline stages a rule's tensors live.
enum class StageRule {
  kAll = 0,      // every stage (or there is no stage axis)
  kByLayer = 1,  // the stage that owns {layer}
  kFirst = 2,
  kLast = 3,
  kFirstAndLast = 4,  // tied embedding; replicas by declaration
};

struct LayoutRule {
  // Logical name with "{layer}" and "{expert}" (numbers), "*" (any run of
  // characters without a dot) and "**" (any run). Each tensor must match
  // exactly one rule.
  std::string pattern;
  // Local parameter's name; "{layer}" is the stage-local layer number,
  // "{global_layer}" the model's; "{chunk}" and "{chunk_layer}" number the
  // stage's chunks and the layers of one; "{expert}" is the expert's number,
  // "{local_expert}" its slot on the agent. Empty = same name.
  std::string local_name;
  // Name on the last stage if it differs there (kFirstAndLast). Empty = same.
  std::string last_stage_name;
  StageRule stage = StageRule::kAll;
  std::vector<DimSplit> splits;  // dimensions not named are replicated
  // Fusing: tensors with the same local name on one agent are concatenated
  // along fuse_dim in ascending fuse_index. fuse_index -1 = not fused.
  int fuse_index = -1;
  int fuse_dim = 0;
  // Not 0: members are interleaved along fuse_dim in `interleave` equal groups
  // per *global* tensor (Megatron QKV per KV group: q-block, k, v, q-block...).
  // An agent holds, group by group, the parts of each member that are its own
  // (whole groups where the split is by groups). One view per group and member.
  int64_t interleave = 0;
  // Not empty: the order of the logical dimensions in memory, slowest first
  // ({1, 0} = transposed); it has each dimension once.
  std::vector<int> dim_order;
  ExpertRule experts;
  FlatRule flat;
  // The element type in which agents hold the tensors; kUnspecified = each
  // tensor's own. Tensors of one local parameter must come out equal.
  DType dtype = DType::kUnspecified;
  // A rule that matches no tensor is an error unless it is optional (biases).
  bool optional = false;

  friend bool operator==(const LayoutRule&, const LayoutRule&) = default;
};

// A second grid over the same agents: some mesh axes, taken together (the last
// fastest), are factored anew into axes of other names.
struct AxisRegroup {
  std::vector<std::string> axes;
  std::vector<MeshAxis> into;  // last fastest; one size may be 0 = what is left

  friend bool operator==(const AxisRegroup&, const AxisRegroup&) = default;
};

// Which expert stands in which slot, where that is not expert = slot; an expert
// in several slots is held by several agents.
struct ExpertMap {
  int64_t first_layer = 0;
  int64_t num_layers = 0;  // 0 = every layer
  std::vector<int64_t> slots;

  friend bool operator==(const ExpertMap&, const ExpertMap&) = default;
};

struct Layout {
  std::string name;
  // Further axes, usable wherever an axis of the mesh is.
  std::vector<AxisRegroup> regroups;
  // Mesh axis whose coordinate is the pipeline stage; empty = no stages.
  std::string stage_axis;
  // Not empty: layers per stage; else blocks of ceil(layers/stages). With k
  // times as many entries as stages, entry c is chunk c, on stage c % stages
  // (virtual stages).
  std::vector<int64_t> stage_layers;
  // Not 0: chunks of so many layers, chunk c on stage c % stages.
  int64_t chunk_layers = 0;
  // Axes along which a placement is replicated as a whole (data parallel): each
  // coordinate over them is one *replica* that publishes versions on its own.
  std::vector<std::string> replica_axes;
  // For rules that deal experts over axes; at most one for each layer.
  std::vector<ExpertMap> expert_maps;
  std::vector<LayoutRule> rules;
  // Explicit views by mesh index, instead of rules, where not empty.
  std::vector<RankLayout> explicit_ranks;
  // Declares that agents of one replica may hold the same element in explicit
  // views, with equal values. (A rule declares it by not splitting over an
  // axis.)
  bool replicated_views = false;

  friend bool operator==(const Layout&, const Layout&) = default;
};

// Returns what mesh index `mesh_index` holds.
// Errors: INVALID_ARGUMENT - a tensor that no rule or two rules match, a rule
// that matches nothing, an axis the mesh lacks, a unit that does not divide,
// a fused group whose members disagree, an element type to which the tensor's
// cannot be converted; each names tensor, rule and what was expected and found.
absl::StatusOr<RankLayout> ExpandLayout(const ModelSpec& model,
                                        const Layout& layout, const Mesh& mesh,
                                        int64_t mesh_index);

// Returns what every mesh index holds: entry i equals ExpandLayout(.., i), but
// patterns are matched once. Errors: as ExpandLayout.
absl::StatusOr<std::vector<RankLayout>> ExpandLayoutOnAll(
    const ModelSpec& model, const Layout& layout, const Mesh& mesh);

// Tensors that are held alike: same rule, shape, dtype and agents; they differ
// by layer or expert only. The planner works per class.
struct TensorClass {
  // What one agent holds of each tensor of the class: disjoint boxes, at least
  // one. A box may lie in several views (an interleaved member has one per
  // group).
  struct Holder {
    int64_t mesh_index = 0;
    std::vector<Box> boxes;
    friend bool operator==(const Holder&, const Holder&) = default;
    template <typename H>
    friend H AbslHashValue(H h, const Holder& holder) {
      return H::combine(std::move(h), holder.mesh_index, holder.boxes);
    }
  };

  std::vector<TensorIndex> tensors;  // ascending
  std::vector<Holder> holders;       // ascending mesh index
  // The element type in which all holders have them, which may be another than
  // the model's; kUnspecified if explicit views have none of them.
  DType dtype = DType::kUnspecified;

  // Returns what one agent holds; empty if nothing.
  absl::Span<const Box> BoxesOn(int64_t mesh_index) const;
};

// Returns the classes of a layout, ordered by first tensor; each tensor is in
// exactly one. Errors: as ExpandLayout; INVALID_ARGUMENT - explicit views have
// a tensor in two element types.
absl::StatusOr<std::vector<TensorClass>> ClassifyLayout(const ModelSpec& model,
                                                        const Layout& layout,
                                                        const Mesh& mesh);

// Returns the element type in which each tensor is held, by tensor index; the
// model's own for one that nobody holds. Errors: as ClassifyLayout.
absl::StatusOr<std::vector<DType>> HeldTypes(const ModelSpec& model,
                                             const Layout& layout,
                                             const Mesh& mesh);

// Returns the size of every mesh index's buffer: entry i equals
// ExpandLayout(.., i)->buffer_bytes, without expanding. Errors: as
// ExpandLayout.
absl::StatusOr<std::vector<int64_t>> LayoutBytesOnAll(const ModelSpec& model,
                                                      const Layout& layout,
                                                      const Mesh& mesh);

// Checks explicit views: no two agents of one replica hold the same element
// unless the layout says `replicated_views`.
// Errors: INVALID_ARGUMENT - names tensor, box and both ranks; as ExpandLayout.
absl::Status CheckReplicasDeclared(const ModelSpec& model, const Layout& layout,
                                   const Mesh& mesh);

// Checks a layout by itself: every element of every tensor is held at least
// once by each replica, views lie inside their tensors and their parameters,
// no two views of one parameter overlap in memory, no agent holds an element of
// a tensor twice, and as CheckReplicasDeclared.
// Errors: INVALID_ARGUMENT - names tensor, box and rank; RESOURCE_EXHAUSTED -
// explicit views too scattered to be checked.
absl::Status CheckLayout(const ModelSpec& model, const Layout& layout,
                         const Mesh& mesh);

// Returns the replica number of a mesh index (0 if no replica axes), and the
// number of replicas.
int64_t ReplicaOf(const Layout& layout, const Mesh& mesh, int64_t mesh_index);
int64_t NumReplicas(const Layout& layout, const Mesh& mesh);

}  // namespace sluice

#endif  // SLUICE_COMMON_LAYOUT_H_
