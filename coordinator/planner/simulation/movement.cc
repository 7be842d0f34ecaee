#include "coordinator/planner/simulation/movement.h"

#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/box.h"
#include "common/dtype.h"
#include "common/model.h"
#include "common/plan.h"
#include "common/status_macros.h"
#include "coordinator/planner/atoms.h"
#include "coordinator/planner/geometry_pairs.h"
#include "coordinator/planner/two_stage_routes.h"

namespace sluice::coordinator::simulation {
namespace {

Movement Empty(const Topology& topology) {
  Movement out;
  out.topology = std::make_unique<const Topology>(topology);
  out.sets = std::make_unique<RankSets>(*out.topology);
  return out;
}

// Takes the pairs of a reshard apart.
class ReshardMovement {
 public:
  explicit ReshardMovement(const ReshardInput& input)
      : input_(input), out_(Empty(input.topology)) {}

  absl::StatusOr<Movement> Run() {
    SLUICE_ASSIGN_OR_RETURN(const std::vector<GeometryPair> pairs,
                            PairGeometries(input_, *out_.sets));
    for (const GeometryPair& pair : pairs) SLUICE_RETURN_IF_ERROR(Add(pair));
    return std::move(out_);
  }

 private:
  // (shape, sources' boxes, destinations' boxes)
  using Key = std::tuple<Shape, std::vector<Box>, std::vector<Box>>;

  // Pipeline stages differ by ranks, not by boxes: each cut is made once.
  const std::vector<Atom>& AtomsOf(const Shape& shape,
                                   const GeometryPair& pair) {
    Key key{shape, {}, {}};
    for (const HeldBox& held : pair.sources) {
      std::get<1>(key).push_back(held.box);
    }
    for (const HeldBox& held : pair.destinations) {
      std::get<2>(key).push_back(held.box);
    }
    const auto it = atoms_.find(key);
    if (it != atoms_.end()) return it->second;
    std::vector<Atom> atoms =
        CutIntoAtoms(shape, std::get<1>(key), std::get<2>(key));
    return atoms_.emplace(std::move(key), std::move(atoms)).first->second;
  }

  RankSets::Id RanksOf(const std::vector<HeldBox>& held,
                       const std::vector<int32_t>& which) {
    std::vector<RankSets::Id> ids;
    for (const int32_t i : which) {
      ids.push_back(held[static_cast<size_t>(i)].ranks);
    }
    return out_.sets->Union(ids);
  }

  absl::Status Add(const GeometryPair& pair) {
    const TensorSpec& tensor = input_.model->tensor(pair.tensors[0]);
    const int64_t element_bytes =
        ByteSize(pair.wire_dtype) * static_cast<int64_t>(pair.tensors.size());
    const auto unit = static_cast<int32_t>(out_.units.size());
    out_.units.emplace_back();
    out_.units.back().routed_experts = IsRoutedExpert(tensor.name);
    for (const HeldBox& held : pair.sources) {
      out_.units.back().shards.push_back(
          {held.ranks, held.box.num_elements() * element_bytes});
    }
    for (const Atom& atom : AtomsOf(tensor.shape, pair)) {
      if (atom.sources.empty()) {
        return absl::InvalidArgumentError(
            absl::StrCat("tensor \"", tensor.name, "\" box ",
                         atom.box.ToString(), ": wanted and held by nobody"));
      }
      Need need;
      need.unit = unit;
      need.holders = RanksOf(pair.sources, atom.sources);
      need.takers = RanksOf(pair.destinations, atom.destinations);
      need.missing = out_.sets->Minus(need.takers, need.holders);
      need.bytes = atom.box.num_elements() * element_bytes;
      need.shards = atom.sources;
      out_.needs.push_back(std::move(need));
    }
    return absl::OkStatus();
  }

  const ReshardInput& input_;
  Movement out_;
  absl::flat_hash_map<Key, std::vector<Atom>> atoms_;
};

}  // namespace

absl::StatusOr<Movement> MovementOf(const ReshardInput& input) {
  return ReshardMovement(input).Run();
}

absl::StatusOr<Movement> MovementOf(const RedistributionInput& input) {
  Movement out = Empty(input.topology);
  for (size_t i = 0; i < input.holdings.size(); ++i) {
    const SampleHolding& holding = input.holdings[i];
    if (holding.holders.empty() || i >= input.wanted.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("sample \"", holding.entry.sample_id, "\" key \"",
                       holding.entry.key, "\": held or wanted by nobody"));
    }
    Need need;
    need.unit = static_cast<int32_t>(out.units.size());
    need.holders = out.sets->Intern(holding.holders);
    need.takers = out.sets->Intern(input.wanted[i]);
    need.missing = out.sets->Minus(need.takers, need.holders);
    need.bytes = holding.entry.num_bytes();
    need.shards = {0};
    out.units.push_back({{{need.holders, need.bytes}}, false});
    out.needs.push_back(std::move(need));
  }
  return out;
}

}  // namespace sluice::coordinator::simulation
