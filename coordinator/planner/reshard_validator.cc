// ValidateReshard: proves a parameter plan from every agent's own views.

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "common/layout.h"
#include "common/status_macros.h"
#include "coordinator/planner/planners.h"
#include "coordinator/planner/validator_checks.h"
#include "coordinator/planner/validator_geometry.h"

namespace sluice::coordinator {
namespace {

class ReshardValidator {
 public:
  ReshardValidator(const ReshardInput& input, const TransferPlan& plan)
      : input_(input), plan_(plan), model_(*input.model) {}

  absl::Status Run() {
    SLUICE_RETURN_IF_ERROR(CheckPlacements());
    SLUICE_RETURN_IF_ERROR(CheckTransferOrder(input_.topology, plan_));
    SLUICE_RETURN_IF_ERROR(ExpandPlacements());
    for (const Transfer& transfer : plan_.transfers) {
      SLUICE_RETURN_IF_ERROR(CheckBundle(transfer));
      SLUICE_RETURN_IF_ERROR(transfer.reads_after ? CheckRelayed(transfer)
                                                  : CheckHeld(transfer));
    }
    SLUICE_RETURN_IF_ERROR(CheckDestinations());
    return CheckCertificate(input_.topology, plan_);
  }

 private:
  const std::string& NameOfTensor(TensorIndex tensor) const {
    return model_.tensor(tensor).name;
  }
  std::string Where(TensorIndex tensor, const Box& box) const {
    return absl::StrCat("tensor \"", NameOfTensor(tensor), "\" box ",
                        box.ToString());
  }

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

  absl::Status ExpandPlacements() {
    SLUICE_ASSIGN_OR_RETURN(HeldGeometry source,
                            HeldGeometry::Create(model_, input_.source));
    source_ = std::make_unique<HeldGeometry>(std::move(source));
    for (const PlacementGeometry& destination : input_.destinations) {
      SLUICE_ASSIGN_OR_RETURN(HeldGeometry held,
                              HeldGeometry::Create(model_, destination));
      destinations_.push_back(std::move(held));
    }
    return absl::OkStatus();
  }

  // --- one transfer ---------------------------------------------------------

  absl::Status CheckRuns(const Transfer& transfer) const {
    int64_t last = -1;
    for (const TensorRun& run : transfer.params.tensors) {
      const int64_t end =
          run.first + int64_t{run.step} * (int64_t{run.count} - 1);
      if (run.count < 1 || run.step < 1 || run.first <= last ||
          end >= static_cast<int64_t>(model_.tensors.size())) {
        return PlanFault(
            transfer,
            absl::StrCat("tensor run ", run.first, "+", run.count, "*",
                         run.step, " of ", model_.tensors.size(),
                         " tensors is not ascending or out of range"));
      }
      last = end;
    }
    if (transfer.params.tensors.empty()) {
      return PlanFault(transfer, "moves no tensor");
    }
    return absl::OkStatus();
  }

  absl::Status CheckBundle(const Transfer& transfer) const {
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
    SLUICE_RETURN_IF_ERROR(CheckRuns(transfer));
    const Box& box = transfer.params.box;
    const std::vector<TensorIndex> tensors =
        ExpandTensors(transfer.params.tensors);
    const TensorSpec& first = model_.tensor(tensors[0]);
    if (!box.FitsIn(first.shape) || box.empty()) {
      return PlanFault(transfer, absl::StrCat(Where(tensors[0], box),
                                              ": empty or not inside"));
    }
    for (const TensorIndex tensor : tensors) {
      const TensorSpec& spec = model_.tensor(tensor);
      if (spec.shape != first.shape || spec.dtype != first.dtype) {
        return PlanFault(transfer,
                         absl::StrCat("tensors \"", first.name, "\" and \"",
                                      spec.name, "\" differ in shape or type"));
      }
    }
    const int64_t bytes = box.num_elements() * ByteSize(first.dtype) *
                          static_cast<int64_t>(tensors.size());
    if (bytes != transfer.bytes) {
      return PlanFault(
          transfer, absl::StrCat(transfer.bytes, " bytes: expected ", bytes));
    }
    return absl::OkStatus();
  }

  // The source holds the box of every tensor in a replica that may be read.
  absl::Status CheckHeld(const Transfer& transfer) {
    const int64_t index = source_->MeshIndexOf(transfer.source);
    if (index < 0) {
      return PlanFault(transfer, absl::StrCat("rank ", transfer.source.value(),
                                              " is not in placement \"",
                                              input_.source.name, "\""));
    }
    const int64_t replica =
        ReplicaOf(*input_.source.layout, input_.source.mesh, index);
    if (std::find(input_.source_replicas.begin(), input_.source_replicas.end(),
                  replica) == input_.source_replicas.end()) {
      return PlanFault(transfer, absl::StrCat("reads replica ", replica,
                                              ", which lacks the version"));
    }
    absl::flat_hash_set<int32_t> seen;
    for (const TensorIndex tensor : ExpandTensors(transfer.params.tensors)) {
      const int32_t way = source_->WayOf(index, tensor);
      if (!seen.insert(way).second) continue;
      if (const auto hole =
              FindUncovered(transfer.params.box, source_->BoxesOf(way))) {
        return PlanFault(transfer,
                         absl::StrCat(Where(tensor, *hole), ": rank ",
                                      transfer.source.value(),
                                      " does not hold it at the start"));
      }
    }
    return absl::OkStatus();
  }

  // The earlier transfer delivered at least this box of each of the tensors, to
  // the same placement.
  absl::Status CheckRelayed(const Transfer& transfer) const {
    const Transfer& before = plan_.transfers[*transfer.reads_after];
    const std::vector<TensorIndex> tensors =
        ExpandTensors(transfer.params.tensors);
    const std::vector<TensorIndex> delivered =
        ExpandTensors(before.params.tensors);
    const auto missing =
        std::find_if(tensors.begin(), tensors.end(), [&](TensorIndex tensor) {
          return !std::binary_search(delivered.begin(), delivered.end(),
                                     tensor);
        });
    if (missing != tensors.end() ||
        before.destination_placement != transfer.destination_placement ||
        !before.params.box.Contains(transfer.params.box)) {
      return PlanFault(
          transfer,
          absl::StrCat(Where(missing == tensors.end() ? tensors[0] : *missing,
                             transfer.params.box),
                       ": not part of what ", NameOf(before),
                       " delivered to rank ", transfer.source.value()));
    }
    return absl::OkStatus();
  }

  // --- what arrives ---------------------------------------------------------

  absl::Status CheckDestinations() {
    for (size_t p = 0; p < destinations_.size(); ++p) {
      const Mesh& mesh = input_.destinations[p].mesh;
      std::vector<std::vector<uint32_t>> arriving(mesh.ranks.size());
      for (const Transfer& transfer : plan_.transfers) {
        if (static_cast<size_t>(transfer.destination_placement) != p) continue;
        const int64_t index =
            destinations_[p].MeshIndexOf(transfer.destination);
        if (index < 0) {
          return PlanFault(transfer,
                           absl::StrCat("rank ", transfer.destination.value(),
                                        " is not in placement \"",
                                        input_.destinations[p].name, "\""));
        }
        arriving[static_cast<size_t>(index)].push_back(transfer.id);
      }
      checked_.clear();  // ways are numbered per placement
      for (size_t i = 0; i < mesh.ranks.size(); ++i) {
        SLUICE_RETURN_IF_ERROR(CheckAgent(destinations_[p],
                                          static_cast<int64_t>(i),
                                          mesh.ranks[i], arriving[i]));
      }
    }
    return absl::OkStatus();
  }

  // Every element of every view of one agent arrives exactly once.
  absl::Status CheckAgent(const HeldGeometry& held, int64_t index, Rank rank,
                          const std::vector<uint32_t>& arriving) {
    std::vector<std::pair<int32_t, uint32_t>> by_tensor;
    for (const uint32_t id : arriving) {
      for (const TensorIndex tensor :
           ExpandTensors(plan_.transfers[id].params.tensors)) {
        by_tensor.emplace_back(tensor.value(), id);
      }
    }
    std::sort(by_tensor.begin(), by_tensor.end());
    size_t next = 0;
    for (size_t t = 0; t < model_.tensors.size(); ++t) {
      const TensorIndex tensor(static_cast<int32_t>(t));
      std::pair<int32_t, std::vector<uint32_t>> key;
      key.first = held.WayOf(index, tensor);
      for (; next < by_tensor.size() && by_tensor[next].first == tensor.value();
           ++next) {
        key.second.push_back(by_tensor[next].second);
      }
      // Tensors held alike and brought by the same transfers need one proof.
      if (checked_.contains(key)) continue;
      SLUICE_RETURN_IF_ERROR(
          CheckTensor(held.BoxesOf(key.first), key.second, tensor, rank));
      checked_.insert(std::move(key));
    }
    return absl::OkStatus();
  }

  absl::Status CheckTensor(absl::Span<const Box> wanted,
                           const std::vector<uint32_t>& ids, TensorIndex tensor,
                           Rank rank) const {
    std::vector<Box> delivered;
    int64_t volume = 0;
    for (const uint32_t id : ids) {
      const Transfer& transfer = plan_.transfers[id];
      const Box& box = transfer.params.box;
      if (const auto outside = FindUncovered(box, wanted)) {
        return PlanFault(transfer,
                         absl::StrCat(Where(tensor, *outside), ": rank ",
                                      rank.value(), " has no view of it"));
      }
      delivered.push_back(box);
      volume += box.num_elements();
    }
    if (const auto common = FindCommon(delivered)) {
      const auto [a, b] = *common;
      return PlanFault(
          plan_.transfers[ids[b]],
          absl::StrCat(Where(tensor, *delivered[a].Intersect(delivered[b])),
                       ": written to rank ", rank.value(), " also by ",
                       NameOf(plan_.transfers[ids[a]])));
    }
    int64_t needed = 0;
    for (const Box& box : wanted) needed += box.num_elements();
    if (volume == needed) return absl::OkStatus();
    for (const Box& box : wanted) {
      if (const auto hole = FindUncovered(box, delivered)) {
        return absl::InternalError(
            absl::StrCat(Where(tensor, *hole), ": rank ", rank.value(),
                         " wants it and no transfer brings it"));
      }
    }
    return absl::InternalError(
        absl::StrCat("tensor \"", NameOfTensor(tensor), "\": ", volume, " of ",
                     needed, " elements reach rank ", rank.value()));
  }

  const ReshardInput& input_;
  const TransferPlan& plan_;
  const ModelSpec& model_;
  std::unique_ptr<HeldGeometry> source_;
  std::vector<HeldGeometry> destinations_;
  // (way of the destination, transfers that bring it) already proved.
  absl::flat_hash_set<std::pair<int32_t, std::vector<uint32_t>>> checked_;
};

}  // namespace

absl::Status ValidateReshard(const ReshardInput& input,
                             const TransferPlan& plan) {
  return ReshardValidator(input, plan).Run();
}

}  // namespace sluice::coordinator
