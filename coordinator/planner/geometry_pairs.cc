#include "coordinator/planner/geometry_pairs.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/dtype_conversion.h"
#include "common/layout.h"
#include "common/status_macros.h"

namespace sluice::coordinator {
namespace {

// How tensors are held by one placement: distinct ways, and each tensor's.
struct Geometries {
  std::vector<std::vector<HeldBox>> ways;
  std::vector<int32_t> way_of_tensor;
  std::vector<DType> dtype_of_tensor;

  // Whether somebody holds some of a tensor.
  bool Hold(size_t tensor) const {
    const int32_t way = way_of_tensor[tensor];
    return way >= 0 && !ways[static_cast<size_t>(way)].empty();
  }
};

// The distinct boxes of a class with their ranks, over the agents in use.
std::vector<HeldBox> HeldBoxes(const TensorClass& tensors, const Mesh& mesh,
                               const std::vector<char>& in_use,
                               RankSets& sets) {
  std::vector<std::pair<const Box*, Rank>> held;
  for (const TensorClass::Holder& holder : tensors.holders) {
    const auto i = static_cast<size_t>(holder.mesh_index);
    if (!in_use[i]) continue;
    for (const Box& box : holder.boxes) {
      if (!box.empty()) held.emplace_back(&box, mesh.ranks[i]);
    }
  }
  std::sort(held.begin(), held.end(), [](const auto& a, const auto& b) {
    return std::tie(*a.first, a.second) < std::tie(*b.first, b.second);
  });
  std::vector<HeldBox> out;
  for (size_t begin = 0; begin < held.size();) {
    std::vector<Rank> ranks;
    size_t end = begin;
    for (; end < held.size() && *held[end].first == *held[begin].first; ++end) {
      ranks.push_back(held[end].second);
    }
    out.push_back({*held[begin].first, sets.Intern(std::move(ranks))});
    begin = end;
  }
  return out;
}

absl::StatusOr<Geometries> GeometriesOf(const ModelSpec& model,
                                        const PlacementGeometry& placement,
                                        const std::vector<char>& in_use,
                                        RankSets& sets) {
  SLUICE_ASSIGN_OR_RETURN(
      const std::vector<TensorClass> classes,
      ClassifyLayout(model, *placement.layout, placement.mesh));
  Geometries out;
  out.way_of_tensor.assign(model.tensors.size(), -1);
  out.dtype_of_tensor.resize(model.tensors.size(), DType::kUnspecified);
  using Key = std::vector<std::pair<Box, RankSets::Id>>;
  absl::flat_hash_map<Key, int32_t> known;
  for (const TensorClass& tensors : classes) {
    std::vector<HeldBox> held =
        HeldBoxes(tensors, placement.mesh, in_use, sets);
    Key key;
    for (const HeldBox& h : held) key.emplace_back(h.box, h.ranks);
    const auto [it, inserted] = known.try_emplace(
        std::move(key), static_cast<int32_t>(out.ways.size()));
    if (inserted) out.ways.push_back(std::move(held));
    for (const TensorIndex tensor : tensors.tensors) {
      const auto t = static_cast<size_t>(tensor.value());
      out.way_of_tensor[t] = it->second;
      out.dtype_of_tensor[t] = tensors.dtype;
    }
  }
  return out;
}

// Numbers the distinct shapes of a model's tensors.
std::vector<int32_t> NumberShapes(const ModelSpec& model) {
  absl::flat_hash_map<Shape, int32_t> known;
  std::vector<int32_t> out;
  out.reserve(model.tensors.size());
  for (const TensorSpec& tensor : model.tensors) {
    const auto it =
        known.try_emplace(tensor.shape, static_cast<int32_t>(known.size()));
    out.push_back(it.first->second);
  }
  return out;
}

std::vector<char> AgentsInUse(const PlacementGeometry& source,
                              const std::vector<int64_t>& replicas) {
  std::vector<char> in_use(static_cast<size_t>(source.mesh.size()));
  for (int64_t i = 0; i < source.mesh.size(); ++i) {
    const int64_t replica = ReplicaOf(*source.layout, source.mesh, i);
    in_use[static_cast<size_t>(i)] =
        std::find(replicas.begin(), replicas.end(), replica) != replicas.end();
  }
  return in_use;
}

// Pairs the tensors of one destination placement.
class Pairing {
 public:
  Pairing(const ReshardInput& input, const Geometries& source,
          const std::vector<int32_t>& shapes, std::vector<GeometryPair>& out)
      : input_(input), source_(source), shapes_(shapes), out_(out) {}

  absl::Status Add(size_t placement, const Geometries& destination) {
    using Key = std::tuple<int32_t, int32_t, int32_t, DType, DType>;
    absl::flat_hash_map<Key, size_t> known;
    for (size_t t = 0; t < input_.model->tensors.size(); ++t) {
      if (!destination.Hold(t)) {
        if (input_.model->tensors[t].num_elements() == 0) continue;
        return NotHeld(t, placement);
      }
      const DType has = source_.dtype_of_tensor[t];
      const DType wants = destination.dtype_of_tensor[t];
      if (source_.Hold(t) && !Convertible(has, wants)) {
        return NoConversion(t, placement, has, wants);
      }
      const int32_t from = source_.way_of_tensor[t];
      const int32_t to = destination.way_of_tensor[t];
      const auto [it, inserted] =
          known.try_emplace({shapes_[t], from, to, has, wants}, out_.size());
      if (inserted) {
        GeometryPair& pair = out_.emplace_back();
        pair.destination_placement = static_cast<int32_t>(placement);
        pair.wire_dtype = source_.Hold(t) ? WireDType(has, wants) : wants;
        if (from >= 0) pair.sources = source_.ways[static_cast<size_t>(from)];
        pair.destinations = destination.ways[static_cast<size_t>(to)];
      }
      out_[it->second].tensors.emplace_back(static_cast<int32_t>(t));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status NotHeld(size_t tensor, size_t placement) const {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor \"", input_.model->tensors[tensor].name,
                     "\": held by no rank of placement \"",
                     input_.destinations[placement].name, "\""));
  }
  absl::Status NoConversion(size_t tensor, size_t placement, DType has,
                            DType wants) const {
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor \"", input_.model->tensors[tensor].name, "\": placement \"",
        input_.source.name, "\" holds it as ", DTypeName(has), ", placement \"",
        input_.destinations[placement].name, "\" as ", DTypeName(wants),
        ": there is no conversion between them"));
  }

  const ReshardInput& input_;
  const Geometries& source_;
  const std::vector<int32_t>& shapes_;
  std::vector<GeometryPair>& out_;
};

}  // namespace

absl::StatusOr<std::vector<GeometryPair>> PairGeometries(
    const ReshardInput& input, RankSets& sets) {
  const ModelSpec& model = *input.model;
  SLUICE_ASSIGN_OR_RETURN(
      const Geometries source,
      GeometriesOf(model, input.source,
                   AgentsInUse(input.source, input.source_replicas), sets));
  const std::vector<int32_t> shapes = NumberShapes(model);
  std::vector<GeometryPair> out;
  Pairing pairing(input, source, shapes, out);
  for (size_t p = 0; p < input.destinations.size(); ++p) {
    const PlacementGeometry& placement = input.destinations[p];
    const std::vector<char> all(static_cast<size_t>(placement.mesh.size()), 1);
    SLUICE_ASSIGN_OR_RETURN(const Geometries destination,
                            GeometriesOf(model, placement, all, sets));
    SLUICE_RETURN_IF_ERROR(pairing.Add(p, destination));
  }
  return out;
}

}  // namespace sluice::coordinator
