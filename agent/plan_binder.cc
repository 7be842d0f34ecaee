#include "agent/plan_binder.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/copy/digest.h"
#include "agent/piece_cutter.h"
#include "common/dtype.h"
#include "common/plan.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// Binds one part; lives for one BindPlan.
class PlanBinder {
 public:
  PlanBinder(const PrepareExecution& prepare, Rank self,
             const BufferRegistry& buffers)
      : prepare_(prepare),
        part_(*prepare.part),
        self_(self),
        buffers_(buffers) {}

  absl::StatusOr<ExecutionRequest> Bind();

 private:
  absl::Status PlacePlacements();
  absl::Status PlaceSamples();
  absl::StatusOr<BoundPlace> PlaceSample(const SamplePlace& place) const;
  absl::StatusOr<PlacedContent> Place(const BoundPlacement& bound) const;
  absl::StatusOr<BoundTransfer> BindTransfer(const Transfer& transfer);
  absl::Status BindParams(const Transfer& transfer, BoundTransfer& out);
  absl::Status BindSamples(const Transfer& transfer, BoundTransfer& out);
  absl::StatusOr<const PlacedContent*> SourceOf(const Transfer& transfer) const;
  absl::StatusOr<const PlacedContent*> DestinationOf(
      const Transfer& transfer) const;
  absl::StatusOr<const ModelSpec*> Spec() const;

  absl::Status Bad(const Transfer& transfer, absl::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat("operation ", prepare_.operation.value(), ", transfer ",
                     transfer.id, ": ", what));
  }

  const PrepareExecution& prepare_;
  const PlanPart& part_;
  const Rank self_;
  const BufferRegistry& buffers_;
  std::optional<PlacedContent> source_;
  std::vector<std::optional<PlacedContent>> destinations_;
  // One per entry: where it is read, where it is written.
  std::vector<BoundPlace> samples_, landings_;
  int64_t num_pieces_ = 0;
};

absl::StatusOr<PlacedContent> PlanBinder::Place(
    const BoundPlacement& bound) const {
  PlacedContent out;
  out.name =
      absl::StrCat("\"", bound.ref.model, "/", bound.ref.placement, "\"");
  out.layout = bound.layout.get();
  out.offset_bytes = bound.offset_bytes;
  // A rank may hold nothing of a placement, and has no buffer then.
  if (bound.layout->buffer_bytes == 0) return out;
  SLUICE_ASSIGN_OR_RETURN(out.memory, buffers_.Get(bound.buffer));
  if (bound.offset_bytes < 0 ||
      bound.layout->buffer_bytes > out.memory->size() - bound.offset_bytes) {
    return absl::FailedPreconditionError(absl::StrCat(
        "placement ", out.name, " needs ", bound.layout->buffer_bytes,
        " bytes from byte ", bound.offset_bytes, " on: buffer ",
        bound.buffer.value(), " has ", out.memory->size()));
  }
  return out;
}

absl::Status PlanBinder::PlacePlacements() {
  if (prepare_.source.has_value()) {
    SLUICE_ASSIGN_OR_RETURN(source_, Place(*prepare_.source));
  }
  for (const std::optional<BoundPlacement>& bound : prepare_.destinations) {
    std::optional<PlacedContent>& placed = destinations_.emplace_back();
    if (!bound.has_value()) continue;
    SLUICE_ASSIGN_OR_RETURN(placed, Place(*bound));
  }
  return absl::OkStatus();
}

absl::Status PlanBinder::PlaceSamples() {
  if (prepare_.samples.size() != part_.entries.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "operation ", prepare_.operation.value(), ": ", prepare_.samples.size(),
        " places for ", part_.entries.size(), " sample entries"));
  }
  for (size_t i = 0; i < prepare_.samples.size(); ++i) {
    SLUICE_ASSIGN_OR_RETURN(BoundPlace at, PlaceSample(prepare_.samples[i]));
    samples_.push_back(at);
    // What is held already may be delivered once more, to a place of its own.
    if (i < prepare_.landings.size() && prepare_.landings[i].has_value()) {
      SLUICE_ASSIGN_OR_RETURN(at, PlaceSample(*prepare_.landings[i]));
    }
    landings_.push_back(std::move(at));
  }
  return absl::OkStatus();
}

absl::StatusOr<BoundPlace> PlanBinder::PlaceSample(
    const SamplePlace& place) const {
  BoundPlace bound;
  bound.offset_bytes = place.offset_bytes;
  bound.strides_bytes = {1};
  const int64_t bytes = place.entry.num_bytes();
  if (bytes == 0) return bound;
  SLUICE_ASSIGN_OR_RETURN(bound.memory, buffers_.Get(place.buffer));
  if (place.offset_bytes < 0 ||
      bytes > bound.memory->size() - place.offset_bytes) {
    return absl::FailedPreconditionError(absl::StrCat(
        "sample \"", place.entry.sample_id, "/", place.entry.key, "\": byte ",
        place.offset_bytes, " with ", bytes, " bytes lies outside buffer ",
        place.buffer.value(), " of ", bound.memory->size()));
  }
  return bound;
}

absl::StatusOr<const ModelSpec*> PlanBinder::Spec() const {
  if (prepare_.source.has_value()) return prepare_.source->spec.get();
  for (const std::optional<BoundPlacement>& bound : prepare_.destinations) {
    if (bound.has_value()) return bound->spec.get();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("operation ", prepare_.operation.value(),
                   ": moves parameters of no placement of this agent"));
}

absl::StatusOr<const PlacedContent*> PlanBinder::DestinationOf(
    const Transfer& transfer) const {
  const auto index = static_cast<size_t>(transfer.destination_placement);
  if (index >= destinations_.size() || !destinations_[index].has_value()) {
    return Bad(transfer, absl::StrCat("destination placement ",
                                      transfer.destination_placement,
                                      " is not on this agent"));
  }
  return &*destinations_[index];
}

absl::StatusOr<const PlacedContent*> PlanBinder::SourceOf(
    const Transfer& transfer) const {
  if (!transfer.reads_after.has_value()) {
    if (source_.has_value()) return &*source_;
    return Bad(transfer, "reads the source placement, not on this agent");
  }
  // A relay reads what the earlier transfer writes here. Transfers are sorted
  // by round, not by id.
  const auto it = std::find_if(
      part_.transfers.begin(), part_.transfers.end(),
      [&](const Transfer& other) { return other.id == *transfer.reads_after; });
  if (it == part_.transfers.end() || it->destination != self_ ||
      it->round >= transfer.round) {
    return Bad(transfer,
               absl::StrCat("reads after transfer ", *transfer.reads_after,
                            ", which delivers nothing here before"));
  }
  return DestinationOf(*it);
}

absl::Status PlanBinder::BindParams(const Transfer& transfer,
                                    BoundTransfer& out) {
  SLUICE_ASSIGN_OR_RETURN(const ModelSpec* spec, Spec());
  const PlacedContent* source = nullptr;
  const PlacedContent* destination = nullptr;
  if (transfer.source == self_) {
    SLUICE_ASSIGN_OR_RETURN(source, SourceOf(transfer));
  }
  if (transfer.destination == self_) {
    SLUICE_ASSIGN_OR_RETURN(destination, DestinationOf(transfer));
  }
  if (transfer.wire_dtype == DType::kUnspecified) {
    return Bad(transfer, "no element type in which its parameters cross");
  }
  PieceCutter cutter(source, destination, out.pieces);
  const auto num_tensors = static_cast<int64_t>(spec->tensors.size());
  for (const TensorRun& run : transfer.params.tensors) {
    // Checked before it is expanded: counts come from the wire.
    if (run.count < 1 || run.step < 1 || run.first < 0 ||
        run.first + (int64_t{run.count} - 1) * run.step >= num_tensors) {
      return Bad(transfer,
                 absl::StrCat("tensors ", run.first, " + ", run.count, " x ",
                              run.step, ": the model has ", num_tensors));
    }
    for (int32_t i = 0; i < run.count; ++i) {
      const TensorIndex index(run.first + i * run.step);
      const TensorSpec& tensor = spec->tensor(index);
      if (!transfer.params.box.FitsIn(tensor.shape)) {
        return Bad(transfer,
                   absl::StrCat("box ", transfer.params.box.ToString(),
                                " lies outside tensor \"", tensor.name, "\""));
      }
      SLUICE_RETURN_IF_ERROR(cutter.Cut(index, tensor, transfer.wire_dtype,
                                        transfer.params.box,
                                        kMaxPieces - num_pieces_));
    }
  }
  return absl::OkStatus();
}

absl::Status PlanBinder::BindSamples(const Transfer& transfer,
                                     BoundTransfer& out) {
  for (const uint32_t index : transfer.samples) {
    if (index >= part_.entries.size()) {
      return Bad(transfer, absl::StrCat("sample entry ", index, " of ",
                                        part_.entries.size()));
    }
    const SampleEntry& entry = part_.entries[index];
    const int64_t bytes = entry.num_bytes();
    if (bytes == 0) continue;
    BoundPiece& piece = out.pieces.emplace_back();
    piece.tensor = absl::StrCat(entry.sample_id, "/", entry.key);
    piece.mix = MixTensor(piece.tensor);
    piece.dtype = DType::kU8;
    piece.shape = {bytes};
    piece.box = Box::Whole(piece.shape);
    if (transfer.source == self_) piece.source = samples_[index];
    if (transfer.destination == self_) {
      piece.destinations.push_back(landings_[index]);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<BoundTransfer> PlanBinder::BindTransfer(
    const Transfer& transfer) {
  if (transfer.source != self_ && transfer.destination != self_) {
    return Bad(transfer, absl::StrCat("from rank ", transfer.source.value(),
                                      " to ", transfer.destination.value(),
                                      " in the part of rank ", self_.value()));
  }
  BoundTransfer out;
  out.id = transfer.id;
  out.round = transfer.round;
  out.link = transfer.link;
  out.source = transfer.source;
  out.destination = transfer.destination;
  out.reads_after = transfer.reads_after;
  out.bytes = transfer.bytes;
  if (transfer.samples.empty()) {
    SLUICE_RETURN_IF_ERROR(BindParams(transfer, out));
  } else {
    SLUICE_RETURN_IF_ERROR(BindSamples(transfer, out));
  }
  num_pieces_ += static_cast<int64_t>(out.pieces.size());
  int64_t bytes = 0;
  for (const BoundPiece& piece : out.pieces) {
    bytes += piece.box.num_elements() * ByteSize(piece.dtype);
  }
  if (bytes != transfer.bytes) {
    return Bad(transfer, absl::StrCat("says ", transfer.bytes,
                                      " bytes, its boxes have ", bytes));
  }
  return out;
}

absl::StatusOr<ExecutionRequest> PlanBinder::Bind() {
  SLUICE_RETURN_IF_ERROR(PlacePlacements());
  if (!part_.entries.empty()) SLUICE_RETURN_IF_ERROR(PlaceSamples());
  ExecutionRequest out;
  out.operation = prepare_.operation;
  out.self = self_;
  out.num_plan_transfers = part_.num_plan_transfers;
  out.digests = prepare_.digests;
  out.content_key = prepare_.content_key;
  out.staging_budget_bytes = prepare_.staging_bytes;
  out.group = prepare_.group;
  out.progress_timeout = prepare_.progress_timeout;
  out.transfers.reserve(part_.transfers.size());
  for (const Transfer& transfer : part_.transfers) {
    if (transfer.id >= part_.num_plan_transfers) {
      return Bad(transfer,
                 absl::StrCat("the plan has ", part_.num_plan_transfers,
                              " transfers"));
    }
    SLUICE_ASSIGN_OR_RETURN(BoundTransfer bound, BindTransfer(transfer));
    out.transfers.push_back(std::move(bound));
  }
  return out;
}

}  // namespace

absl::StatusOr<ExecutionRequest> BindPlan(const PrepareExecution& prepare,
                                          Rank self,
                                          const BufferRegistry& buffers) {
  if (prepare.part == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        "operation ", prepare.operation.value(), ": no part to bind"));
  }
  return PlanBinder(prepare, self, buffers).Bind();
}

}  // namespace sluice::agent
