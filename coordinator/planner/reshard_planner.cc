// PlanReshard: pairs of geometries, their atoms, who serves whom, transfers.

#include <algorithm>
#include <limits>
#include <map>
#include <string>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "common/layout_coverage.h"
#include "common/status_macros.h"
#include "coordinator/planner/atoms.h"
#include "coordinator/planner/certificate.h"
#include "coordinator/planner/geometry_pairs.h"
#include "coordinator/planner/input_checks.h"
#include "coordinator/planner/link_loads.h"
#include "coordinator/planner/lower_bound.h"
#include "coordinator/planner/planners.h"
#include "coordinator/planner/rank_sets.h"
#include "coordinator/planner/source_selector.h"
#include "coordinator/planner/transfer_assembly.h"
#include "coordinator/planner/two_stage_routes.h"

namespace sluice::coordinator {
namespace {

// Slices of one box; more would be noise beside the other pieces.
constexpr int64_t kMaxSlices = 64;
// Deliveries that may become one transfer, before a plan is refused unseen.
constexpr int64_t kMaxJoined = 8;

// An atom of a pair: a box that all holders have and all takers want.
struct Cell {
  int32_t pair = 0;
  Box box;
  RankSets::Id holders = 0;
  RankSets::Id takers = 0;
  RankSets::Id missing = 0;  // takers that are no holders
  int64_t tensor_bytes = 0;  // of the box in one tensor
};

// Cuts a box into about `count` slices along one dimension: the outermost that
// is long enough, for long contiguous runs.
std::vector<Box> Slice(const Box& box, int64_t count) {
  if (box.rank() == 0) return {box};
  int dim = 0;
  for (int d = 0; d < box.rank(); ++d) {
    if (box.dim(d).size() >= count) {
      dim = d;
      break;
    }
    if (box.dim(d).size() > box.dim(dim).size()) dim = d;
  }
  const Interval extent = box.dim(dim);
  const int64_t step = CeilDiv(extent.size(), count);
  std::vector<Box> out;
  for (int64_t lo = extent.lo; lo < extent.hi; lo += step) {
    out.push_back(box);
    out.back().dim(dim) = {lo, std::min(lo + step, extent.hi)};
  }
  return out;
}

class ReshardPlanning {
 public:
  explicit ReshardPlanning(const ReshardInput& input)
      : input_(input), sets_(input.topology) {}

  absl::StatusOr<TransferPlan> Run(const PlanningLimits& limits) {
    SLUICE_ASSIGN_OR_RETURN(pairs_, PairGeometries(input_, sets_));
    for (size_t p = 0; p < pairs_.size(); ++p) {
      SLUICE_RETURN_IF_ERROR(AddCells(static_cast<int32_t>(p)));
    }
    SLUICE_RETURN_IF_ERROR(CheckDeliveries(limits));
    DraftLocalCopies();
    CutDemands();
    SLUICE_RETURN_IF_ERROR(
        input_.pattern == Pattern::kTwoStage ? DraftTwoStages() : DraftLegs());
    TransferPlan plan;
    plan.transfers =
        AssembleTransfers(input_.topology, pairs_, pieces_, drafts_);
    SLUICE_RETURN_IF_ERROR(CheckTransferLimit(plan.transfers.size(), limits));
    plan.certificate = MakeCertificate(input_.topology, plan.transfers,
                                       LowerBound(), /*wasted_bytes=*/0);
    SLUICE_RETURN_IF_ERROR(CheckMovedBytes(plan.certificate, limits));
    return plan;
  }

 private:
  const GeometryPair& pair(int32_t index) const {
    return pairs_[static_cast<size_t>(index)];
  }
  int64_t NumTensors(const Cell& cell) const {
    return static_cast<int64_t>(pair(cell.pair).tensors.size());
  }

  // Returns the union of the rank sets of some of a pair's boxes.
  RankSets::Id RanksOf(const std::vector<HeldBox>& held,
                       const std::vector<int32_t>& which) {
    std::vector<RankSets::Id> ids;
    for (const int32_t i : which) {
      ids.push_back(held[static_cast<size_t>(i)].ranks);
    }
    return sets_.Union(ids);
  }

  absl::Status Hole(const GeometryPair& pair, const Atom& atom) {
    const Rank taker =
        sets_.Ranks(RanksOf(pair.destinations, atom.destinations))[0];
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor \"", input_.model->tensor(pair.tensors[0]).name, "\" box ",
        atom.box.ToString(), ": wanted by rank ", taker.value(),
        " in placement \"",
        input_.destinations[static_cast<size_t>(pair.destination_placement)]
            .name,
        "\", held by no replica of placement \"", input_.source.name, "\""));
  }

  absl::Status HoleAtDestination(const GeometryPair& pair) {
    const TensorSpec& tensor = input_.model->tensor(pair.tensors[0]);
    std::vector<Box> held;
    for (const HeldBox& box : pair.destinations) held.push_back(box.box);
    const auto hole = FindHole(tensor.shape, std::move(held));
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor \"", tensor.name, "\" box ", hole.value_or(Box()).ToString(),
        ": held by no rank of placement \"",
        input_.destinations[static_cast<size_t>(pair.destination_placement)]
            .name,
        "\""));
  }

  // Stages differ by ranks, not by boxes: each way of cutting is found once.
  const std::vector<Atom>& AtomsOf(const Shape& shape, std::vector<Box> sources,
                                   std::vector<Box> destinations) {
    AtomKey key{shape, std::move(sources), std::move(destinations)};
    const auto it = atoms_.find(key);
    if (it != atoms_.end()) return it->second;
    std::vector<Atom> atoms =
        CutIntoAtoms(shape, std::get<1>(key), std::get<2>(key));
    return atoms_.emplace(std::move(key), std::move(atoms)).first->second;
  }

  // Cuts one pair into atoms and joins those with the same holders and takers.
  absl::Status AddCells(int32_t index) {
    const GeometryPair& pair = this->pair(index);
    const TensorSpec& tensor = input_.model->tensor(pair.tensors[0]);
    std::vector<Box> sources, destinations;
    for (const HeldBox& held : pair.sources) sources.push_back(held.box);
    for (const HeldBox& held : pair.destinations) {
      destinations.push_back(held.box);
    }
    std::map<std::pair<RankSets::Id, RankSets::Id>, std::vector<Box>> alike;
    int64_t wanted = 0;
    for (const Atom& atom :
         AtomsOf(tensor.shape, std::move(sources), std::move(destinations))) {
      if (atom.sources.empty()) return Hole(pair, atom);
      wanted += atom.box.num_elements();
      alike[{RanksOf(pair.sources, atom.sources),
             RanksOf(pair.destinations, atom.destinations)}]
          .push_back(atom.box);
    }
    // Atoms are disjoint: together they are the tensor, or it has a hole there.
    if (wanted != tensor.num_elements()) return HoleAtDestination(pair);
    for (const auto& [ranks, boxes] : alike) {
      const auto& [holders, takers] = ranks;
      for (const MergedBox& merged : MergeBoxes(boxes)) {
        cells_.push_back(
            {index, merged.box, holders, takers, sets_.Minus(takers, holders),
             merged.box.num_elements() * ByteSize(pair.wire_dtype)});
      }
    }
    return absl::OkStatus();
  }

  // Before anything is kept per delivery of a piece.
  absl::Status CheckDeliveries(const PlanningLimits& limits) const {
    int64_t deliveries = 0;
    int64_t bytes = 0;
    for (const Cell& cell : cells_) {
      const auto takers = static_cast<int64_t>(sets_.Ranks(cell.takers).size());
      deliveries += takers;
      int64_t here = 0;
      if (__builtin_mul_overflow(cell.tensor_bytes, NumTensors(cell), &here) ||
          __builtin_mul_overflow(here, takers, &here) ||
          __builtin_add_overflow(bytes, here, &bytes)) {
        bytes = std::numeric_limits<int64_t>::max();
        break;
      }
    }
    if (bytes > limits.max_bytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the plan would move ", bytes,
                       " bytes: expected at most ", limits.max_bytes));
    }
    return CheckTransferLimit(static_cast<size_t>(deliveries / kMaxJoined),
                              limits);
  }

  // A taker that has the bytes itself takes them from itself.
  void DraftLocalCopies() {
    for (const Cell& cell : cells_) {
      if (cell.missing == cell.takers) continue;
      const auto piece = static_cast<int32_t>(pieces_.size());
      pieces_.push_back(
          {cell.pair, 0, static_cast<int32_t>(NumTensors(cell)), cell.box});
      for (const Rank rank : sets_.Ranks(cell.takers)) {
        if (sets_.Contains(cell.missing, rank)) continue;
        drafts_.push_back({piece, 0, rank, rank, -1});
      }
    }
  }

  // Turns cells into demands of a size that can be levelled.
  void CutDemands() {
    std::vector<Demand> whole;
    for (const Cell& cell : cells_) {
      whole.push_back(
          {cell.tensor_bytes * NumTensors(cell), cell.holders, cell.missing});
    }
    const bool fixed =
        input_.pattern == Pattern::kTwoStage;  // nothing to level
    const int64_t chunk = ChunkBytes(sets_, whole);
    first_piece_ = static_cast<int32_t>(pieces_.size());
    for (size_t i = 0; i < cells_.size(); ++i) {
      if (sets_.Ranks(cells_[i].missing).empty()) continue;
      const bool cut =
          !fixed && whole[i].bytes > chunk && WorthCutting(sets_, whole[i]);
      CutCell(static_cast<int32_t>(i), cut ? chunk : whole[i].bytes);
    }
  }

  void CutCell(int32_t index, int64_t chunk) {
    const Cell& cell = cells_[static_cast<size_t>(index)];
    const int64_t count = NumTensors(cell);
    const int64_t per_tensor = std::max<int64_t>(cell.tensor_bytes, 1);
    // Either several tensors to a piece or several slices to a tensor.
    const int64_t groups =
        CeilDiv(count, std::max<int64_t>(chunk / per_tensor, 1));
    const int64_t step = CeilDiv(count, groups);
    const int64_t slices =
        std::clamp<int64_t>(CeilDiv(per_tensor, chunk), 1, kMaxSlices);
    for (const Box& box : Slice(cell.box, slices)) {
      const int64_t bytes =
          box.num_elements() * ByteSize(pair(cell.pair).wire_dtype);
      for (int64_t first = 0; first < count; first += step) {
        const int64_t last = std::min(first + step, count);
        pieces_.push_back({cell.pair, static_cast<int32_t>(first),
                           static_cast<int32_t>(last), box});
        demands_.push_back(
            {bytes * (last - first), cell.holders, cell.missing, index});
      }
    }
  }

  absl::Status DraftLegs() {
    AddLegs(RouteDemands(sets_, demands_));
    return absl::OkStatus();
  }

  absl::Status DraftTwoStages() {
    SLUICE_ASSIGN_OR_RETURN(const TwoStageRouter router,
                            TwoStageRouter::Create(input_));
    std::vector<Leg> legs;
    for (size_t i = 0; i < demands_.size(); ++i) {
      const Piece& piece = pieces_[static_cast<size_t>(first_piece_) + i];
      const GeometryPair& of = pair(piece.pair);
      const std::string& tensor =
          input_.model->tensor(of.tensors[static_cast<size_t>(piece.first)])
              .name;
      const TwoStageRouter::Unserved unserved =
          router.Route(sets_, static_cast<int32_t>(i), demands_[i],
                       IsRoutedExpert(tensor), legs);
      if (unserved.demand < 0) continue;
      return absl::FailedPreconditionError(absl::StrCat(
          "tensor \"", tensor, "\" box ", piece.box.ToString(),
          ": the rank mapping of TWO_STAGE pairs rank ", unserved.rank.value(),
          " with no rank that holds it; DIRECT has no such limit"));
    }
    AddLegs(legs);
    return absl::OkStatus();
  }

  void AddLegs(absl::Span<const Leg> legs) {
    const auto base = static_cast<int32_t>(drafts_.size());
    for (const Leg& leg : legs) {
      drafts_.push_back({first_piece_ + leg.demand, leg.round, leg.source,
                         leg.destination,
                         leg.parent < 0 ? -1 : base + leg.parent});
    }
  }

  // Placements are bounded one by one: an agent in two of them might take what
  // both want once.
  int64_t LowerBound() {
    int64_t bound = 0;
    for (size_t p = 0; p < input_.destinations.size(); ++p) {
      std::vector<Demand> demands;
      for (const Cell& cell : cells_) {
        if (pair(cell.pair).destination_placement != static_cast<int32_t>(p)) {
          continue;
        }
        demands.push_back(
            {cell.tensor_bytes * NumTensors(cell), cell.holders, cell.missing});
      }
      bound = std::max(bound, LowerBoundBytes(sets_, demands));
    }
    return bound;
  }

  const ReshardInput& input_;
  RankSets sets_;
  std::vector<GeometryPair> pairs_;
  std::vector<Cell> cells_;
  // (shape, sources' boxes, destinations' boxes)
  using AtomKey = std::tuple<Shape, std::vector<Box>, std::vector<Box>>;
  absl::flat_hash_map<AtomKey, std::vector<Atom>> atoms_;
  std::vector<Piece> pieces_;
  int32_t first_piece_ = 0;      // the piece of the first demand
  std::vector<Demand> demands_;  // of the pieces from there on
  std::vector<Draft> drafts_;
};

}  // namespace

absl::StatusOr<TransferPlan> PlanReshard(const ReshardInput& input,
                                         const PlanningLimits& limits) {
  SLUICE_RETURN_IF_ERROR(CheckReshardInput(input, limits));
  return ReshardPlanning(input).Run(limits);
}

}  // namespace sluice::coordinator
