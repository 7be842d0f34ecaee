#include "coordinator/planner/tensor_sets.h"

#include <algorithm>
#include <tuple>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/planner/validator_checks.h"

namespace sluice::coordinator {
namespace {

// Runs are compared as bytes.
static_assert(std::has_unique_object_representations_v<TensorRun>);

absl::string_view BytesOf(const std::vector<TensorRun>& runs) {
  return absl::string_view(reinterpret_cast<const char*>(runs.data()),
                           runs.size() * sizeof(TensorRun));
}

// The element type of all parts; kUnspecified if there is none such.
DType CommonType(absl::Span<const TensorSets::Part> parts,
                 const HeldGeometry& held) {
  DType common = DType::kUnspecified;
  for (const TensorSets::Part& part : parts) {
    if (part.tensor_class < 0) return DType::kUnspecified;
    const DType one = held.DTypeOf(part.tensor_class);
    if (common != DType::kUnspecified && one != common) {
      return DType::kUnspecified;
    }
    common = one;
  }
  return common;
}

}  // namespace

absl::StatusOr<TensorSets::Id> TensorSets::Add(const Transfer& transfer) {
  const absl::string_view key = BytesOf(transfer.params.tensors);
  const auto it = by_runs_.find(key);
  if (it != by_runs_.end()) return it->second;
  Set set;
  SLUICE_ASSIGN_OR_RETURN(set.tensors, Expand(transfer));
  const TensorSpec& first = model_.tensor(set.tensors[0]);
  for (const TensorIndex tensor : set.tensors) {
    const TensorSpec& spec = model_.tensor(tensor);
    if (spec.shape != first.shape) {
      return PlanFault(transfer,
                       absl::StrCat("tensors \"", first.name, "\" and \"",
                                    spec.name, "\" differ in shape"));
    }
  }
  const auto id = static_cast<Id>(sets_.size());
  sets_.push_back(std::move(set));
  by_runs_.emplace(key, id);
  return id;
}

absl::StatusOr<std::vector<TensorIndex>> TensorSets::Expand(
    const Transfer& transfer) const {
  const auto size = static_cast<int64_t>(model_.tensors.size());
  std::vector<TensorIndex> out;
  for (const TensorRun& run : transfer.params.tensors) {
    const int64_t last =
        run.first + int64_t{run.step} * (int64_t{run.count} - 1);
    if (run.count < 1 || run.step < 1 || run.first < 0 || last >= size) {
      return PlanFault(
          transfer,
          absl::StrCat("tensor run ", run.first, "+", run.count, "*", run.step,
                       " of ", size, " tensors is empty or out of range"));
    }
    for (int32_t k = 0; k < run.count; ++k) {
      out.emplace_back(run.first + k * run.step);
    }
  }
  if (out.empty()) return PlanFault(transfer, "moves no tensor");
  std::sort(out.begin(), out.end());
  const auto twice = std::adjacent_find(out.begin(), out.end());
  if (twice != out.end()) {
    return PlanFault(transfer,
                     absl::StrCat("moves tensor \"", model_.tensor(*twice).name,
                                  "\" twice"));
  }
  return out;
}

const TensorSets::Placed& TensorSets::PlacedIn(Id id, size_t placement,
                                               const HeldGeometry& held) {
  Set& set = sets_[static_cast<size_t>(id)];
  if (placement >= set.placed.size()) set.placed.resize(placement + 1);
  Placed& placed = set.placed[placement];
  std::vector<Part>& parts = placed.parts;
  if (!parts.empty()) return placed;
  std::vector<std::pair<int32_t, int32_t>> places;  // class, position
  places.reserve(set.tensors.size());
  for (const TensorIndex tensor : set.tensors) {
    const HeldGeometry::Place place = held.PlaceOf(tensor);
    places.emplace_back(place.tensor_class, place.position);
  }
  std::sort(places.begin(), places.end());
  for (const auto& [tensor_class, position] : places) {
    if (parts.empty() || parts.back().tensor_class != tensor_class ||
        parts.back().end != position) {
      parts.push_back({tensor_class, position, position});
    }
    parts.back().end = position + 1;
  }
  placed.held_as = CommonType(parts, held);
  return placed;
}

bool TensorSets::Within(Id a, Id b) {
  if (a == b) return true;
  const auto [it, inserted] = within_.try_emplace({a, b}, false);
  if (inserted) {
    const absl::Span<const TensorIndex> inner = Tensors(a);
    const absl::Span<const TensorIndex> outer = Tensors(b);
    it->second =
        std::includes(outer.begin(), outer.end(), inner.begin(), inner.end());
  }
  return it->second;
}

}  // namespace sluice::coordinator
