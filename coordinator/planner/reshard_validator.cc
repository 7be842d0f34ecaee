// ValidateReshard: proves a parameter plan from what every agent holds. Tensors
// that are held alike and arrive by the same transfers need one proof; a
// delivery of one tensor is never looked at by itself.

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/dtype.h"
#include "common/layout.h"
#include "common/status_macros.h"
#include "coordinator/planner/arrivals.h"
#include "coordinator/planner/held_geometry.h"
#include "coordinator/planner/planners.h"
#include "coordinator/planner/tensor_sets.h"
#include "coordinator/planner/validator_checks.h"
#include "coordinator/planner/validator_geometry.h"

namespace sluice::coordinator {
namespace {

// The validator's own table of conversions: types on neighbouring steps, or one
// apart, are converted, to the lower one for the wire.
int StepOf(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return 3;
    case DType::kF32:
      return 2;
    case DType::kF16:
    case DType::kBF16:
      return 1;
    case DType::kF8E4M3:
      return 0;
    default:
      return -1;
  }
}

// The type in which parameters cross; kUnspecified if they cannot.
DType CrossesAs(DType from, DType to) {
  if (from == to) return to;
  const int source = StepOf(from);
  const int destination = StepOf(to);
  if (source < 0 || destination < 0 || std::abs(source - destination) > 2) {
    return DType::kUnspecified;
  }
  return destination <= source ? to : from;
}

class ReshardValidator {
 public:
  ReshardValidator(const ReshardInput& input, const TransferPlan& plan)
      : input_(input),
        plan_(plan),
        model_(*input.model),
        tensor_sets_(model_) {}

  absl::Status Run() {
    SLUICE_RETURN_IF_ERROR(CheckPlacements());
    SLUICE_RETURN_IF_ERROR(CheckTransferOrder(input_.topology, plan_));
    SLUICE_RETURN_IF_ERROR(LookAtPlacements());
    for (const Transfer& transfer : plan_.transfers) {
      SLUICE_RETURN_IF_ERROR(CheckBundle(transfer));
    }
    for (const Transfer& transfer : plan_.transfers) {
      SLUICE_RETURN_IF_ERROR(transfer.reads_after ? CheckRelayed(transfer)
                                                  : CheckHeld(transfer));
    }
    for (size_t p = 0; p < input_.destinations.size(); ++p) {
      SLUICE_RETURN_IF_ERROR(CheckDestination(p));
    }
    return CheckCertificate(input_.topology, plan_);
  }

 private:
  // What a plan reads and what it writes is different memory only if they are
  // different placements.
  absl::Status CheckPlacements() const {
    std::vector<std::string> names = {input_.source.name};
    for (const PlacementGeometry& destination : input_.destinations) {
      if (std::find(names.begin(), names.end(), destination.name) !=
          names.end()) {
        return absl::InternalError(
            absl::StrCat("placement \"", destination.name,
                         "\" is read and written, or written twice"));
      }
      names.push_back(destination.name);
    }
    return absl::OkStatus();
  }

  // Geometry 0 is the source's, 1 + p that of destination p.
  absl::Status LookAtPlacements() {
    SLUICE_ASSIGN_OR_RETURN(HeldGeometry source,
                            HeldGeometry::Create(model_, input_.source));
    held_.push_back(std::move(source));
    for (const PlacementGeometry& destination : input_.destinations) {
      SLUICE_ASSIGN_OR_RETURN(HeldGeometry held,
                              HeldGeometry::Create(model_, destination));
      held_.push_back(std::move(held));
    }
    const Mesh& mesh = input_.source.mesh;
    for (int64_t i = 0; i < mesh.size(); ++i) {
      replica_of_.push_back(ReplicaOf(*input_.source.layout, mesh, i));
    }
    return absl::OkStatus();
  }

  // --- one transfer ---------------------------------------------------------

  absl::Status CheckBundle(const Transfer& transfer) {
    if (!transfer.samples.empty() || !plan_.entries.empty()) {
      return PlanFault(transfer, "a plan of parameters names samples");
    }
    if (transfer.destination_placement < 0 ||
        static_cast<size_t>(transfer.destination_placement) >=
            input_.destinations.size()) {
      return PlanFault(transfer, absl::StrCat("destination placement ",
                                              transfer.destination_placement));
    }
    const bool local = transfer.source == transfer.destination;
    if ((transfer.kind == TransferKind::kLocalCopy) != local ||
        transfer.kind == TransferKind::kUnspecified) {
      return PlanFault(transfer,
                       absl::StrCat("kind ", static_cast<int>(transfer.kind)));
    }
    SLUICE_ASSIGN_OR_RETURN(const TensorSets::Id set,
                            tensor_sets_.Add(transfer));
    set_of_transfer_.push_back(set);
    const absl::Span<const TensorIndex> tensors = tensor_sets_.Tensors(set);
    const Box& box = transfer.params.box;
    const TensorSpec& first = model_.tensor(tensors[0]);
    if (!box.FitsIn(first.shape) || box.empty()) {
      return PlanFault(transfer, absl::StrCat(Where(model_, tensors[0], box),
                                              ": empty or not inside"));
    }
    SLUICE_RETURN_IF_ERROR(CheckWire(transfer, set));
    int64_t bytes = 0;
    if (__builtin_mul_overflow(
            box.num_elements() * ByteSize(transfer.wire_dtype),
            std::ssize(tensors), &bytes) ||
        bytes != transfer.bytes) {
      return PlanFault(
          transfer, absl::StrCat(transfer.bytes, " bytes: expected ", bytes));
    }
    return absl::OkStatus();
  }

  // All tensors cross in the one type that follows from what both sides hold.
  absl::Status CheckWire(const Transfer& transfer, TensorSets::Id set) {
    const auto p = static_cast<size_t>(transfer.destination_placement);
    const DType from = tensor_sets_.HeldAs(set, 0, held_[0]);
    const DType to = tensor_sets_.HeldAs(set, p + 1, held_[p + 1]);
    const DType expected = CrossesAs(from, to);
    if (expected != DType::kUnspecified && transfer.wire_dtype == expected) {
      return absl::OkStatus();
    }
    return PlanFault(
        transfer,
        absl::StrCat(
            "tensor \"", model_.tensor(tensor_sets_.Tensors(set)[0]).name,
            "\" crosses as ", DTypeName(transfer.wire_dtype), ": expected ",
            DTypeName(expected), ", placement \"", input_.source.name,
            "\" has its tensors as ", DTypeName(from), " and placement \"",
            input_.destinations[p].name, "\" as ", DTypeName(to)));
  }

  // The source holds the box of every tensor in a replica that may be read.
  absl::Status CheckHeld(const Transfer& transfer) {
    const HeldGeometry& source = held_[0];
    const int64_t index = source.MeshIndexOf(transfer.source);
    if (index < 0) {
      return PlanFault(transfer, absl::StrCat("rank ", transfer.source.value(),
                                              " is not in placement \"",
                                              input_.source.name, "\""));
    }
    const int64_t replica = replica_of_[static_cast<size_t>(index)];
    if (std::find(input_.source_replicas.begin(), input_.source_replicas.end(),
                  replica) == input_.source_replicas.end()) {
      return PlanFault(transfer, absl::StrCat("reads replica ", replica,
                                              ", which lacks the version"));
    }
    int32_t last = -2;
    for (const TensorSets::Part& part : tensor_sets_.PartsIn(
             set_of_transfer_[transfer.id], /*placement=*/0, source)) {
      if (part.tensor_class == last) continue;
      last = part.tensor_class;
      absl::Span<const Box> held;
      if (last >= 0) held = source.BoxesOf(last, index);
      const auto hole = FindUncovered(transfer.params.box, held);
      if (!hole) continue;
      const TensorIndex tensor =
          last < 0 ? tensor_sets_.Tensors(set_of_transfer_[transfer.id])[0]
                   : source.TensorsOf(last)[static_cast<size_t>(part.begin)];
      return PlanFault(transfer,
                       absl::StrCat(Where(model_, tensor, *hole), ": rank ",
                                    transfer.source.value(),
                                    " does not hold it at the start"));
    }
    return absl::OkStatus();
  }

  // The earlier transfer delivered at least this box of each of the tensors, to
  // the same placement; as it crossed there, it crosses here.
  absl::Status CheckRelayed(const Transfer& transfer) {
    const Transfer& before = plan_.transfers[*transfer.reads_after];
    const TensorSets::Id set = set_of_transfer_[transfer.id];
    if (before.destination_placement == transfer.destination_placement &&
        before.wire_dtype == transfer.wire_dtype &&
        before.params.box.Contains(transfer.params.box) &&
        tensor_sets_.Within(set, set_of_transfer_[before.id])) {
      return absl::OkStatus();
    }
    return PlanFault(
        transfer,
        absl::StrCat(
            Where(model_, tensor_sets_.Tensors(set)[0], transfer.params.box),
            ", or another of its tensors: not part of what ", NameOf(before),
            " delivered to rank ", transfer.source.value()));
  }

  // --- what arrives ---------------------------------------------------------

  absl::Status CheckDestination(size_t p) {
    const HeldGeometry& held = held_[p + 1];
    const Mesh& mesh = input_.destinations[p].mesh;
    std::vector<std::vector<uint32_t>> arriving(mesh.ranks.size());
    for (const Transfer& transfer : plan_.transfers) {
      if (static_cast<size_t>(transfer.destination_placement) != p) continue;
      const int64_t index = held.MeshIndexOf(transfer.destination);
      if (index < 0) {
        return PlanFault(transfer,
                         absl::StrCat("rank ", transfer.destination.value(),
                                      " is not in placement \"",
                                      input_.destinations[p].name, "\""));
      }
      arriving[static_cast<size_t>(index)].push_back(transfer.id);
    }
    for (size_t i = 0; i < mesh.ranks.size(); ++i) {
      std::vector<Arrival> arrivals;
      for (const uint32_t id : arriving[i]) {
        for (const TensorSets::Part& part :
             tensor_sets_.PartsIn(set_of_transfer_[id], p + 1, held)) {
          arrivals.push_back({part, &plan_.transfers[id]});
        }
      }
      SLUICE_RETURN_IF_ERROR(CheckArrivals(
          model_, held, static_cast<int64_t>(i), mesh.ranks[i], arrivals));
    }
    return absl::OkStatus();
  }

  const ReshardInput& input_;
  const TransferPlan& plan_;
  const ModelSpec& model_;
  TensorSets tensor_sets_;
  std::vector<HeldGeometry> held_;
  std::vector<int64_t> replica_of_;              // by mesh index of the source
  std::vector<TensorSets::Id> set_of_transfer_;  // by transfer's id
};

}  // namespace

absl::Status ValidateReshard(const ReshardInput& input,
                             const TransferPlan& plan) {
  return ReshardValidator(input, plan).Run();
}

}  // namespace sluice::coordinator
